"""The poller on a real database: what is acknowledged is in every cache before its lease goes on.

`Ledger.assert_lease_kept` is the property; jobs/change_poller.py says why it holds. Small sizes
here, the whole of threats row 28 (200 cuts, commits 5 s late) under WATCHWORD_TEST_FULL=1.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.storage.change_scenarios import World, stored_session, world_on
from tests.storage.conftest import Connect
from tests.storage.database import new_registration, open_database
from tests.storage.lease import Ledger, OtherClock, SlowAnswer, boottime_ns, running
from watchword.changes.model import Change, ChangeKind, UserVersion
from watchword.changes.ports import ChangeFeed as Feed
from watchword.crypto import MintedSession, new_id
from watchword.jobs import change_poller
from watchword.jobs.change_poller import ChangePoller
from watchword.login import changes
from watchword.storage.changes import ChangeFeed
from watchword.storage.transactions import PgDatabase, PgTx

Sql = asyncpg.Connection

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
CUTS = 200 if FULL else 40
LATE_SECONDS = 5.0 if FULL else 0.6
POLLERS = 3
REVOKERS = 6
LONGEST = timedelta(seconds=6)
POLLING = """
    SELECT pid
    FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%AS server_start%'
      AND pid <> pg_backend_pid()
"""


@dataclass
class Polled:
    """A poller that is asked to poll by the test, and its ledger."""

    poller: ChangePoller
    ledger: Ledger

    async def poll(self, times: int = 1) -> None:
        """Reads so often, and again where a busy machine has taken longer than a reading may."""
        async with asyncio.timeout(20):
            for _ in range(times):
                told = len(self.ledger.told)
                while len(self.ledger.told) == told:
                    await self.poller.poll()


def polled(feed: Feed, *, longest: timedelta = LONGEST) -> Polled:
    """A poller that has not begun yet."""
    ledger = Ledger()
    return Polled(ChangePoller(feed, ledger, longest_transaction=longest), ledger)


@asynccontextmanager
async def feed_of(database: PgDatabase) -> AsyncIterator[ChangeFeed]:
    """A feed beside the database's pool."""
    feed = ChangeFeed(database._pool)
    try:
        yield feed
    finally:
        feed.close()


@pytest.fixture
async def world(database_url: str, sql: Sql) -> AsyncIterator[World]:
    """Ada and her session."""
    async with open_database(database_url, pool_size=REVOKERS) as database:
        yield await world_on(database, sql)


@pytest.fixture
async def feed(world: World) -> AsyncIterator[ChangeFeed]:
    """The feed of Ada's database."""
    async with feed_of(world.database) as feed:
        yield feed


async def test_a_change_is_read_as_it_was_put(world: World, feed: ChangeFeed, tx: PgTx) -> None:
    """Every kind with all of its fields, the oldest first, each told once."""
    user = UserVersion(world.user.id, 3, 2**62)
    put = [
        Change(new_id(7), ChangeKind.SESSION, user, new_id(7), None, True),
        Change(new_id(7), ChangeKind.USER, user),
        Change(new_id(0), ChangeKind.ROLE, role="auditor"),
        Change(new_id(0), ChangeKind.SERVICE_KEY),
        Change(new_id(0), ChangeKind.INSTALLATION),
    ]
    of = polled(feed)
    await of.poll()
    for change in put:
        await tx.changes.put(change)
    await of.poll(3)
    assert of.ledger.changes == put


async def test_a_poller_begins_with_an_empty_cache_and_no_lease(
    world: World, feed: ChangeFeed
) -> None:
    """The first reading empties and renews nothing; from the second on the lease goes on."""
    await world.revoke()
    of = polled(feed)
    before = boottime_ns()
    await of.poll()
    assert of.ledger.told == [None]
    await of.poll(2)
    assert [change.session_id for change in of.ledger.changes] == [world.session.session_id]
    assert before < of.ledger.renewals[0] < of.ledger.renewals[1] < boottime_ns()
    assert isinstance(of.ledger.told[1], Change), "renewed before what was there was applied"
    assert of.ledger.database_times == sorted(of.ledger.database_times)


async def test_a_late_commit_is_seen(world: World, feed: ChangeFeed, connect: Connect) -> None:
    """A transaction that began before several good readings and commits after them is told of by
    the next one.

    Seen to fail without the overlap.
    """
    of = polled(feed)
    await of.poll(2)
    late = await connect()
    async with late.transaction():
        ended = await revoke_in(late, world.session)
        await of.poll(3)
        assert of.ledger.changes == []
    acknowledged = {ended: boottime_ns()}
    await of.poll()
    assert [change.session_id for change in of.ledger.changes] == [ended]
    of.ledger.assert_lease_kept(acknowledged)


