"""The SMTP sender beyond the contract, on a real server."""

import asyncio
import email
import email.policy
import logging
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.support.mails import ADDRESS, CODE, MESSAGE, hand_over
from tests.support.smtp_server import PASSWORD, USERNAME, SmtpServerDouble, smtp_server
from tests.unit.senders.conftest import Tls
from watchword.mail.message import to_bytes
from watchword.mail.ports import SendFailed, SendRefused
from watchword.senders import smtp
from watchword.senders.smtp import SmtpSender, SmtpServer

AUTH = f"{USERNAME}:{quote(PASSWORD, safe='')}@"


def sender_to(
    server: SmtpServerDouble, scheme: str = "smtp", *, auth: str = "", tls: Tls | None = None
) -> SmtpSender:
    """A sender as the URL of this server makes it."""
    url = f"{scheme}://{auth}127.0.0.1:{server.port}"
    return SmtpSender(SmtpServer.parse(url), tls=tls.client if tls else None)


def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the sender take 127.0.0.1 for a machine across the network."""
    monkeypatch.setattr(smtp, "is_loopback", lambda host: False)


def assert_discreet(error: BaseException) -> None:
    """Neither the code nor the address nor the password is in what gets logged."""
    for shown in (str(error), repr(error)):
        for secret in (CODE, ADDRESS, PASSWORD, "CANARY"):
            assert secret not in shown
    assert error.__suppress_context__


async def test_the_bytes_arrive_unchanged() -> None:
    """Envelope and mail are those of the message, dots in front included, twice the same."""
    async with smtp_server() as server:
        for _ in range(2):
            await hand_over(sender_to(server), MESSAGE)
    for taken in server.taken:
        assert taken.sender == "no-reply@acme.example"
        assert taken.recipients == [ADDRESS]
        assert taken.content == to_bytes(MESSAGE)
    mail = email.message_from_bytes(server.taken[1].content, policy=email.policy.default)
    assert mail["Message-ID"] == f"<{MESSAGE.id}@acme.example>"
    assert len(server.taken) == 2


@pytest.mark.parametrize("auth", ["", AUTH])
@pytest.mark.parametrize("far", [False, True])
async def test_starttls(monkeypatch: pytest.MonkeyPatch, tls: Tls, far: bool, auth: str) -> None:
    """A server that offers STARTTLS gets the mail, and the password, inside of it."""
    if far:
        far_away(monkeypatch)
    async with smtp_server(starttls=tls.server, auth=bool(auth)) as server:
        await hand_over(sender_to(server, auth=auth, tls=tls), MESSAGE)
    assert [taken.encrypted for taken in server.taken] == [True]
    assert server.taken[0].content == to_bytes(MESSAGE)


async def test_tls_from_the_start(tls: Tls) -> None:
    """`smtps` is TLS before the first word."""
    async with smtp_server(tls=tls.server) as server:
        await hand_over(sender_to(server, "smtps", tls=tls), MESSAGE)
    assert [taken.encrypted for taken in server.taken] == [True]


async def test_a_password_on_loopback() -> None:
    """A server on the same machine may ask for a password without TLS."""
    async with smtp_server(auth=True) as server:
        await hand_over(sender_to(server, auth=AUTH), MESSAGE)
    assert len(server.taken) == 1


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("why", ["unknown authority", "another name"])
async def test_a_certificate_that_does_not_verify(tls: Tls, scheme: str, why: str) -> None:
    """Neither a stranger's certificate nor another machine's gets a mail, on loopback either."""
    context = tls.server if why == "unknown authority" else tls.server_of_another_name
    trust = None if why == "unknown authority" else tls
    started = smtp_server(tls=context) if scheme == "smtps" else smtp_server(starttls=context)
    async with started as server:
        with pytest.raises(SendFailed, match=r"(?s)127\.0\.0\.1.*\nhint: ") as caught:
            await hand_over(sender_to(server, scheme, tls=trust), MESSAGE)
    assert server.taken == []
    assert_discreet(caught.value)


async def test_no_starttls_off_loopback_is_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hides the offer gets neither mail nor password, unless plain text is allowed."""
    far_away(monkeypatch)
    async with smtp_server() as server:
        with pytest.raises(SendFailed, match="hint: ") as caught:
            await hand_over(sender_to(server, auth=AUTH), MESSAGE)
        assert server.taken == []
        assert_discreet(caught.value)
        target = SmtpServer.parse(f"smtp://127.0.0.1:{server.port}")
        await hand_over(SmtpSender(target, allow_plaintext=True), MESSAGE)
        assert len(server.taken) == 1


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (f"550 5.1.1 <{ADDRESS}> {CODE} unknown", SendRefused),
        (f"554 5.7.1 {CODE} no", SendRefused),
        (f"450 4.2.0 <{ADDRESS}> greylisted", SendFailed),
        ("451 4.3.0 try later", SendFailed),
        ("452 4.5.3 full", SendFailed),
        ("530 5.7.0 sign in first", SendFailed),
    ],
)
async def test_what_may_pass_and_what_will_not(
    command: str, answer: str, kind: type[Exception]
) -> None:
    """4yz is for later, 5yz for good, but not where our credentials are meant; no word of it."""
    async with smtp_server() as server:
        server.answers[command] = answer
        with pytest.raises(kind, match=answer[:3]) as caught:
            await hand_over(sender_to(server), MESSAGE)
    assert_discreet(caught.value)
    assert server.taken == []


