"""Checks of the senders; none of them sends a mail."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from watchword.config import Config
from watchword.doctor.findings import Finding, failure, ok, warning
from watchword.mail.message import Mailbox
from watchword.mail.ports import SendFailed, SendRefused
from watchword.mail.settings import SenderName
from watchword.senders.resend import ResendSender
from watchword.senders.smtp import SmtpSender
from watchword.settings import is_loopback


async def sender(name: SenderName, config: Config) -> Sequence[Finding]:
    """Whether this sender could take a mail."""
    match name:
        case SenderName.SMTP:
            return await _smtp(config)
        case SenderName.RESEND:
            return await _resend(config)
        case SenderName.FILE:
            return _file(config.mail.file_dir or Path())
        case SenderName.CONSOLE:
            return [
                warning(
                    "shows codes to whoever sees the output of `serve`",
                    "use `smtp` or `resend` where people sign in",
                )
            ]
        case _:
            assert_never(name)


async def _smtp(config: Config) -> Sequence[Finding]:
    server = config.smtp.server()
    place = f"`{server.host}:{server.port}`"
    smtp = SmtpSender(server, allow_plaintext=config.smtp.allow_plaintext)
    try:
        encrypted = await smtp.probe(domain=_domain(config))
    except SendFailed as error:
        return [_failed(error)]
    login = "the login was accepted" if server.username else "no login is configured"
    if encrypted:
        return [ok(f"{place} answers by TLS; {login}")]
    if is_loopback(server.host):
        return [ok(f"{place} answers on this machine, in plain text; {login}")]
    return [
        warning(
            f"{place} answers in plain text; {login}",
            "use a server with STARTTLS, or `smtps://`: mails hold codes",
        )
    ]


async def _resend(config: Config) -> Sequence[Finding]:
    resend = ResendSender(config.resend.key(), base_url=config.resend.base_url)
    domain = _domain(config)
    try:
        account = await resend.probe()
    except (SendFailed, SendRefused) as error:
        return [_failed(error)]
    finally:
        await resend.close()
    if account is None:
        return [
            ok(f"the key is accepted and may only send, so whether `{domain}` is verified is open")
        ]
    status = account.domains.get(domain)
    if status == "verified":
        return [ok(f"the key is accepted and `{domain}` is verified")]
    hint = (
        "look at resend.com/domains: the domain in `WATCHWORD_MAIL__FROM` must be there, verified"
    )
    if status is None and not account.is_whole:
        return [warning(f"`{domain}` is not among the first domains of the account", hint)]
    words = "is not a domain of the account" if status is None else f"is `{status}`, not verified"
    if status in {"partially_verified", "partially_failed", "temporary_failure"}:
        return [warning(f"`{domain}` {words}", hint)]
    return [failure(f"`{domain}` {words}", hint)]


def _file(folder: Path) -> Sequence[Finding]:
    # Not made here: it would belong to whoever asks, and `serve` may be another user.
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return [
            failure(
                "the folder of `WATCHWORD_MAIL__FILE_DIR` cannot be written",
                "name a folder that this user may write",
            )
        ]
    return [
        warning(
            "keeps codes in files, and nobody gets a mail",
            "use `smtp` or `resend` where people sign in",
        )
    ]


def _domain(config: Config) -> str:
    return Mailbox.parse(config.mail.from_).address.rpartition("@")[2]


def _failed(error: SendFailed | SendRefused) -> Finding:
    message, _, hint = str(error).partition("\nhint: ")
    return failure(message, hint or "try again later; the provider's status page may say more")