async def test_a_commit_after_the_database_stood_still_is_seen(
    world: World, feed: ChangeFeed, connect: Connect
) -> None:
    """The database's time has leapt by a minute while a transaction was open, as when the whole of
    it was stopped: its change is a minute old when it commits, and is told of.

    Seen to fail with the overlap counted from the last reading's database time.
    """
    clock = OtherClock(feed)
    of = polled(clock)
    await of.poll(2)
    late = await connect()
    async with late.transaction():
        ended = await revoke_in(late, world.session)
        clock.ahead = timedelta(minutes=1)
        await of.poll(3)
    acknowledged = {ended: boottime_ns()}
    await of.poll()
    of.ledger.assert_lease_kept(acknowledged)
    assert len(of.ledger.changes) == 1


async def test_the_lease_begins_when_the_reading_is_sent(world: World, feed: ChangeFeed) -> None:
    """A revoke that is acknowledged while the answer of a reading is under way is not in it, and no
    lease that this reading renews reaches beyond its beginning.

    Seen to fail with the lease taken from the answer.
    """
    slow = SlowAnswer(feed)
    slow.go.set()
    of = polled(slow)
    await of.poll(2)
    slow.go.clear()
    slow.read_done.clear()
    polling = asyncio.create_task(of.poll())
    await slow.read_done.wait()
    await world.revoke()
    acknowledged = {world.session.session_id: boottime_ns()}
    slow.go.set()
    await polling
    assert of.ledger.changes == []
    of.ledger.assert_lease_kept(acknowledged)
    await of.poll()
    of.ledger.assert_lease_kept(acknowledged)
    assert len(of.ledger.changes) == 1


@pytest.mark.parametrize("seconds", [-3600, -1, 541, 3600])
async def test_a_clock_that_cannot_be_followed_empties_the_cache(
    world: World, feed: ChangeFeed, seconds: int
) -> None:
    """Back in time, or ahead by more than changes are surely kept: no lease before another reading.

    Seen to fail without either test in `_gap`.
    """
    clock = OtherClock(feed)
    of = polled(clock)
    await of.poll(2)
    clock.ahead = timedelta(seconds=seconds)
    await of.poll()
    assert of.ledger.told[-1] is None
    await of.poll()
    assert isinstance(of.ledger.told[-1], int)
    assert of.ledger.clears == 2


async def test_a_clock_that_leaps_a_little_empties_nothing(feed: ChangeFeed) -> None:
    """Eight minutes without a reading are read up for."""
    clock = OtherClock(feed)
    of = polled(clock)
    await of.poll(2)
    clock.ahead = timedelta(minutes=8)
    await of.poll()
    assert of.ledger.clears == 1


async def test_another_server_empties_the_cache(feed: ChangeFeed) -> None:
    """A database that was started anew, or a stand-by that took over, may have lost changes.

    Seen to fail without the comparison of `server_start`.
    """
    clock = OtherClock(feed)
    of = polled(clock)
    await of.poll(2)
    clock.restarts += 1
    await of.poll()
    assert of.ledger.told[-1] is None
    await of.poll()
    assert of.ledger.clears == 2


