"""A session that the cache knows while PostgreSQL is gone: yes for a second, then UNAVAILABLE.

What is answered is judged at the moment at which the call began: the server decides no earlier.
Ordinary runs hold each fault for 6 s, WATCHWORD_TEST_FULL=1 for 30 s.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import pytest

from tests.faults.killable_postgres import KillablePostgres, killable_postgres
from tests.races.bursts import FULL
from tests.races.sessions import CACHED, LEASE_SECONDS, known
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.running import RunningApp, running_app
from watchword_client import AsyncClient, WatchwordError

pytestmark = pytest.mark.timeout(180)

# Two calls after another that wait for as long as a call may: 2 s.
FAULT_SECONDS = 30.0 if FULL else 6.0
WELL_AGAIN_SECONDS = 2.0
CALLERS = 4
PAUSE_SECONDS = 0.02
UNAVAILABLE = "UNAVAILABLE STORAGE_UNAVAILABLE"
OVERLOADED = "RESOURCE_EXHAUSTED OVERLOADED"
# The database's clock and this process's are one, the lease's is another of the same machine.
CLOCKS_SECONDS = 0.01


@dataclass
class Installation:
    """A server that knows a session, on a database of its own behind a proxy."""

    postgres: KillablePostgres
    proxy: FaultyProxy
    app: RunningApp
    token: str


@dataclass(frozen=True)
class Answer:
    """One check: when it began and ended, what it got, and how old a yes was as it began."""

    began: float
    ended: float
    words: str
    age_seconds: float


@pytest.fixture
async def installation(folder: Path) -> AsyncIterator[Installation]:
    """One signed-in person on a PostgreSQL that the test may stop."""
    async with killable_postgres(folder) as postgres:
        url = postgres.url("watchword")
        async with faulty_proxy(url) as proxy, running_app(proxy.url, **CACHED) as app:
            signed_in = await app.sign_in()
            yield Installation(postgres, proxy, app, signed_in.session_token)


async def _check(client: AsyncClient, token: str) -> Answer:
    began, wall, age = time.monotonic(), time.time(), 0.0
    try:
        answer = await client.validate_session(token)
        words, age = "OK", wall - answer.as_of_time.ToDatetime(UTC).timestamp()
    except WatchwordError as error:
        words = f"{error.code.name} {error.reason}"
    return Answer(began, time.monotonic(), words, age)


async def _hold(
    installation: Installation,
    begin: Callable[[], Awaitable[object]],
    end: Callable[[], Awaitable[object]],
) -> None:
    """Holds a fault while the session is checked, and judges all answers."""
    client, token = installation.app.client, installation.token
    answers: list[Answer] = []
    over = asyncio.Event()

    async def calls() -> None:
        while not over.is_set():
            answers.append(await _check(client, token))
            await asyncio.sleep(PAUSE_SECONDS)

    await known(client, token)
    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(calls())
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await begin()
        gone = time.monotonic()
        await asyncio.sleep(FAULT_SECONDS)
        ended = time.monotonic()
        await end()
        await asyncio.sleep(WELL_AGAIN_SECONDS + 1.0)
        over.set()
    assert {each.words for each in answers if each.ended < ended} == {"OK", UNAVAILABLE}
    # Whose patience ends as the database comes back has waited for one that is slow, not gone.
    assert {each.words for each in answers} <= {"OK", UNAVAILABLE, OVERLOADED}
    assert all(each.age_seconds <= LEASE_SECONDS + CLOCKS_SECONDS for each in answers)
    assert any(each.words == "OK" and began < each.began < ended for each in answers)
    late = [each for each in answers if gone + LEASE_SECONDS < each.began and each.ended < ended]
    assert {each.words for each in late} == {UNAVAILABLE}
    well = [each for each in answers if each.began > ended + WELL_AGAIN_SECONDS]
    assert {each.words for each in well} == {"OK"}


async def test_a_database_that_was_stopped(installation: Installation) -> None:
    """PostgreSQL is shut down: hits until the lease ends, then UNAVAILABLE and nothing else, and
    all is well 2 s after it was started again.

    Seen to fail with both looks at the lease taken out of Lane::validate.
    """
    postgres = installation.postgres
    await _hold(installation, postgres.stop, postgres.start)


async def test_a_database_that_is_cut_off(installation: Installation) -> None:
    """Bytes are taken and passed on no more: the same.

    Seen to fail with both looks at the lease taken out of Lane::validate.
    """
    proxy = installation.proxy
    await _hold(installation, lambda: proxy.tell("hang"), lambda: proxy.tell("pass"))
