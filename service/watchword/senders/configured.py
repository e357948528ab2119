"""The senders that the configuration names."""

from pathlib import Path
from typing import assert_never

from watchword.mail.ports import Sender
from watchword.mail.settings import PROVIDERS, MailSettings, SenderName
from watchword.senders.console import ConsoleSender
from watchword.senders.failover import FailOver
from watchword.senders.file import FileSender
from watchword.senders.resend import ResendSender, ResendSettings
from watchword.senders.smtp import SmtpSender, SmtpSettings


def configured_senders(
    mail: MailSettings, smtp: SmtpSettings, resend: ResendSettings
) -> list[Sender]:
    """Returns what each mail is given to: the development senders, then one of the providers.

    The providers come last: what fails before them costs nobody a second mail.
    """
    names = mail.senders
    made = [_sender(name, mail, smtp, resend) for name in names if name not in PROVIDERS]
    providers = [_sender(name, mail, smtp, resend) for name in names if name in PROVIDERS]
    return [*made, FailOver(providers)] if providers else made


def _sender(
    name: SenderName, mail: MailSettings, smtp: SmtpSettings, resend: ResendSettings
) -> Sender:
    match name:
        case SenderName.CONSOLE:
            return ConsoleSender()
        case SenderName.FILE:
            return FileSender(mail.file_dir or Path())
        case SenderName.SMTP:
            return SmtpSender(smtp.server(), allow_plaintext=smtp.allow_plaintext)
        case SenderName.RESEND:
            return ResendSender(resend.key(), base_url=resend.base_url, rate=resend.rate)
        case _:
            assert_never(name)
