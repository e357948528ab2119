"""Makes mails out of templates.

A template sees the values of its method here and nothing else. One that is missing, or that names
a value that isn't there, fails the start or the first test, never quietly in a mail.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape

from watchword.mail.locales import available, negotiate
from watchword.mail.message import Mailbox, Message

# With a code: to sign in, and to prove another address.
CodeKind = Literal["otp", "email_change"]
KINDS: Final = ("otp", "email_change", "email_changed")
PARTS: Final = ("subject.txt", "txt", "html")

LONG_CODE_LENGTH: Final = 13
# A long code as people type it; the one of digits is short enough as it is.
GROUPS: Final = (slice(0, 4), slice(4, 8), slice(8, 13))
# 6 to 10 digits or 13 characters of Crockford's base32, written without spaces or dashes.
_CODE: Final = re.compile(r"[0-9]{6,10}|[0-9A-HJKMNP-TV-Z]{13}")


class Renderer:
    """Writes the mails of one installation; templates are compiled once, when it is made."""

    def __init__(self, from_: str, code_in_subject: bool = True) -> None:
        """Takes `Name <address>`; the name is what mails call the service by.

        Without a name it is the domain. With `code_in_subject` off, the code shows in no
        notification: neither in the subject nor in the preview line. Raises MessageRejected.
        """
        self._sender = Mailbox.parse(from_)
        self._brand = self._sender.name or self._sender.address.rpartition("@")[2]
        self._code_in_subject = code_in_subject
        environment = Environment(
            loader=PackageLoader("watchword.mail", "templates"),
            # By the end of the file's name: ".html" escapes, ".txt" doesn't.
            autoescape=select_autoescape(("html",), default_for_string=True, default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        self._templates: dict[tuple[str, str, str], Template] = {
            (locale, kind, part): environment.get_template(f"{locale}/{kind}.{part}")
            for locale in available()
            for kind in KINDS
            for part in PARTS
        }

    def code_mail(
        self,
        kind: CodeKind,
        *,
        id: UUID,
        recipient: str,
        code: str,
        lifetime: timedelta,
        locale: str,
        date: datetime,
    ) -> Message:
        """A mail with a code; raises MessageRejected for an address not to be used.

        A locale without templates falls back as in `negotiate`: another replica, of a newer
        version, may have chosen it.
        """
        if not _CODE.fullmatch(code):
            raise ValueError("`code` has no accepted form\nhint: 6 to 10 digits or 13 of base32")
        amount, unit = _span(lifetime)
        values = {
            "code": code,
            # Typed in groups or not, and in any case: VerifyOtp ignores all of that.
            "grouped": "-".join(code[group] for group in GROUPS)
            if len(code) == LONG_CODE_LENGTH
            else None,
            "code_in_subject": self._code_in_subject,
            "amount": amount,
            "unit": unit,
        }
        return self._mail(kind, values, id=id, recipient=recipient, locale=locale, date=date)

    def email_changed_mail(
        self, *, id: UUID, recipient: str, locale: str, date: datetime
    ) -> Message:
        """The notice to an old address; raises MessageRejected for one not to be used."""
        return self._mail("email_changed", {}, id=id, recipient=recipient, locale=locale, date=date)

    def _mail(
        self,
        kind: str,
        values: Mapping[str, object],
        *,
        id: UUID,
        recipient: str,
        locale: str,
        date: datetime,
    ) -> Message:
        chosen = negotiate(locale, None, available())
        known = {"brand": self._brand, "locale": chosen, **values}
        subject, text, html = (self._templates[chosen, kind, part].render(known) for part in PARTS)
        return Message(
            id=id,
            sender=self._sender,
            recipient=recipient,
            subject=subject.removesuffix("\n"),
            text=text,
            html=html,
            locale=chosen,
            date=date,
        )


def _span(lifetime: timedelta) -> tuple[int, str]:
    """A lifetime as people say it: whole minutes where it is some, else seconds."""
    seconds = int(lifetime.total_seconds())
    if seconds < 1:
        raise ValueError("`lifetime` is under one second\nhint: pass the challenge's lifetime")
    return (seconds // 60, "minute") if seconds % 60 == 0 else (seconds, "second")
