"""The writer of refusals on a real database that is in its way."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from tests.storage.database import events, open_database
from tests.support.cutting_proxy import Cut, CuttingProxy
from watchword.audit.model import Action, Event, Outcome, Target, TargetKind
from watchword.audit.refusals import Refusals
from watchword.crypto import new_id
from watchword.jobs import audit_writer
from watchword.jobs.audit_writer import BATCH, AuditWriter
from watchword.storage.migrate import migrate

Sql = asyncpg.Connection

COMMIT = "COMMIT;"


def refused(name: int | str = "ada") -> Event:
    """A wrong code for somebody."""
    target = Target(TargetKind.SUBJECT, str(name))
    return Event(
        id=new_id(7),
        action=Action.SIGN_IN,
        outcome=Outcome.WRONG_CODE,
        actor="gateway",
        target=target,
        client_ip="192.0.2.1",
    )


def noted(refusals: Refusals, number: int) -> None:
    """So many wrong codes for one person."""
    for _ in range(number):
        refusals.note(refused())


async def counts(sql: Sql) -> list[int]:
    """The counts of the stored events, in the order of their times."""
    return [row[0] for row in await sql.fetch("SELECT count FROM audit_events ORDER BY at, id")]


@contextlib.asynccontextmanager
async def writing(writer: AuditWriter) -> AsyncIterator[None]:
    """The writer is at work; fails if it ends."""
    task = asyncio.create_task(writer.run())
    try:
        yield
        assert not task.done(), "the writer died"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_thousand_refusals_are_one_event(database_url: str, sql: Sql) -> None:
    """With their number; a flush of nothing stores nothing, and asks nothing of the database.

    Seen to fail with each refusal under a key of its own.
    """
    refusals = Refusals()
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        writer = AuditWriter(database, refusals)
        noted(refusals, 1_000)
        await writer.flush()
        assert await counts(sql) == [1_000]
        trips = proxy.round_trips
        await writer.flush()
        assert proxy.round_trips == trips
        noted(refusals, 3)
        await writer.flush()
    assert await counts(sql) == [1_000, 3]


async def test_it_stores_once_a_minute(
    database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not sooner, so that a guesser gets one row for each minute of work."""
    assert audit_writer.FLUSH_SECONDS == 60
    monkeypatch.setattr(audit_writer, "FLUSH_SECONDS", 0.3)
    refusals = Refusals()
    clock = asyncio.get_running_loop().time
    async with open_database(database_url) as database:
        started = clock()
        async with writing(AuditWriter(database, refusals)), asyncio.timeout(20):
            while not await counts(sql):
                refusals.note(refused())
                await asyncio.sleep(0.01)
            assert clock() - started >= 0.3
            while len(await counts(sql)) < 3:
                refusals.note(refused())
                await asyncio.sleep(0.01)
            assert clock() - started >= 0.9


async def test_more_than_a_batch_is_stored_in_several(database_url: str, sql: Sql) -> None:
    """Each event once, whatever the batches."""
    refusals = Refusals()
    for number in range(2 * BATCH + 1):
        refusals.note(refused(number))
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        await AuditWriter(database, refusals).flush()
        assert proxy.seen[COMMIT] == 3
    names = await sql.fetch("SELECT target_id FROM audit_events")
    assert sorted(int(row[0]) for row in names) == list(range(2 * BATCH + 1))


async def test_a_database_that_is_away_loses_no_count(
    empty_database_url: str, log: io.StringIO
) -> None:
    """Kept and merged into the next, as often as it takes; here there is no table at first.

    Seen to fail without `put_back`.
    """
    refusals = Refusals()
    async with open_database(empty_database_url) as database:
        writer = AuditWriter(database, refusals)
        for _ in range(3):
            noted(refusals, 10)
            await writer.flush()
        assert len(refusals) == 30
        assert len(events(log, "refusals put off")) == 3
        await migrate(empty_database_url)
        noted(refusals, 5)
        await writer.flush()
        assert len(refusals) == 0
        sql = await asyncpg.connect(empty_database_url)
        try:
            assert await counts(sql) == [35]
        finally:
            await sql.close()


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("text", ["INSERT INTO audit_events", COMMIT])
async def test_a_lost_connection_counts_nothing_twice(
    database_url: str, sql: Sql, text: str, cut: Cut
) -> None:
    """A COMMIT without an answer is looked up: what it took is not stored again.

    Seen to fail with `run_statement` in place of `run_tx` and its look-up.
    """
    refusals = Refusals()
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        writer = AuditWriter(database, refusals)
        noted(refusals, 10)
        proxy.arm(text, cut)
        await writer.flush()
        assert proxy.has_cut
        taken = (text, cut) == (COMMIT, Cut.AFTER)
        assert await counts(sql) == ([10] if taken else [])
        assert len(refusals) == (0 if taken else 10)
        noted(refusals, 1)
        await writer.flush()
    assert sum(await counts(sql)) == 11


async def test_what_was_stored_of_a_flush_is_not_put_back(database_url: str, sql: Sql) -> None:
    """When the second batch fails, the first one stays stored and is not counted again."""
    refusals = Refusals()
    for number in range(BATCH + 1):
        refusals.note(refused(number))
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        writer = AuditWriter(database, refusals)

        async def fail_second() -> None:
            while not proxy.seen[COMMIT]:
                await asyncio.sleep(0)
            proxy.arm("INSERT INTO audit_events", Cut.BEFORE)

        failing = asyncio.create_task(fail_second())
        await writer.flush()
        await failing
        assert proxy.has_cut
        assert (len(await counts(sql)), len(refusals)) == (BATCH, 1)
        await writer.flush()
    assert len(await counts(sql)) == BATCH + 1


async def test_the_last_flush_waits_for_one_under_way(database_url: str, sql: Sql) -> None:
    """What a flush holds when the end comes is stored, once.

    Seen to fail without the lock: the drain finds nothing to do, and the jobs are stopped.
    """
    refusals = Refusals()
    noted(refusals, 10)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("LOCK TABLE audit_events IN SHARE MODE")
    async with open_database(database_url) as database:
        writer = AuditWriter(database, refusals)
        flushing = asyncio.create_task(writer.flush())
        while len(refusals):
            await asyncio.sleep(0)
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0.2)
        assert not draining.done()
        await transaction.commit()
        await draining
        assert flushing.done()
    assert await counts(sql) == [10]


async def test_the_end_does_not_wait_for_a_database_for_ever(
    database_url: str, sql: Sql, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its seconds, and the log says how many refusals were lost."""
    assert audit_writer.DRAIN_SECONDS == 5
    monkeypatch.setattr(audit_writer, "DRAIN_SECONDS", 0.2)
    refusals = Refusals()
    noted(refusals, 10)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("LOCK TABLE audit_events IN SHARE MODE")
    async with open_database(database_url, statement_timeout=timedelta(seconds=20)) as database:
        async with asyncio.timeout(10):
            await AuditWriter(database, refusals).drain()
        assert [record["count"] for record in events(log, "refusals lost")] == [10]
        await transaction.rollback()
    assert await counts(sql) == []
