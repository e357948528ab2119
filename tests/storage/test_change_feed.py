"""How the changes are read: by their time, and by a connection that is made anew when it fails."""

from datetime import timedelta

import asyncpg
import pytest

from tests.storage.database import open_database
from watchword.changes.model import Change, ChangeKind
from watchword.crypto import new_id
from watchword.storage.changes import ChangeFeed, ChangeStore
from watchword.storage.transactions import PgTx

Sql = asyncpg.Connection

# $1 how many, a hundredth of a second apart.
MANY = """
    INSERT INTO changes (slot, at, id, kind, role, revoked)
    SELECT n % 4096, now() - n * interval '10 ms', gen_random_uuid(), 'role', 'auditor', false
    FROM generate_series(1, $1) AS n
"""


async def test_a_reading_costs_what_is_new(sql: Sql) -> None:
    """Ten minutes of changes are kept, and the index leads to those of the last seconds.

    Seen to fail without the index on (at, id).
    """
    await sql.execute(MANY, 60_000)
    await sql.execute("ANALYZE changes")
    since = await sql.fetchval("SELECT now()") - timedelta(seconds=12)
    literal = ChangeFeed.READ.replace("$1", f"'{since.isoformat()}'")
    plan = "\n".join(row[0] for row in await sql.fetch(f"EXPLAIN {literal}"))
    assert "changes_at" in plan, plan
    assert "Seq Scan on changes" not in plan, plan


async def test_only_what_began_since_is_read(database_url: str, tx: PgTx, sql: Sql) -> None:
    """At the very moment and later, in the order of their times; none is an answer as well."""
    async with open_database(database_url) as database:
        feed = ChangeFeed(database._pool)
        try:
            put = [Change(new_id(0), ChangeKind.ROLE, role=name) for name in "abc"]
            for change in put:
                await tx.changes.put(change)
            times = [row["at"] for row in await sql.fetch("SELECT at FROM changes ORDER BY at")]
            for number, at in enumerate(times):
                reading = await feed.read(since=at)
                assert reading.changes == put[number:]
                assert reading.database_time > times[-1]
            nothing = await feed.read(since=times[-1] + timedelta(microseconds=1))
            assert nothing.changes == []
            assert nothing.server_start < times[0]
        finally:
            feed.close()


async def test_a_failed_reading_is_followed_by_a_new_connection(
    database_url: str, sql: Sql
) -> None:
    """The error is the driver's own, and the next reading is good."""
    async with open_database(database_url) as database:
        feed = ChangeFeed(database._pool)
        try:
            since = (await feed.read(since=await sql.fetchval("SELECT now()"))).database_time
            await sql.execute("ALTER TABLE changes RENAME TO gone")
            try:
                with pytest.raises(asyncpg.UndefinedTableError):
                    await feed.read(since=since)
            finally:
                await sql.execute("ALTER TABLE gone RENAME TO changes")
            assert (await feed.read(since=since)).changes == []
        finally:
            feed.close()


async def test_a_version_is_raised_by_one(tx: PgTx) -> None:
    """For nobody there is none to raise."""
    assert isinstance(tx.changes, ChangeStore)
    assert await tx.changes.raise_version(new_id(7)) is None
