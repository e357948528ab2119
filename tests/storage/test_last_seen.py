"""When a session was last seen: what the statements go by, and the writer on a real database."""

import asyncio
import io
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.storage.database import HOUR, events, open_database
from tests.storage.test_statements import VERIFIER, stored_session, stored_user
from tests.support.age import age
from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.running import Statements
from watchword.crypto import new_id
from watchword.jobs import last_seen_writer
from watchword.jobs.last_seen_writer import LastSeenWriter
from watchword.sessions.last_seen import LastSeen
from watchword.storage import migrate as migrate_module
from watchword.storage.migrate import known_migrations, migrate
from watchword.storage.sessions import SessionStore
from watchword.storage.transactions import PgDatabase, PgTx

Sql = asyncpg.Connection

IDLE = timedelta(minutes=20)
PERIOD = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
UPDATE = "UPDATE sessions AS s"
LAST_SEEN = "SELECT last_seen_time FROM sessions WHERE id = $1"


async def now_of(sql: Sql) -> datetime:
    """The database's time."""
    now: datetime = await sql.fetchval("SELECT now()")
    return now


async def stored(sql: Sql, session_id: UUID) -> datetime:
    """The stored last-seen of a session."""
    time: datetime = await sql.fetchval(LAST_SEEN, session_id)
    return time


async def sessions_of(tx: PgTx, count: int) -> list[UUID]:
    """Sessions of one user."""
    user = await stored_user(tx)
    return [(await stored_session(tx, user)).id for _ in range(count)]


async def seen_by(sql: Sql, ids: Sequence[UUID]) -> tuple[LastSeen, datetime]:
    """A process that has seen these sessions now, which are an hour old, and that time."""
    now = await now_of(sql)
    last_seen = LastSeen(IDLE)
    for session_id in ids:
        assert last_seen.note(session_id, stored=now - HOUR, seen=now)
    return last_seen, now


async def test_an_idle_session_is_not_found(tx: PgTx, database_url: str) -> None:
    """Found until it is idle, and not from then on (the guard: `s.last_seen_time + $3`); a use that
    becomes known late brings it back.
    """
    [session_id] = await sessions_of(tx, 1)
    for by, lives in ((IDLE - 5 * SECOND, True), (5 * SECOND, False)):
        await age(database_url, by)
        found = await tx.live_sessions.find(session_id, idle_lifetime=IDLE)
        assert (found is not None) is lives
    assert await tx.live_sessions.find(session_id, idle_lifetime=2 * IDLE) is not None
    await tx.sessions.note_seen({session_id: await now_of(tx._connection)}, period=PERIOD)
    assert await tx.live_sessions.find(session_id, idle_lifetime=IDLE) is not None


async def test_an_idle_session_can_be_revoked(tx: PgTx, database_url: str) -> None:
    """It is idle for its users alone: were the setting raised, it would live."""
    [session_id] = await sessions_of(tx, 1)
    await age(database_url, 2 * IDLE)
    assert await tx.live_sessions.find(session_id, idle_lifetime=IDLE) is None
    assert await tx.sessions.revoke(session_id, verifier=VERIFIER)
    assert await tx.live_sessions.find(session_id, idle_lifetime=HOUR) is None


@pytest.mark.parametrize(
    ("ahead", "kept"),
    [(-PERIOD, False), (PERIOD - SECOND, False), (PERIOD, True), (2 * PERIOD, True)],
)
async def test_it_is_written_once_a_period(
    tx: PgTx, sql: Sql, database_url: str, ahead: timedelta, kept: bool
) -> None:
    """By whichever replica, and never back (the guard: `s.last_seen_time + $4`)."""
    [session_id] = await sessions_of(tx, 1)
    await age(database_url, HOUR)
    before = await stored(sql, session_id)
    await tx.sessions.note_seen({session_id: before + ahead}, period=PERIOD)
    assert await stored(sql, session_id) == before + (ahead if kept else timedelta(0))


async def test_the_future_puts_no_end_off(tx: PgTx, sql: Sql, database_url: str) -> None:
    """A gate whose time is ahead writes the database's (the guard: LEAST)."""
    [session_id] = await sessions_of(tx, 1)
    await age(database_url, HOUR)
    await tx.sessions.note_seen({session_id: await now_of(sql) + HOUR}, period=PERIOD)
    now = await now_of(sql)
    assert now - timedelta(minutes=1) < await stored(sql, session_id) <= now


