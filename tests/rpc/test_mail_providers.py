"""Mail by providers, from the call to the provider's door: fail-over, pauses, refusals."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.rpc.wire import settled
from tests.support.age import age
from tests.support.postgres import fetch
from tests.support.resend_server import API_KEY, Answer, ResendServerDouble, resend_server
from tests.support.running import RunningApp, running_app
from tests.support.smtp_server import SmtpServerDouble, smtp_server
from watchword.senders.resend import TIMEOUT_SECONDS

CODE_IN_SUBJECT = re.compile(rb"\r\nSubject: ([0-9]{6}) ")


@pytest.fixture
async def http() -> AsyncIterator[ResendServerDouble]:
    """What speaks like Resend."""
    async with resend_server() as server:
        yield server


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServerDouble]:
    """A mail server."""
    async with smtp_server() as server:
        yield server


@asynccontextmanager
async def app_with(
    database_url: str, senders: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> AsyncIterator[RunningApp]:
    """A server that sends by these."""
    async with running_app(
        database_url,
        MAIL__SENDERS=senders,
        MAIL__ALLOW_DEVELOPMENT_SENDERS="",
        MAIL__FROM="Acme <no-reply@acme.example>",
        RESEND__API_KEY=API_KEY,
        RESEND__BASE_URL=http.base_url,
        SMTP__URL=f"smtp://127.0.0.1:{smtp.port}",
    ) as app:
        yield app


async def test_a_code_by_smtp_signs_in(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """The mail is complete and the next provider is not asked."""
    async with app_with(database_url, "smtp,resend", http, smtp) as app:
        registered = await app.register()
        await settled(app)
        (taken,) = smtp.taken
        assert taken.recipients == ["ada@example.com"]
        code = CODE_IN_SUBJECT.search(taken.content)
        assert code is not None
        answer = await app.client.verify_otp(
            challenge_id=registered.challenge.id, code=code[1].decode()
        )
        assert answer.session_token
    assert http.sent == []


async def test_a_quota_makes_the_next_provider_take_over(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """At the first attempt, not after a wait."""
    http.errors.append(Answer(429, "daily_quota_exceeded"))
    async with app_with(database_url, "resend,smtp", http, smtp) as app:
        for username in ("ada", "bob", "eve"):
            await app.register(username)
            await settled(app)
    assert http.sent == []
    assert len(smtp.taken) == 3


async def test_a_rate_limit_is_waited_for(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """A lone provider that says two seconds is asked again after them, with the same key."""
    http.errors.append(Answer(429, "rate_limit_exceeded", {"retry-after": "2"}))
    async with app_with(database_url, "resend", http, smtp) as app:
        started = asyncio.get_running_loop().time()
        await app.register()
        async with asyncio.timeout(15):
            while not http.sent:
                await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - started >= 2
        await settled(app)
    assert len(http.keys) == 1


async def test_refused_by_all_is_given_up(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """The mail is not tried again; the caller has had its answer long ago."""
    http.errors.append(Answer(422, "validation_error"))
    smtp.answers["RCPT"] = "550 5.1.1 nobody"
    async with app_with(database_url, "smtp,resend", http, smtp) as app:
        await app.register()
        await settled(app)
    assert (http.errors, http.sent, smtp.taken) == ([], [], [])
    assert smtp.connections == 1


async def test_a_mail_that_hangs_keeps_its_own_place_only(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """The mails after it leave while the provider is still silent about it."""
    http.hang = True
    async with app_with(database_url, "resend", http, smtp) as app:
        await app.register("slow")
        async with asyncio.timeout(5):
            while not http.asked:
                await asyncio.sleep(0.02)
            http.hang = False
            for number in range(12):
                await app.register(f"quick{number}")
            while len(http.sent) < 12:
                await asyncio.sleep(0.02)
        assert "slow@example.com" not in [mail["to"][0] for mail in http.sent]


async def test_no_code_is_mailed_after_its_end(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """A provider that was down until then gets nothing, and the mail is counted as dropped.

    Seen to fail without the look at the challenge that comes with the lease.
    """
    down = Answer(500, "application_error")
    http.errors += [down] * 100
    async with app_with(database_url, "resend", http, smtp) as app:
        await app.register()
        async with asyncio.timeout(5):
            while not http.asked:
                await asyncio.sleep(0.02)
        await age(database_url, timedelta(minutes=5))
        http.errors.clear()
        await settled(app)
        [row] = await app.sql("SELECT state FROM outbox")
    assert http.sent == []
    assert row["state"] == "dropped"


async def test_an_attempt_ends_with_the_code(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """With 2 s of life left a silent provider gets these, not its own 8 s.

    Seen to fail with the time-out of the sender alone.
    """
    http.errors += [Answer(500, "application_error")]
    async with app_with(database_url, "resend", http, smtp) as app:
        await app.register()
        async with asyncio.timeout(5):
            while http.errors:
                await asyncio.sleep(0.01)
        http.hang = True
        await age(database_url, timedelta(minutes=4, seconds=57))
        started = asyncio.get_running_loop().time()
        await settled(app)
        assert asyncio.get_running_loop().time() - started < TIMEOUT_SECONDS
        [row] = await app.sql("SELECT state FROM outbox")
    assert http.sent == []
    assert row["state"] == "dropped"


async def test_a_mail_under_way_is_finished_before_the_end(
    database_url: str, http: ResendServerDouble, smtp: SmtpServerDouble
) -> None:
    """A stopping server waits for the provider's answer: the mail is sent, and marked as sent.

    Seen to fail without `drain`: the mail is sent, and would be again after the restart.
    """
    http.delay_seconds = 0.5
    async with app_with(database_url, "resend", http, smtp) as app:
        await app.register()
        async with asyncio.timeout(5):
            while not http.asked:
                await asyncio.sleep(0.02)
    [row] = await fetch(database_url, "SELECT state FROM outbox")
    assert row["state"] == "sent"
    assert len(http.sent) == 1
