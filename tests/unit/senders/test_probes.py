"""What `watchword doctor` asks of the providers: everything up to a mail, and no mail."""

import socket
from urllib.parse import quote

import pytest

from tests.support.resend_server import API_KEY, Answer, resend_server
from tests.support.smtp_server import PASSWORD, USERNAME, SmtpServerDouble, smtp_server
from tests.unit.senders.conftest import Tls
from watchword.mail.ports import SendFailed, SendRefused
from watchword.senders import resend, smtp
from watchword.senders.resend import ResendSender
from watchword.senders.smtp import SmtpSender, SmtpServer

DOMAIN = "acme.example"


def sender_to(
    server: SmtpServerDouble, *, scheme: str = "smtp", password: str = "", tls: Tls | None = None
) -> SmtpSender:
    """A sender as the URL of this server makes it."""
    auth = f"{USERNAME}:{quote(password, safe='')}@" if password else ""
    url = f"{scheme}://{auth}127.0.0.1:{server.port}"
    return SmtpSender(SmtpServer.parse(url), tls=tls.client if tls else None)


async def test_smtp_is_asked_without_a_mail(tls: Tls) -> None:
    """TLS, STARTTLS and plain text are told apart, the login is tried, nothing is handed over."""
    async with smtp_server(auth=True) as plain:
        assert not await sender_to(plain, password=PASSWORD).probe(domain=DOMAIN)
    async with smtp_server(starttls=tls.server, auth=True) as starttls:
        assert await sender_to(starttls, password=PASSWORD, tls=tls).probe(domain=DOMAIN)
    async with smtp_server(tls=tls.server) as smtps:
        assert await sender_to(smtps, scheme="smtps", tls=tls).probe(domain=DOMAIN)
    for server in (plain, starttls, smtps):
        assert (server.connections, server.taken) == (1, [])


async def test_a_refused_login_is_told() -> None:
    """The hint names the variable; neither password nor the server's words are shown."""
    async with smtp_server(auth=True) as server:
        with pytest.raises(SendFailed, match="refuses the login with code 535") as caught:
            await sender_to(server, password="CANARY").probe(domain=DOMAIN)
    assert "WATCHWORD_SMTP__URL" in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_certificate_of_another_name_is_refused(tls: Tls) -> None:
    """As for a mail."""
    async with smtp_server(starttls=tls.server_of_another_name) as server:
        with pytest.raises(SendFailed, match="cannot be used") as caught:
            await sender_to(server, tls=tls).probe(domain=DOMAIN)
    assert "certificate" in str(caught.value)


async def test_a_server_off_loopback_without_starttls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would get no mail, so that is a failure here too (the guard: `start_tls` of the probe)."""
    monkeypatch.setattr(smtp, "is_loopback", lambda host: False)
    async with smtp_server() as server:
        with pytest.raises(SendFailed, match="cannot be used"):
            await sender_to(server).probe(domain=DOMAIN)


async def test_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe ends (the guard: `timeout`)."""
    monkeypatch.setattr(smtp, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SendFailed, match="cannot be used"):
            await SmtpSender(SmtpServer.parse(url)).probe(domain=DOMAIN)


async def test_resend_lists_domains() -> None:
    """With a key that may see them; nothing is sent."""
    async with resend_server() as server:
        server.domains = {DOMAIN: "verified", "other.example": "pending"}
        sender = ResendSender(API_KEY, base_url=server.base_url)
        account = await sender.probe()
        await sender.close()
    assert account is not None
    assert account.domains == server.domains
    assert account.is_whole
    assert server.sent == []


async def test_a_key_that_may_only_send_is_right() -> None:
    """Resend answers 401 `restricted_api_key`: the key is known."""
    async with resend_server() as server:
        server.domains = None
        sender = ResendSender(API_KEY, base_url=server.base_url)
        assert await sender.probe() is None
        await sender.close()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (Answer(403, "invalid_api_key"), SendRefused),
        (Answer(401, "missing_api_key"), SendRefused),
        (Answer(429, "rate_limit_exceeded"), SendFailed),
        (Answer(500, "application_error"), SendFailed),
        (Answer(422, "validation_error"), SendRefused),
        (Answer(404, "not_found"), SendRefused),
    ],
)
async def test_what_resend_refuses(
    error: Answer, raised: type[SendFailed] | type[SendRefused]
) -> None:
    """By status and Resend's own name for it, never by its words."""
    async with resend_server() as server:
        server.errors = [error]
        sender = ResendSender("re_CANARY", base_url=server.base_url)
        with pytest.raises(raised, match=f"{error.status} {error.name}") as caught:
            await sender.probe()
        await sender.close()
    assert "CANARY" not in str(caught.value)
    assert "refused:" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"data": [{}]}', b'{"data": 1}'])
async def test_what_is_not_resend(body: bytes) -> None:
    """Some other server answers 200."""
    async with resend_server() as server:
        server.raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        sender = ResendSender(API_KEY, base_url=server.base_url)
        with pytest.raises(SendFailed, match="not Resend's"):
            await sender.probe()
        await sender.close()


@pytest.mark.parametrize("fault", ["hang", "cut"])
async def test_resend_does_not_answer(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The probe ends, and says where to look."""
    monkeypatch.setattr(resend, "TIMEOUT_SECONDS", 0.2)
    async with resend_server() as server:
        setattr(server, fault, True)
        sender = ResendSender(API_KEY, base_url=server.base_url)
        with pytest.raises(SendFailed, match="did not answer"):
            await sender.probe()
        await sender.close()