async def test_a_refused_sender_is_the_operators_to_mend() -> None:
    """WATCHWORD_MAIL__FROM is wrong, not the mail: it waits, and the hint says where to look."""
    async with smtp_server() as server:
        server.answers["MAIL"] = "553 5.7.1 not yours"
        with pytest.raises(SendFailed, match=r"(?s)553\nhint: .*MAIL__FROM"):
            await hand_over(sender_to(server), MESSAGE)


async def test_a_wrong_password_is_the_operators_to_mend() -> None:
    """The mail waits; the password is not shown."""
    async with smtp_server(auth=True) as server:
        with pytest.raises(SendFailed, match=r"(?s)535\nhint: .*SMTP__URL") as caught:
            await hand_over(sender_to(server, auth=f"{USERNAME}:CANARY@"), MESSAGE)
    assert_discreet(caught.value)


@pytest.mark.parametrize("how", ["hang", "cut"])
@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_server_that_falls_silent(
    monkeypatch: pytest.MonkeyPatch, how: str, command: str
) -> None:
    """Silence and a closed connection are SendFailed, soon, at every step."""
    monkeypatch.setattr(smtp, "TIMEOUT_SECONDS", 0.2)
    async with smtp_server() as server:
        setattr(server, how, command)
        with pytest.raises(SendFailed, match="hint: ") as caught:
            await hand_over(sender_to(server), MESSAGE)
    assert_discreet(caught.value)


@pytest.mark.parametrize("how", ["hang", "cut"])
async def test_a_mail_that_was_taken_is_sent(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """What goes wrong at the farewell is no reason to send the mail again."""
    monkeypatch.setattr(smtp, "QUIT_TIMEOUT_SECONDS", 0.1)
    async with smtp_server() as server:
        setattr(server, how, "QUIT")
        await hand_over(sender_to(server), MESSAGE)
    assert len(server.taken) == 1


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture, tls: Tls) -> None:
    """Whatever the libraries log, at DEBUG: no code, no password."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.CRITICAL, logger="mail")  # the test's own server
    async with smtp_server(starttls=tls.server, auth=True) as server:
        await hand_over(sender_to(server, auth=AUTH, tls=tls), MESSAGE)
        server.answers["RCPT"] = "550 no"
        with pytest.raises(SendRefused):
            await hand_over(sender_to(server, auth=AUTH, tls=tls), replace(MESSAGE, locale="de"))
    assert CODE not in caplog.text
    assert "CANARY" not in caplog.text


def test_a_url() -> None:
    """Ports have defaults, user and password are decoded."""
    assert SmtpServer.parse("smtp://mail.example") == SmtpServer("smtp", "mail.example", 587)
    assert SmtpServer.parse("smtps://mail.example/") == SmtpServer("smtps", "mail.example", 465)
    assert SmtpServer.parse("smtp://u%40x:p%2F%3A@[::1]:25") == SmtpServer(
        "smtp", "::1", 25, "u@x", "p/:"
    )
    shown = repr(SmtpServer.parse("smtp://CANARY:CANARY@mail.example"))
    assert "CANARY" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "CANARY",
        "mail.example:25",
        "http://u:CANARY@mail.example",
        "smtp://",
        "smtp://u:CANARY@",
        "smtp://u:CANARY@mail.example:x",
        "smtp://u:CANARY@mail.example:0",
        "smtp://u:CANARY@mail.example:99999",
        "smtp://u:CANARY@[::1",
        "smtp://u:CAN@ARY@mail.example",
        "smtp://u:CAN/ARY@mail.example",
        "smtp://u:CANARY@mail.example/path",
        "smtp://u:CANARY@mail.example?x=CANARY",
        "smtp://u:CANARY@mail.example#x",
        "smtp://CANARY@mail.example",
        "smtp://:CANARY@mail.example",
        "smtp://u:@mail.example",
    ],
)
def test_what_is_no_url(url: str) -> None:
    """Refused without being shown."""
    with pytest.raises(ValueError, match="is no URL|must ") as caught:
        SmtpServer.parse(url)
    assert "CAN" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_one_mail_at_a_time_is_taken_and_not_noted() -> None:
    """A process that dies sends what was taken and not noted again: one mail, and no second one.

    Seen to fail without the lock around the last step.
    """
    async with smtp_server() as server:
        sender = sender_to(server)
        noted = 0

        async def send() -> None:
            nonlocal noted
            async with sender.send(MESSAGE):
                assert len(server.taken) == noted + 1
                await asyncio.sleep(0.05)
                noted += 1

        await asyncio.gather(*(send() for _ in range(6)))
    assert noted == len(server.taken) == 6
