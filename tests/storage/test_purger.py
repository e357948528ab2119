"""The job on a real database that is in its way."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from tests.storage.budgets import by_id, live
from tests.storage.database import (
    HOUR,
    events,
    new_challenge,
    new_registration,
    open_database,
    subject,
)
from tests.support.age import age
from watchword.audit.model import Action, AuditSettings, Event
from watchword.changes.model import Change, ChangeKind
from watchword.crypto import SLOTS, new_id
from watchword.jobs import purger
from watchword.jobs.purger import REST_MIN_SECONDS, Purger, PurgeSettings
from watchword.login.ports import PURGE_BATCH
from watchword.sessions.model import Client, NewSession
from watchword.storage.migrate import migrate
from watchword.storage.transactions import PgDatabase, PgTx

Sql = asyncpg.Connection

# Shorter than a setting may be.
SETTINGS = PurgeSettings.model_construct(
    interval=timedelta(seconds=0.05), retention=HOUR, session_retention=HOUR
)


@contextlib.asynccontextmanager
async def purging(database: PgDatabase) -> AsyncIterator[None]:
    """A purger is at work; fails if it ends."""
    task = asyncio.create_task(Purger(database, SETTINGS, AuditSettings()).run())
    try:
        yield
        assert not task.done(), "the purger died"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(sql: Sql, question: str) -> None:
    """Returns once the database says yes."""
    async with asyncio.timeout(20):
        while not await sql.fetchval(question):
            await asyncio.sleep(0.01)


async def until_logged(log: io.StringIO, event: str) -> None:
    """Returns once the event is in the log."""
    async with asyncio.timeout(20):
        while not events(log, event):
            await asyncio.sleep(0.01)


async def test_a_kind_that_fails_stops_neither_the_others_nor_the_purger(
    tx: PgTx, sql: Sql, database_url: str, log: io.StringIO
) -> None:
    """A statement that takes too long is logged and comes again; the other kinds get their turn."""
    await tx.challenges.insert(new_challenge())
    await tx.registrations.insert(new_registration(), lifetime=HOUR)
    await age(database_url, HOUR * 3)
    async with open_database(
        database_url, statement_timeout=timedelta(milliseconds=100)
    ) as database:
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute("LOCK TABLE challenges IN ACCESS EXCLUSIVE MODE")
        async with purging(database):
            await until(sql, "SELECT count(*) = 0 FROM registrations")
            await until_logged(log, "purge put off")
            assert await sql.fetchval("SELECT count(*) FROM challenges") == 1
            await transaction.commit()
            await until(sql, "SELECT count(*) = 0 FROM challenges")
    assert events(log, "purge put off")[0]["error"] == "StorageUnavailable"
    assert events(log, "database unavailable")[0]["error"] == "QueryCanceledError"


async def test_failures_in_a_row_outlive_the_longest_window(
    tx: PgTx, sql: Sql, database_url: str
) -> None:
    """After 30 days a budget goes once somebody has signed in; failures in a row stay for a year.

    Seen to fail with the purger's year made a month: a guesser who rests for 30 days could begin
    again at 0 of 100 (NIST SP 800-63B-4, 3.2.2).
    """
    for name, in_a_row in (("settled", 0), ("guessed", 1)):
        assert (await by_id(tx, await live(tx, sql, name=name))).sources
        await sql.execute(
            "UPDATE subject_budgets SET in_a_row = $1 WHERE subject_key = $2",
            in_a_row,
            subject(name),
        )
    async with open_database(database_url) as database, purging(database):
        await age(database_url, timedelta(days=31))
        await until(sql, "SELECT count(*) = 1 FROM subject_budgets")
        await age(database_url, timedelta(days=333))
        await tx.registrations.insert(new_registration(), lifetime=HOUR)
        await age(database_url, HOUR * 3)
        await until(sql, "SELECT count(*) = 0 FROM registrations")
        assert await sql.fetchval("SELECT in_a_row FROM subject_budgets") == 1
        await age(database_url, timedelta(days=2))
        await until(sql, "SELECT count(*) = 0 FROM subject_budgets")


async def test_audit_events_have_a_retention_of_their_own(
    tx: PgTx, sql: Sql, database_url: str
) -> None:
    """What is older than 90 days goes, what is younger stays, whatever else is kept for an hour."""
    old, young = (Event(id=new_id(0), action=Action.REVOKE, actor="tests") for _ in range(2))
    await tx.audit.put(old)
    await age(database_url, timedelta(days=2))
    await tx.audit.put(young)
    await age(database_url, timedelta(days=89))
    await tx.challenges.insert(new_challenge())
    await age(database_url, HOUR * 3)
    async with open_database(database_url) as database, purging(database):
        await until(sql, "SELECT count(*) = 1 FROM audit_events")
        await until(sql, "SELECT count(*) = 0 FROM challenges")
    assert [row["id"] for row in await sql.fetch("SELECT id FROM audit_events")] == [young.id]


async def test_changes_are_kept_for_ten_minutes(tx: PgTx, sql: Sql, database_url: str) -> None:
    """What is older goes and what is younger stays, whatever else is kept for an hour.

    Seen to fail with five minutes in the purger.
    """
    old, young = (Change(id=new_id(0), kind=ChangeKind.ROLE, role="auditor") for _ in range(2))
    await tx.changes.put(old)
    await age(database_url, timedelta(minutes=1))
    await tx.changes.put(young)
    await age(database_url, timedelta(minutes=9, seconds=1))
    async with open_database(database_url) as database, purging(database):
        await until(sql, "SELECT count(*) = 1 FROM changes")
    assert await sql.fetchval("SELECT id FROM changes") == young.id


async def test_a_database_without_tables_is_waited_for(
    empty_database_url: str, log: io.StringIO
) -> None:
    """A purger that runs before `migrate` begins its work after it."""
    async with open_database(empty_database_url) as database, purging(database):
        await until_logged(log, "purge put off")
        await migrate(empty_database_url)
        sql = await asyncpg.connect(empty_database_url)
        try:
            await PgTx(sql).challenges.insert(new_challenge())  # type: ignore[arg-type]
            await age(empty_database_url, HOUR * 3)
            await until(sql, "SELECT count(*) = 0 FROM challenges")
        finally:
            await sql.close()


async def test_a_pass_rests_after_a_full_batch_and_is_told_in_one_line(
    tx: PgTx, sql: Sql, database_url: str, log: io.StringIO
) -> None:
    """Two full batches are two rests; passes that remove nothing say nothing.

    Seen to fail without the sleep in Purger._remove_batch.
    """
    for _ in range(2 * PURGE_BATCH + 1):
        await tx.challenges.insert(new_challenge())
    await age(database_url, HOUR * 3)
    async with open_database(database_url) as database, purging(database):
        await until_logged(log, "purged")
        await asyncio.sleep(SETTINGS.interval.total_seconds() * 4)
    [told] = events(log, "purged")
    assert told["challenges"] == 2 * PURGE_BATCH + 1
    assert told["seconds"] >= 2 * REST_MIN_SECONDS


async def test_what_died_lately_is_kept(tx: PgTx, sql: Sql, database_url: str) -> None:
    """Rows dead for less than the retention stay while those dead for longer go."""
    await tx.challenges.insert(new_challenge("old"))
    await tx.registrations.hold_username("old", subject_key=b"x", lifetime=timedelta(0))
    await age(database_url, timedelta(minutes=10))
    await tx.challenges.insert(new_challenge("new"))
    await tx.registrations.hold_username("new", subject_key=b"x", lifetime=timedelta(0))
    await age(database_url, timedelta(minutes=59))
    async with open_database(database_url) as database, purging(database):
        await until(sql, "SELECT count(*) = 1 FROM challenges")
        await until(sql, "SELECT count(*) = 1 FROM identifiers")
        await asyncio.sleep(SETTINGS.interval.total_seconds() * 4)
    assert await sql.fetchval("SELECT value FROM identifiers") == "new"
    assert await sql.fetchval("SELECT now() - expire_time < interval '1 hour' FROM challenges")


async def test_every_slot_has_its_turn(
    tx: PgTx, sql: Sql, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions below their user's epoch are found in whatever slot, here in one pass of all."""
    monkeypatch.setattr(purger, "SLOTS_PER_PASS", SLOTS)
    for slot in (0, 1, 2048, SLOTS - 1):
        user = await tx.users.insert(replace(new_registration(), user_id=new_id(slot)).account)
        await tx.sessions.insert(
            NewSession(new_id(slot), user.id, bytes(32), 1, 0, HOUR * 9, Client())
        )
    await sql.execute("UPDATE users SET auth_epoch = 1")
    await age(database_url, HOUR * 3)
    async with open_database(database_url) as database, purging(database):
        await until(sql, "SELECT count(*) = 0 FROM sessions")
