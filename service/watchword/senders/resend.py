"""The Resend sender: one HTTP call a mail, the same mail at most once.

`Idempotency-Key` is the outbox id: Resend keeps it for 24 hours and answers a repeated call with
the first answer, so that a mail whose answer was lost is not sent twice.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from aiolimiter import AsyncLimiter
from pydantic import Field, SecretStr, field_validator

from watchword.mail.message import Message
from watchword.mail.ports import SendFailed, SendRefused
from watchword.settings import Section, is_loopback

DEFAULT_BASE_URL: Final = "https://api.resend.com"
TIMEOUT_SECONDS: Final = 8.0
RETRY_AFTER_DEFAULT: Final = timedelta(seconds=1)
RETRY_AFTER_MAX: Final = timedelta(minutes=5)
# Quotas of the account, 429 like the rate but not for soon: another sender has to take the mail.
QUOTAS: Final = frozenset({"daily_quota_exceeded", "monthly_quota_exceeded"})
QUOTA_PAUSE: Final = timedelta(minutes=5)
# The first call with the same key has not ended: the one 409 that passes.
IN_PROGRESS: Final = "concurrent_idempotent_requests"
# The key or the domain: the operator's to mend, and nobody waits for a code until then.
CONFIGURATION: Final = frozenset({401, 403})
KIND_CHARACTERS_MAX: Final = 64
# 401 for everything but sending: the key itself is right.
RESTRICTED_KEY: Final = "restricted_api_key"
DOMAINS_MAX: Final = 100


class ResendSettings(Section):
    """The account that the sender `resend` uses."""

    api_key: SecretStr | None = Field(None, description="Resend's key, `re_...`")
    base_url: str = Field(
        DEFAULT_BASE_URL, description="`https://...`, or `http://...` on loopback"
    )
    rate: float = Field(
        5.0,
        ge=1,
        le=1000,
        description="mails a second that this process hands over, evenly spaced; Resend allows a "
        "team 5 unless agreed otherwise, for all replicas together",
    )

    @field_validator("api_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        text = "" if key is None else key.get_secret_value()
        # It becomes a header.
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError("must be printable ASCII without spaces")
        return key

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("is no URL; write `https://host`") from None
        if not (url.isascii() and url.isprintable()) or " " in url or not host:
            raise ValueError("must be `https://host` or `https://host:port`")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must have no user, no query and no fragment")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
            raise ValueError("must begin with `https://`; `http://` is for loopback alone")
        return url

    def key(self) -> str:
        """Returns the key; the configuration has been checked to hold one."""
        assert self.api_key is not None, "config.py requires it with the sender `resend`"
        return self.api_key.get_secret_value()


@dataclass(frozen=True, slots=True)
class ResendAccount:
    """The status of each domain by its name; `is_whole` when no more are left."""

    domains: Mapping[str, str]
    is_whole: bool


class ResendSender:
    """Hands each mail to Resend, or to what speaks like it at `base_url`."""

    name: Final = "resend"

    def __init__(
        self, api_key: str, *, base_url: str = DEFAULT_BASE_URL, rate: float = 5.0
    ) -> None:
        """Opens nothing yet; `rate` is mails a second, one after the other and never in a burst."""
        self._rate = AsyncLimiter(1, 1 / rate)
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=TIMEOUT_SECONDS,
            # The environment's proxies are for the outside.
            trust_env=not is_loopback(urlsplit(base_url).hostname or ""),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def send(self, message: Message) -> AsyncIterator[None]:
        """Sends one mail; raises SendFailed for what may pass, SendRefused for what will not."""
        await self._rate.acquire()
        try:
            response = await self._client.post(
                "/emails", json=_body(message), headers={"Idempotency-Key": str(message.id)}
            )
        except httpx2.HTTPError as error:
            raise _silence(error) from None
        if not response.is_success:
            _raise_for(response)
        yield

    async def probe(self) -> "ResendAccount | None":
        """Asks for the account's domains; None when the key is right and may only send.

        Raises SendFailed or SendRefused.
        """
        try:
            response = await self._client.get("/domains", params={"limit": DOMAINS_MAX})
        except httpx2.HTTPError as error:
            raise _silence(error) from None
        if _kind(response) == RESTRICTED_KEY:
            return None
        if not response.is_success:
            _raise_for(response)
        try:
            body = response.json()
            domains = {str(one["name"]): str(one["status"]) for one in body["data"]}
        except (ValueError, LookupError, TypeError):
            raise SendFailed(
                "the answer is not Resend's\nhint: look at WATCHWORD_RESEND__BASE_URL"
            ) from None
        return ResendAccount(domains, is_whole=not body.get("has_more"))


def _body(message: Message) -> dict[str, Any]:
    """The call's JSON; a function of the message alone, since a key allows one body only."""
    return {
        "from": str(message.sender),
        "to": [message.recipient],
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
        "headers": {
            "Auto-Submitted": "auto-generated",
            "Content-Language": message.locale,
            "X-Auto-Response-Suppress": "All",
        },
    }


def _silence(error: httpx2.HTTPError) -> SendFailed:
    """The kind alone: the error holds the request, and with it the code."""
    return SendFailed(
        f"Resend did not answer: {type(error).__name__}\n"
        "hint: look at WATCHWORD_RESEND__BASE_URL and at the way out of this network"
    )


def _raise_for(response: httpx2.Response) -> None:
    """Tells what may pass from what will not, by status and by Resend's own name for it."""
    status, kind = response.status_code, _kind(response)
    words = f"Resend answered {status} {kind}".rstrip()
    if status == httpx2.codes.TOO_MANY_REQUESTS:
        pause = QUOTA_PAUSE if kind in QUOTAS else _retry_after(response)
        raise SendFailed(words, retry_after=pause)
    if status >= httpx2.codes.INTERNAL_SERVER_ERROR or kind == IN_PROGRESS:
        raise SendFailed(words)
    if status in CONFIGURATION:
        words += (
            "\nhint: look at WATCHWORD_RESEND__API_KEY, and at the domain in WATCHWORD_MAIL__FROM, "
            "which has to be verified with Resend"
        )
    raise SendRefused(words)


def _kind(response: httpx2.Response) -> str:
    """Resend's name of the error; never its message, which may quote the mail."""
    try:
        name = response.json().get("name", "")
    except (ValueError, AttributeError):
        return ""
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        return ""
    return name[:KIND_CHARACTERS_MAX]


def _retry_after(response: httpx2.Response) -> timedelta:
    """Seconds of the header (RFC 9110 section 10.2.3); Resend does not use its form with a date."""
    text = response.headers.get("retry-after", "")
    if not (text.isascii() and text.isdecimal()):
        return RETRY_AFTER_DEFAULT
    return min(timedelta(seconds=int(text[:6])), RETRY_AFTER_MAX)
