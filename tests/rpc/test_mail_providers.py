"""Mail by providers, from the call to the provider's door: fail-over, pauses, refusals."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.rpc.wire import settled
from tests.support.resend_server import API_KEY, Answer, ResendServerDouble, resend_server
from tests.support.running import RunningApp, running_app
from tests.support.smtp_server import SmtpServerDouble, smtp_server

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
