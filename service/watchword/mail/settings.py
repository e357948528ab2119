"""How mail leaves the installation."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from watchword.mail.message import Mailbox, MessageRejected
from watchword.settings import Section


class SenderName(StrEnum):
    """What may stand in WATCHWORD_MAIL__SENDERS."""

    SMTP = "smtp"
    RESEND = "resend"
    CONSOLE = "console"
    FILE = "file"


# Tried in order until one takes the mail; the others are for development and get every mail.
PROVIDERS: Final = frozenset({SenderName.SMTP, SenderName.RESEND})


def _split(names: object) -> object:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else names


class MailSettings(Section):
    """Who mails are from, and which senders take them."""

    model_config = ConfigDict(populate_by_name=True)

    senders: Annotated[tuple[SenderName, ...], BeforeValidator(_split)] = Field(
        (), description="comma list in order; required by `serve`"
    )
    from_: str = Field(
        "Watchword <noreply@localhost>",
        alias="from",
        description="`Name <address>`; required by `smtp` and `resend`",
    )
    file_dir: Path | None = Field(None, description="folder of the sender `file`")
    allow_development_senders: bool = Field(
        False, description="allow the senders `console` and `file`, which show codes"
    )
    code_in_subject: bool = Field(True, description="whether the subject holds the code")

    @field_validator("senders")
    @classmethod
    def _check_repeated(cls, senders: tuple[SenderName, ...]) -> tuple[SenderName, ...]:
        if len(set(senders)) < len(senders):
            raise ValueError("must name each sender once")
        return senders

    @field_validator("from_")
    @classmethod
    def _check_from(cls, text: str) -> str:
        try:
            Mailbox.parse(text)
        except MessageRejected as error:
            raise ValueError(str(error).removeprefix("`sender` ")) from None
        return text

    @model_validator(mode="after")
    def _check_senders(self) -> Self:
        if set(self.senders) - PROVIDERS and not self.allow_development_senders:
            raise ValueError(
                "senders `console` and `file` show codes to whoever sees their output; "
                "set WATCHWORD_MAIL__ALLOW_DEVELOPMENT_SENDERS=true where that is meant"
            )
        if SenderName.FILE in self.senders and self.file_dir is None:
            raise ValueError("file_dir is required by the sender `file`")
        if PROVIDERS & set(self.senders) and "from_" not in self.model_fields_set:
            raise ValueError("from is required by the senders `smtp` and `resend`")
        return self
