"""The SMTP sender: RFC 5321 by aiosmtplib, with TLS that is verified wherever the network is left.

A connection a mail: codes are few and far between, and a kept connection that the server has closed
meanwhile would cost the first try. A certificate of one's own authority is made known by
`SSL_CERT_FILE`, as to every program that uses OpenSSL.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
from pydantic import Field, SecretStr, field_validator

from watchword.mail.message import Message, to_bytes
from watchword.mail.ports import SendFailed, SendRefused
from watchword.settings import Section, is_loopback

TIMEOUT_SECONDS: Final = 8.0  # for each command
QUIT_TIMEOUT_SECONDS: Final = 1.0
DEFAULT_PORTS: Final = {"smtp": 587, "smtps": 465}
# 4yz: try again later; 5yz: never as it is (RFC 5321 section 4.2.1).
PERMANENT_MIN: Final = 500
# RFC 4954 section 6: about our credentials, hence the operator's to mend, and worth waiting for.
CREDENTIALS: Final = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over, as WATCHWORD_SMTP__URL says."""

    scheme: Literal["smtp", "smtps"]
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `smtp://user:password@host:port` or `smtps://...`; ValueError shows no text."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("is no URL; write `smtp://user:password@host:port`") from None
        if parts.scheme not in DEFAULT_PORTS or not host or text.count("@") > 1 or port == 0:
            raise ValueError(
                "must be `smtp://user:password@host:port` or `smtps://...`, with `%40` for an `@` "
                "in the user or the password"
            )
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must end after the port; write `%2F`, `%3F`, `%23` in a password")
        if bool(parts.username) != bool(parts.password):
            raise ValueError("must have both a user and a password, or neither")
        return cls(
            scheme="smtps" if parts.scheme == "smtps" else "smtp",
            host=host,
            port=port or DEFAULT_PORTS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


class SmtpSettings(Section):
    """The server that the sender `smtp` hands mail to."""

    url: SecretStr | None = Field(
        None, description="`smtp://user:password@host:port` (STARTTLS) or `smtps://...` (TLS)"
    )
    allow_plaintext: bool = Field(
        False, description="hand mail to a server off loopback that offers no STARTTLS"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            SmtpServer.parse(url.get_secret_value())
        return url

    def server(self) -> SmtpServer:
        """Returns the server; the configuration has been checked to name one."""
        assert self.url is not None, "config.py requires it with the sender `smtp`"
        return SmtpServer.parse(self.url.get_secret_value())


class SmtpSender:
    """Hands each mail to one SMTP server.

    `smtps` is TLS from the start; `smtp` is STARTTLS, demanded off loopback unless plain text is
    allowed, and never without verifying the certificate. `tls` replaces the system's trust.
    """

    name: Final = "smtp"

    def __init__(
        self,
        server: SmtpServer,
        *,
        allow_plaintext: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Opens nothing yet."""
        self._server = server
        self._tls = tls or ssl.create_default_context()
        self._handing_over = asyncio.Lock()
        # None: STARTTLS where it is offered. Off loopback a server that does not offer it gets no
        # mail unless that is allowed: whoever is in the middle could hide the offer.
        self._start_tls: bool | None = None
        if server.scheme == "smtps":
            self._start_tls = False
        elif not (is_loopback(server.host) or allow_plaintext):
            self._start_tls = True

    async def close(self) -> None:
        """Has nothing open between two mails."""

    @asynccontextmanager
    async def send(self, message: Message) -> AsyncIterator[None]:
        """Sends one mail; raises SendFailed for what may pass, SendRefused for what will not.

        SMTP knows no repeated message, so one mail at a time is between the server's hands and the
        caller's note of it: a process that dies there sends one mail twice and no more.
        """
        client = self._client(message.sender.address.rpartition("@")[2])
        try:
            with self._errors_told():
                await client.connect()
                await client.mail(message.sender.address)
                await client.rcpt(message.recipient)
            async with self._handing_over:
                with self._errors_told():
                    await client.data(to_bytes(message))
                yield
            # Taken: whatever happens to the farewell, the mail must not be sent again.
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_TIMEOUT_SECONDS)
        finally:
            client.close()

    async def probe(self, *, domain: str) -> bool:
        """Connects, signs in and leaves without a mail; returns whether TLS was in use.

        `domain` is what we call ourselves. Raises SendFailed.
        """
        client = self._client(domain)
        try:
            with self._errors_told():
                await client.connect()
            encrypted = client.get_transport_info("ssl_object") is not None
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_TIMEOUT_SECONDS)
        finally:
            client.close()
        return encrypted

    def _client(self, domain: str) -> aiosmtplib.SMTP:
        server = self._server
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password,
            use_tls=server.scheme == "smtps",
            start_tls=self._start_tls,
            tls_context=self._tls,
            timeout=TIMEOUT_SECONDS,
            # The default is a look-up of this machine's name, which may hang and is nobody's.
            local_hostname=domain,
        )

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Turns the library's errors into ours: the kind alone, a server's words may quote us."""
        place = f"`{self._server.host}:{self._server.port}`"
        try:
            yield
        except aiosmtplib.SMTPRecipientRefused as error:
            raise _answer_error("the recipient", error.code) from None
        except aiosmtplib.SMTPDataError as error:
            raise _answer_error("the mail", error.code) from None
        except aiosmtplib.SMTPAuthenticationError as error:
            raise SendFailed(
                f"{place} refuses the login with code {error.code}\n"
                "hint: look at the user and the password in WATCHWORD_SMTP__URL"
            ) from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            code = f" {error.code}" if isinstance(error, aiosmtplib.SMTPResponseException) else ""
            raise SendFailed(
                f"{place} cannot be used: {type(error).__name__}{code}\n"
                "hint: look at WATCHWORD_SMTP__URL, whether the server can be reached and offers "
                "TLS or STARTTLS, at its certificate and at WATCHWORD_MAIL__FROM"
            ) from None


def _answer_error(what: str, code: int) -> SendFailed | SendRefused:
    """Tells by the code of an answer whether trying again can help."""
    words = f"{what} was refused with code {code}"
    if code >= PERMANENT_MIN and code not in CREDENTIALS:
        return SendRefused(words)
    return SendFailed(f"{words}\nhint: the server's log says why")
