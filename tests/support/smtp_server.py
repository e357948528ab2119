"""A real SMTP server on loopback that keeps what it takes and fails where a test tells it to."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USERNAME = "mailer"
PASSWORD = "Geheim:CANARY-4711/ü"  # what a URL has to write as %3A, %2F and %C3%BC


@dataclass(frozen=True)
class Taken:
    """A mail as it arrived."""

    sender: str
    recipients: list[str]
    content: bytes
    encrypted: bool


@dataclass
class SmtpServerDouble:
    """The server's port, what it has taken, and how it answers.

    `answers` maps `MAIL`, `RCPT` or `DATA` to another answer than 250; `hang` and `cut` name the
    command at which the server falls silent or closes the connection, `QUIT` among them.
    """

    taken: list[Taken] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    hang: str = ""
    cut: str = ""
    port: int = 0
    connections: int = 0
    _listener: asyncio.Server | None = None

    def stop(self) -> None:
        """Takes no further connection."""
        assert self._listener is not None
        self._listener.close()

    async def _answer(self, command: str, server: SMTP) -> str:
        if self.hang == command:
            await asyncio.Event().wait()
        if self.cut == command:
            assert server.transport is not None
            server.transport.close()
        return self.answers.get(command, "250 OK")

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Called by aiosmtpd."""
        envelope.mail_from = address
        return await self._answer("MAIL", server)

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Called by aiosmtpd."""
        envelope.rcpt_tos.append(address)
        return await self._answer("RCPT", server)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Called by aiosmtpd."""
        answer = await self._answer("DATA", server)
        if answer.startswith("250"):
            encrypted = server.transport.get_extra_info("ssl_object") is not None
            self.taken.append(
                Taken(envelope.mail_from, envelope.rcpt_tos, envelope.content, encrypted)
            )
        return answer

    async def handle_QUIT(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Called by aiosmtpd."""
        await self._answer("QUIT", server)
        return "221 Bye"


def _authenticate(
    server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any
) -> AuthResult:
    known = LoginPassword(USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=data == known, handled=False)


@asynccontextmanager
async def smtp_server(
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    auth: bool = False,
) -> AsyncIterator[SmtpServerDouble]:
    """Starts a server on a free port; with `auth` it takes mail only after the right password."""
    double = SmtpServerDouble()
    open_ones: list[SMTP] = []

    def connection() -> SMTP:
        double.connections += 1
        with warnings.catch_warnings():
            # A password without TLS: that is what some tests are about.
            warnings.filterwarnings("ignore", "Requiring AUTH", UserWarning)
            made = SMTP(
                double,
                hostname="mail.example",
                tls_context=starttls,
                require_starttls=starttls is not None,
                authenticator=_authenticate if auth else None,
                auth_required=auth,
                auth_require_tls=starttls is not None,
            )
        open_ones.append(made)
        return made

    listener = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, ssl=tls)
    double._listener = listener
    double.port = listener.sockets[0].getsockname()[1]
    try:
        yield double
    finally:
        listener.close()
        for one in open_ones:
            # CPython 3.11.2 fails where the peer has closed its TLS already.
            if one.transport is not None and not one.transport.is_closing():
                one.transport.abort()
        await asyncio.sleep(0)
