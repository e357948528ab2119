"""The Resend sender beyond the contract, on a server that behaves as Resend documents."""

import asyncio
import logging
import re
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.mails import ADDRESS, CODE, MESSAGE, hand_over
from tests.support.resend_server import API_KEY, Answer, resend_server
from watchword.mail.ports import SendFailed, SendRefused
from watchword.senders import resend
from watchword.senders.resend import ResendSender


def assert_discreet(error: BaseException) -> None:
    """Neither the code nor the address nor the key is in what gets logged."""
    for shown in (str(error), repr(error)):
        for secret in (CODE, ADDRESS, API_KEY):
            assert secret not in shown
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


async def test_a_mail_is_one_call() -> None:
    """The documented fields, the outbox id as the key, and nothing tracked."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        await hand_over(sender, MESSAGE)
        await sender.close()
    assert server.keys == [str(MESSAGE.id)]
    assert server.sent == [
        {
            "from": "Acme <no-reply@acme.example>",
            "to": [ADDRESS],
            "subject": MESSAGE.subject,
            "text": MESSAGE.text,
            "html": MESSAGE.html,
            "headers": {
                "Auto-Submitted": "auto-generated",
                "Content-Language": "en",
                "X-Auto-Response-Suppress": "All",
            },
        }
    ]


async def test_a_base_url_may_have_a_path() -> None:
    """A slash at its end makes no difference."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url + "/")
        await hand_over(sender, MESSAGE)
        await sender.close()
    assert len(server.sent) == 1


@pytest.mark.parametrize("how", ["hang", "cut"])
async def test_a_lost_answer_is_one_mail(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The mail was taken and the answer was lost: the repeat is answered and sends nothing."""
    monkeypatch.setattr(resend, "TIMEOUT_SECONDS", 0.2)
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        setattr(server, how, True)
        server.after_sending = True
        with pytest.raises(SendFailed, match=r"did not answer: \w+\nhint: ") as caught:
            await hand_over(sender, MESSAGE)
        assert_discreet(caught.value)
        setattr(server, how, False)
        server.after_sending = False
        await hand_over(sender, MESSAGE)
        await sender.close()
    assert len(server.sent) == 1
    assert server.keys == [str(MESSAGE.id)] * 2


async def test_another_mail_under_the_same_key_is_refused() -> None:
    """The key allows one body; that a second one comes is a defect and no reason to repeat."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        await hand_over(sender, MESSAGE)
        with pytest.raises(SendRefused, match="409 invalid_idempotent_request") as caught:
            await hand_over(sender, replace(MESSAGE, text="another"))
        await sender.close()
    assert_discreet(caught.value)
    assert len(server.sent) == 1


QUOTA = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("answer", "kind", "retry_after"),
    [
        (Answer(429, "rate_limit_exceeded", {"retry-after": "3"}), SendFailed, timedelta(0, 3)),
        (Answer(429, "rate_limit_exceeded", {"retry-after": "0"}), SendFailed, timedelta(0)),
        (Answer(429, "rate_limit_exceeded", {"retry-after": "9" * 99}), SendFailed, QUOTA),
        (Answer(429, "rate_limit_exceeded", {"retry-after": "soon"}), SendFailed, timedelta(0, 1)),
        (Answer(429, "rate_limit_exceeded"), SendFailed, timedelta(0, 1)),
        (Answer(429, "daily_quota_exceeded", {"retry-after": "1"}), SendFailed, QUOTA),
        (Answer(429, "monthly_quota_exceeded"), SendFailed, QUOTA),
        (Answer(400, "validation_error"), SendRefused, None),
        (Answer(409, "concurrent_idempotent_requests"), SendFailed, None),
        (Answer(422, "missing_required_field"), SendRefused, None),
        (Answer(500, "application_error"), SendFailed, None),
        (Answer(503, "internal_server_error"), SendFailed, None),
        (Answer(422, f"{CODE} {API_KEY}"), SendRefused, None),
    ],
    ids=lambda value: f"{value.status} {value.name[:12]}" if isinstance(value, Answer) else None,
)
async def test_what_may_pass_and_what_will_not(
    answer: Answer, kind: type[Exception], retry_after: timedelta | None
) -> None:
    """By status and name, how long to wait included; never a word of Resend's message."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        server.errors.append(answer)
        with pytest.raises(kind, match=str(answer.status)) as caught:
            await hand_over(sender, MESSAGE)
        await sender.close()
    assert_discreet(caught.value)
    assert getattr(caught.value, "retry_after", None) == retry_after
    assert server.sent == []


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 451])
async def test_what_time_does_not_mend(status: int) -> None:
    """A wrong key, domain or base URL is permanent; for the first two the hint names settings."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        server.errors.append(Answer(status, "restricted_api_key"))
        with pytest.raises(SendRefused, match=str(status)) as caught:
            await hand_over(sender, MESSAGE)
        await sender.close()
    assert_discreet(caught.value)
    hint = re.search(r"(?s)hint: .*RESEND__API_KEY.*MAIL__FROM", str(caught.value))
    assert (hint is not None) == (status in {401, 403})


async def test_mails_leave_at_an_even_pace() -> None:
    """All tasks of a process share one bucket, which holds no burst: Resend counts each second."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url, rate=20)
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(hand_over(sender, replace(MESSAGE, id=uuid4())) for _ in range(7)))
        assert asyncio.get_running_loop().time() - started >= 6 / 20
        await sender.close()
    assert len(server.sent) == 7


async def test_a_wrong_key_is_not_shown() -> None:
    """The server answers 401 to it."""
    async with resend_server() as server:
        sender = ResendSender("re_other_CANARY", base_url=server.base_url)
        with pytest.raises(SendRefused, match="401 missing_api_key") as caught:
            await hand_over(sender, MESSAGE)
        await sender.close()
    assert "CANARY" not in str(caught.value) + repr(sender)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 500 x\r\ncontent-length: 9\r\n\r\n<html/>\r\n",
        b"HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\n[]",
        b'HTTP/1.1 500 x\r\ncontent-length: 10\r\n\r\n{"name":1}',
        b"HTTP/1.1 200 x\r\ncontent-length: 10\r\n\r\n{",
        b"220 mail.example ESMTP\r\n",
    ],
)
async def test_an_answer_that_is_none(raw: bytes) -> None:
    """Another program at the address, or half an answer: SendFailed and no crash."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        server.raw = raw
        with pytest.raises(SendFailed) as caught:
            await hand_over(sender, MESSAGE)
        await sender.close()
    assert_discreet(caught.value)


async def test_a_proxy_of_the_environment_is_not_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A base URL on this machine is called directly."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        await hand_over(sender, MESSAGE)
        await sender.close()
    assert len(server.sent) == 1


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the libraries log, at DEBUG: no code, no address, no key."""
    caplog.set_level(logging.DEBUG)
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)
        await asyncio.gather(hand_over(sender, MESSAGE), return_exceptions=True)
        server.errors.append(Answer(422, "validation_error"))
        with pytest.raises(SendRefused):
            await hand_over(sender, MESSAGE)
        await sender.close()
    for secret in (CODE, ADDRESS, API_KEY):
        assert secret not in caplog.text