async def test_what_is_remembered_is_bounded(
    feed: ChangeFeed, tx: PgTx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readings and ids older than the overlap are forgotten, and no change is told twice."""
    monkeypatch.setattr(change_poller, "OVERLAP_MARGIN", timedelta(seconds=0.2))
    of = polled(feed, longest=timedelta(0))
    for number in range(30):
        await tx.changes.put(Change(new_id(0), ChangeKind.ROLE, role=f"role-{number}"))
        await of.poll()
        await asyncio.sleep(0.02)
    await of.poll()
    # The first was committed before the first reading, and is told of by the second.
    assert [change.role for change in of.ledger.changes] == [f"role-{n}" for n in range(30)]
    assert len(of.poller._seen) < 20
    assert len(of.poller._marks) < 20


async def test_a_reading_that_hangs_renews_nothing(
    world: World, feed: ChangeFeed, sql: Sql
) -> None:
    """Its backend is stopped: the reading is given up, the next one has a new connection and sees
    what was revoked meanwhile.
    """
    of = polled(feed)
    await of.poll(2)
    (pid,) = [row["pid"] for row in await sql.fetch(POLLING)]
    os.kill(pid, signal.SIGSTOP)
    try:
        renewals = len(of.ledger.renewals)
        await world.revoke()
        acknowledged = {world.session.session_id: boottime_ns()}
        async with asyncio.timeout(10):
            await of.poller.poll()
        assert len(of.ledger.renewals) == renewals
        await of.poll()
        of.ledger.assert_lease_kept(acknowledged)
        assert len(of.ledger.changes) == 1
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_full_pool_holds_no_reading_up(database_url: str, sql: Sql) -> None:
    """Every connection of the pool is taken, and the lease goes on."""
    async with (
        open_database(database_url, pool_size=1) as database,
        feed_of(database) as feed,
        database._pool.connection(),
    ):
        of = polled(feed)
        await of.poll(3)
        assert len(of.ledger.renewals) == 2


async def test_a_sink_that_fails_ends_the_poller_without_a_lease(
    world: World, feed: ChangeFeed
) -> None:
    """The supervisor starts it again, and it begins with an empty cache; the error is not lost."""
    of = polled(feed)
    await of.poll(2)
    renewals = len(of.ledger.renewals)
    told = of.ledger.apply
    of.ledger.apply = lambda change: told(change) or 1 / 0  # type: ignore[method-assign]
    await world.revoke()
    with pytest.raises(ZeroDivisionError):
        await of.poll()
    assert len(of.ledger.renewals) == renewals
    of.ledger.apply = told  # type: ignore[method-assign]
    async with running(of.poller):
        await until(lambda: len(of.ledger.renewals) > renewals)
    assert of.ledger.clears == 2


async def test_the_lease_outlives_no_acknowledged_revoke(
    database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pollers, whose connections are killed all the while, and revokes on many connections,
    some of which commit late: the property holds for each of them, and each is told of all.

    40 kills and commits 0.6 s late, in full 200 and 5 s. Seen to fail without the overlap.
    """
    # More readings, and more of them broken off, in less time.
    monkeypatch.setattr(change_poller, "POLL_INTERVAL_SECONDS", 0.01)
    ledgers = [Ledger() for _ in range(POLLERS)]
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(database_url, pool_size=2 * REVOKERS)
        )
        world = await world_on(database, sql)
        for ledger in ledgers:
            feed = await stack.enter_async_context(feed_of(database))
            poller = ChangePoller(feed, ledger, longest_transaction=LONGEST)
            await stack.enter_async_context(running(poller))
        stop, acknowledged = asyncio.Event(), dict[UUID, int]()
        revoking = [
            asyncio.create_task(keep_revoking(world, acknowledged, stop, late=number == 0))
            for number in range(REVOKERS)
        ]
        for _ in range(CUTS):
            await kill_one(sql)
        stop.set()
        await asyncio.gather(*revoking)
        for ledger in ledgers:
            await until(lambda told=ledger: len(told.changes) >= len(acknowledged))
            last = len(ledger.renewals)
            await until(lambda told=ledger, last=last: len(told.renewals) > last + 1)
    assert len(acknowledged) > CUTS
    for ledger in ledgers:
        ledger.assert_lease_kept(acknowledged)
        told = [change.session_id for change in ledger.changes]
        assert sorted(told, key=str) == sorted(acknowledged, key=str)


async def revoke_in(connection: Sql, session: MintedSession) -> UUID:
    """Revoke's statements on a connection whose transaction is the test's; returns the session."""
    tx = PgTx(connection)  # type: ignore[arg-type]  # what the pool lends behaves like it
    ended = await tx.sessions.revoke(session.session_id, verifier=session.verifier)
    assert ended is not None
    await tx.changes.put(changes.session_revoked(ended))
    return ended.id


async def keep_revoking(
    world: World, acknowledged: dict[UUID, int], stop: asyncio.Event, *, late: bool
) -> None:
    """Makes sessions of a new user and revokes each, `late` in transactions that commit late."""
    registration = new_registration()
    user = await world.database.run_statement(lambda tx: tx.users.insert(registration.account))
    while not stop.is_set():
        session = await world.database.run_statement(lambda tx: stored_session(tx, user))
        if late:
            async with world.database._pool.connection() as connection, connection.transaction():
                await revoke_in(connection, session)
                await asyncio.sleep(LATE_SECONDS)
        else:
            assert await world.revoke(session) == 1
        acknowledged[session.session_id] = boottime_ns()


async def kill_one(sql: Sql) -> None:
    """Ends the backend of one of the pollers, as soon as there is one."""
    async with asyncio.timeout(20):
        while not (pids := [row["pid"] for row in await sql.fetch(POLLING)]):
            await asyncio.sleep(0.002)
    await sql.execute("SELECT pg_terminate_backend($1)", random.choice(pids))
    await asyncio.sleep(random.uniform(0, 0.03))


async def until(true: Callable[[], bool]) -> None:
    """Returns once it is."""
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)
