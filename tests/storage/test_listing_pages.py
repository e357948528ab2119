"""A late page of a listing reads no more than the first: the table's size has no part in it."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from benchmarks.listings import FILL_EVENTS, FILL_USERS
from tests.support.postgres import DatabaseServer
from watchword.storage.audit import LOOKED_AT_MAX, AuditStore
from watchword.storage.user_lists import UserListStore

Sql = asyncpg.Connection

ROWS, PAGE = 20_000, 50
RATIO_MAX = 2.0
FIRST_USER, LATE_USER = (-1, UUID(int=0)), (3_900, UUID(int=0))
LATEST, ANY_ID = datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
async def full(postgres: DatabaseServer, template: str) -> AsyncIterator[Sql]:
    """A connection to a database with 20,000 users and events."""
    name = postgres.next_name("listings")
    connection = await asyncpg.connect(await postgres.create_database(name, template=template))
    try:
        await connection.execute(FILL_USERS, ROWS)
        await connection.execute(FILL_EVENTS, ROWS)
        await connection.execute(
            "INSERT INTO user_roles (slot, user_id, role, create_time)"
            " SELECT slot, id, 'editor', now() FROM users WHERE slot % 2 = 0"
        )
        await connection.execute("VACUUM (ANALYZE) users, user_roles, audit_events")
        yield connection
    finally:
        await connection.close()
        await postgres.drop_database(name)


async def blocks(sql: Sql, statement: str, arguments: Sequence[object]) -> int:
    """How many blocks a statement reads, in memory or not, and that it finds a whole page."""
    explained = await sql.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments
    )
    plan = json.loads(explained)[0]["Plan"]
    assert plan["Actual Rows"] == PAGE
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("listing", ["LIST_ALL", "LIST_ACTIVE", "LIST_DISABLED", "LIST_HOLDERS"])
async def test_a_late_page_of_users_costs_what_the_first_does(full: Sql, listing: str) -> None:
    """20,000 users; `python -m benchmarks.listings` measures it over 1,000,000."""
    statement = getattr(UserListStore, listing)

    def asked(after: tuple[int, UUID]) -> tuple[object, ...]:
        if listing == "LIST_HOLDERS":
            return ("editor", *after, PAGE, None)
        return (*after, PAGE)

    first = await blocks(full, statement, asked(FIRST_USER))
    assert await blocks(full, statement, asked(LATE_USER)) <= RATIO_MAX * first


@pytest.mark.parametrize("action", [None, "revoke"])
async def test_a_late_page_of_events_costs_what_the_first_does(
    full: Sql, action: str | None
) -> None:
    """20,000 events; `python -m benchmarks.listings` measures it over 5,000,000."""
    late = await full.fetchval("SELECT at FROM audit_events ORDER BY at OFFSET 1000 LIMIT 1")
    first, last = [
        await blocks(
            full,
            AuditStore.LIST_ALL,
            (at, ANY_ID, action, None, EARLIEST, LATEST, PAGE, LOOKED_AT_MAX),
        )
        for at in (LATEST, late)
    ]
    assert last <= RATIO_MAX * first