async def test_a_revoked_session_stays_as_it_was(tx: PgTx, sql: Sql, database_url: str) -> None:
    """A write that waited for the revoke finds it over and does nothing (the guard: `revoke_time IS
    NULL`), and does not mind a session that is gone.
    """
    ended, other = await sessions_of(tx, 2)
    await age(database_url, HOUR)
    before, now = await stored(sql, ended), await now_of(sql)
    seen = {ended: now, other: now, new_id(7): now}
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("UPDATE sessions SET revoke_time = now() WHERE id = $1", ended)
    writing = asyncio.create_task(tx.sessions.note_seen(seen, period=PERIOD))
    await asyncio.sleep(0.2)
    assert not writing.done()
    await transaction.commit()
    await writing
    assert await stored(sql, ended) == before
    assert await stored(sql, other) == now
    assert await tx.live_sessions.find(ended, idle_lifetime=HOUR) is None


async def test_two_writers_at_once_end_no_session_and_no_writer(
    database_url: str, tx: PgTx, sql: Sql
) -> None:
    """Each of two writes the same 100 sessions 20 times, in an order of its own: the latest time
    stands, and none waits for the other for ever. A small table is read through, so that they may
    deadlock; then `run_statement` sends the batch again.
    """
    ids = await sessions_of(tx, 100)
    start = await now_of(sql) - HOUR
    await sql.execute("UPDATE sessions SET last_seen_time = $1", start - HOUR)

    async def note(database: PgDatabase, seen: dict[UUID, datetime]) -> None:
        await database.run_statement(lambda tx: tx.sessions.note_seen(seen, period=timedelta(0)))

    async def write(chance: random.Random, database: PgDatabase) -> None:
        for number in range(1, 21):
            order = chance.sample(ids, len(ids))
            await note(database, dict.fromkeys(order, start + number * SECOND))

    async with (
        open_database(database_url) as one,
        open_database(database_url) as other,
        asyncio.timeout(60),
    ):
        await asyncio.gather(write(random.Random(0), one), write(random.Random(1), other))
    assert {await stored(sql, session_id) for session_id in ids} == {start + 20 * SECOND}


async def test_a_batch_locks_its_sessions_in_one_order(
    tx: PgTx, sql: Sql, database_url: str
) -> None:
    """Who waits for the first has none of the others, whichever came first: of two replicas that
    write the same sessions one waits, and neither is ended by PostgreSQL.

    Seen to fail with the rows not sorted.
    """
    ids = sorted(await sessions_of(tx, 100))
    await age(database_url, HOUR)
    # With the table's size known the rows are looked up in the batch's order.
    await sql.execute("ANALYZE sessions")
    now = await now_of(sql)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("SELECT id FROM sessions WHERE id = $1 FOR UPDATE", ids[0])
    seen = dict.fromkeys(reversed(ids), now)
    writing = asyncio.create_task(tx.sessions.note_seen(seen, period=PERIOD))
    await asyncio.sleep(0.3)
    assert not writing.done()
    free = await sql.fetch("SELECT id FROM sessions FOR UPDATE SKIP LOCKED")
    assert len(free) == len(ids)
    await transaction.commit()
    await writing
    assert {await stored(sql, session_id) for session_id in ids} == {now}


