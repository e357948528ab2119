"""A session ends when nobody asks for it, and lives while somebody does, whoever answers."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from tests.rpc.wire import sent, settled
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword.jobs.last_seen_writer import LastSeenWriter
from watchword.storage.sessions import SessionStore
from watchword_client import SessionInvalid

CACHED = {"GATE__CACHE_MIB": "16"}
WEEK, HOUR, MINUTE = timedelta(days=7), timedelta(hours=1), timedelta(minutes=1)
WAIT_SECONDS = 10.0
SEEN_AGO = "SELECT max(now() - last_seen_time) FROM sessions"
WRITE = SessionStore.NOTE_SEEN.strip()


async def seen_ago(app: RunningApp) -> timedelta:
    """How long ago the one session was seen, as it is stored."""
    [[ago]] = await app.sql(SEEN_AGO)
    assert isinstance(ago, timedelta)
    return ago


async def until_stored(app: RunningApp) -> None:
    """Returns once it is stored that the session was seen just now."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await seen_ago(app) > MINUTE:
            await asyncio.sleep(0.05)


async def known(app: RunningApp, token: str) -> None:
    """Checks the session until that is no statement any more."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            await settled(app)
            app.statements.clear()
            await app.client.validate_session(token)
            if not sent(app):
                return
            await asyncio.sleep(0.02)


def checks(app: RunningApp, token: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """What counts as a use of the session."""
    return {
        "ValidateSession": lambda: app.client.validate_session(token),
        "GetRoles": lambda: app.client.get_roles(session_token=token),
    }


@pytest.mark.parametrize("gate", ["true", "false"])
@pytest.mark.parametrize("method", ["ValidateSession", "GetRoles"])
async def test_a_use_puts_the_end_off(database_url: str, method: str, gate: str) -> None:
    """Unused for a week it is over; used before, it has a week from then, and then is over, too.
    With the gate and without it.

    Seen to fail without `_seen` in `live_session`, and without the job in app.py.
    """
    async with running_app(database_url, GATE__ENABLED=gate) as app:
        token = (await app.sign_in()).session_token
        await settled(app)
        check = checks(app, token)[method]
        for _ in range(2):
            await age(database_url, WEEK - HOUR)
            await check()
            await until_stored(app)
        await age(database_url, WEEK)
        with pytest.raises(SessionInvalid):
            await check()
        # Nobody uses it; who wants it gone all the same is told that it went.
        assert (await app.client.revoke(token)).revoked_count == 1
        assert (await app.client.revoke(token)).revoked_count == 0


async def test_a_week_is_the_default(app: RunningApp) -> None:
    """Dead a week after the sign-in, without any use (the guard: `last_seen_time` in FIND)."""
    token = (await app.sign_in()).session_token
    await settled(app)
    await age(app.database_url, WEEK)
    for check in checks(app, token).values():
        with pytest.raises(SessionInvalid):
            await check()


async def test_who_lacks_the_secret_keeps_no_session_alive(app: RunningApp) -> None:
    """A check that is refused is no use (the guard: `_seen` comes after the comparison)."""
    token = (await app.sign_in()).session_token
    await settled(app)
    await app.sql("UPDATE sessions SET verifier = sha256('x')")
    await age(app.database_url, HOUR)
    with pytest.raises(SessionInvalid):
        await app.client.validate_session(token)
    await app.app._last_seen_writer.flush()
    assert await seen_ago(app) >= HOUR


async def test_an_idle_session_is_no_hit(database_url: str) -> None:
    """What is known of a session in memory ends with its idle lifetime, long before the minute
    after which it would be read again.

    Seen to fail with the idle lifetime of the lane at i64::MAX.
    """
    async with running_app(database_url, **CACHED, SESSION__IDLE_LIFETIME="2s") as app:
        token = (await app.sign_in()).session_token
        await known(app, token)
        await asyncio.sleep(3.5)
        with pytest.raises(SessionInvalid):
            await app.client.validate_session(token)


async def test_hits_alone_keep_a_session_alive(database_url: str) -> None:
    """A session that is answered from memory all the time outlives its idle lifetime, and the
    database comes to know of it.

    Seen to fail with what the gate holds not taken.
    """
    clock = asyncio.get_running_loop().time
    async with running_app(database_url, **CACHED, SESSION__IDLE_LIFETIME="3s") as app:
        token = (await app.sign_in()).session_token
        await known(app, token)
        end = clock() + 5
        while clock() < end:
            await app.client.validate_session(token)
            await asyncio.sleep(0.05)
        assert await seen_ago(app) < timedelta(seconds=2)


async def test_many_hits_are_one_write_a_period(database_url: str) -> None:
    """With an idle lifetime of 40 s a period is 2 s: in 7 s of hits there are 4 writes at most.

    Seen to fail with every hit reported: a write each second.
    """
    clock = asyncio.get_running_loop().time
    hits = 0
    async with running_app(database_url, **CACHED, SESSION__IDLE_LIFETIME="40s") as app:
        token = (await app.sign_in()).session_token
        await known(app, token)
        app.statements.clear()
        end = clock() + 7
        while clock() < end:
            await app.client.validate_session(token)
            hits += 1
            await asyncio.sleep(0.002)
        writes = app.statements.seen.count(WRITE)
    assert 2 <= writes <= 4
    assert hits > 100


@pytest.mark.parametrize("settings", [{}, CACHED], ids=["miss", "hit"])
async def test_what_was_seen_is_stored_at_the_end(
    database_url: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops in good order has stored everything, what the gate holds as well.

    Seen to fail without the writer's drain in `App.stop`, and with the gate's queue not taken.
    """

    async def never(_writer: LastSeenWriter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LastSeenWriter, "run", never)
    async with running_app(database_url, **settings, SESSION__IDLE_LIFETIME="40s") as app:
        token = (await app.sign_in()).session_token
        if settings:
            await known(app, token)
            await asyncio.sleep(2.1)
            app.statements.clear()
        else:
            await settled(app)
            await age(database_url, timedelta(seconds=10))
        await app.client.validate_session(token)
        if settings:
            assert sent(app) == []
        [[before]] = await app.sql("SELECT last_seen_time FROM sessions")
    connection = await asyncpg.connect(database_url)
    try:
        after = await connection.fetchval("SELECT last_seen_time FROM sessions")
    finally:
        await connection.close()
    assert after - before >= timedelta(seconds=2)