async def test_more_than_a_batch_is_stored_in_several(
    database_url: str, tx: PgTx, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement for each batch and no other; nothing to store asks nothing of the database."""
    assert last_seen_writer.BATCH == 500
    monkeypatch.setattr(last_seen_writer, "BATCH", 2)
    ids = await sessions_of(tx, 5)
    await age(database_url, HOUR)
    last_seen, now = await seen_by(sql, ids)
    statements = Statements()
    async with open_database(database_url, query_logger=statements.log) as database:
        writer = LastSeenWriter(database, last_seen)
        await writer.flush()
        assert statements.seen.count(SessionStore.NOTE_SEEN.strip()) == 3
        statements.clear()
        await writer.flush()
        assert statements.seen == []
    assert {await stored(sql, session_id) for session_id in ids} == {now}


async def test_it_stores_every_few_seconds(database_url: str, tx: PgTx, sql: Sql) -> None:
    """Every two, or twice a period where that is shorter."""
    assert timedelta(seconds=2) == last_seen_writer.FLUSH_INTERVAL
    [session_id] = await sessions_of(tx, 1)
    await age(database_url, HOUR)
    async with open_database(database_url) as database:
        assert LastSeenWriter(database, LastSeen(IDLE))._interval == 2 * SECOND
        last_seen = LastSeen(2 * SECOND)
        writer = LastSeenWriter(database, last_seen)
        assert writer._interval == SECOND / 20
        writing = asyncio.create_task(writer.run())
        try:
            async with asyncio.timeout(20):
                for _ in range(3):
                    now = await now_of(sql)
                    last_seen.add(session_id, now)
                    while await stored(sql, session_id) != now:
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(0.1)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.parametrize("cut", Cut)
async def test_a_lost_connection_loses_nothing(
    database_url: str, tx: PgTx, sql: Sql, log: io.StringIO, cut: Cut
) -> None:
    """What could not be stored, or may have been, is stored with the next flush.

    Seen to fail without `put_back`.
    """
    ids = await sessions_of(tx, 3)
    await age(database_url, HOUR)
    last_seen, now = await seen_by(sql, ids)
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        writer = LastSeenWriter(database, last_seen)
        proxy.arm(UPDATE, cut)
        await writer.flush()
        assert proxy.has_cut
        assert len(last_seen) == 3
        [put_off] = events(log, "last-seen put off")
        assert put_off["sessions"] == 3
        await writer.flush()
        assert len(last_seen) == 0
    assert {await stored(sql, session_id) for session_id in ids} == {now}


async def test_a_database_that_stays_away_is_told_of_once(
    empty_database_url: str, log: io.StringIO
) -> None:
    """Not with each flush; and what waits is kept."""
    last_seen = LastSeen(IDLE)
    async with open_database(empty_database_url) as database:
        writer = LastSeenWriter(database, last_seen)
        for _ in range(3):
            last_seen.add(new_id(7), datetime.now().astimezone())
            await writer.flush()
    assert len(last_seen) == 3
    assert len(events(log, "last-seen put off")) == 1


class Hits:
    """A gate whose queue was full: no test makes 8,192 hits in two seconds."""

    def __init__(self, *reports: tuple[UUID, datetime], dropped: int) -> None:
        self._reports, self._dropped = reports, dropped

    def take_seen(self) -> tuple[Sequence[tuple[UUID, datetime]], int]:
        """Gives everything once."""
        taken = self._reports, self._dropped
        self._reports, self._dropped = (), 0
        return taken


async def test_what_had_no_room_is_told(
    database_url: str, tx: PgTx, sql: Sql, log: io.StringIO
) -> None:
    """With its number, once; what there was room for is stored."""
    [session_id] = await sessions_of(tx, 1)
    await age(database_url, HOUR)
    now = await now_of(sql)
    async with open_database(database_url) as database:
        hits = Hits((session_id, now), dropped=7)
        writer = LastSeenWriter(database, LastSeen(IDLE), hits)
        for _ in range(2):
            await writer.flush()
    assert [record["sessions"] for record in events(log, "last-seen dropped")] == [7]
    assert await stored(sql, session_id) == now


async def test_the_last_flush_waits_for_one_under_way(
    database_url: str, tx: PgTx, sql: Sql
) -> None:
    """What a flush holds when the end comes is stored.

    Seen to fail without the lock: the drain finds nothing to do, and the jobs are stopped.
    """
    ids = await sessions_of(tx, 1)
    await age(database_url, HOUR)
    last_seen, now = await seen_by(sql, ids)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("LOCK TABLE sessions IN SHARE MODE")
    async with open_database(database_url) as database:
        writer = LastSeenWriter(database, last_seen)
        flushing = asyncio.create_task(writer.flush())
        while len(last_seen):
            await asyncio.sleep(0)
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0.2)
        assert not draining.done()
        await transaction.commit()
        await draining
        assert flushing.done()
    assert await stored(sql, ids[0]) == now


async def test_the_end_does_not_wait_for_a_database_for_ever(
    database_url: str, tx: PgTx, sql: Sql, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its seconds, and the log says how many sessions it is behind on."""
    assert last_seen_writer.DRAIN_SECONDS == 5
    monkeypatch.setattr(last_seen_writer, "DRAIN_SECONDS", 0.2)
    ids = await sessions_of(tx, 2)
    last_seen, _ = await seen_by(sql, ids)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("LOCK TABLE sessions IN SHARE MODE")
    async with open_database(database_url, statement_timeout=timedelta(seconds=20)) as database:
        async with asyncio.timeout(10):
            await LastSeenWriter(database, last_seen).drain()
        assert [record["sessions"] for record in events(log, "last-seen lost")] == [2]
        await transaction.rollback()


async def test_a_migration_signs_nobody_out(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session from before counts as seen at the migration, and one that an older program still
    makes as seen when it is made.
    """
    whole = known_migrations()
    monkeypatch.setattr(migrate_module, "known_migrations", lambda: whole[:10])
    await migrate(empty_database_url)
    insert = """
        INSERT INTO sessions (slot, id, user_id, verifier, key_id, epoch, create_time, auth_time,
                              expire_time)
        SELECT slot, gen_random_uuid(), id, 'x', 1, 0, now(), now(), now() + interval '30 days'
        FROM users
    """
    sql = await asyncpg.connect(empty_database_url)
    try:
        await stored_user(PgTx(sql))  # type: ignore[arg-type]  # as in `tx`
        await sql.execute(insert)
        await age(empty_database_url, timedelta(days=29))
        monkeypatch.undo()
        await migrate(empty_database_url)
        await sql.execute(insert)
        ages = await sql.fetch("SELECT now() - last_seen_time AS age FROM sessions")
    finally:
        await sql.close()
    assert [row["age"] < timedelta(minutes=1) for row in ages] == [True, True]
