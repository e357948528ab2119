"""A mutation and its change: one transaction, the user's slot, and a version above the last."""

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

import asyncpg
import pytest

from tests.storage.change_scenarios import SCENARIOS, World, stored_session, world_on
from tests.storage.database import (
    open_database,
)
from tests.support.cutting_proxy import Cut, CuttingProxy
from watchword.crypto import MintedSession, slot_of
from watchword.errors import (
    StorageUnavailable,
)
from watchword.storage.pool import Isolation

Sql = asyncpg.Connection

LEVELS = get_args(Isolation)
PARALLEL = 12
COMMIT = "COMMIT;"
INSERT_CHANGE = "INSERT INTO changes"
FORBID = "ALTER TABLE changes ADD CONSTRAINT forbidden CHECK (false) NOT VALID"
ALLOW = "ALTER TABLE changes DROP CONSTRAINT IF EXISTS forbidden"


@pytest.fixture
async def world(database_url: str, sql: Sql) -> AsyncIterator[World]:
    """READ COMMITTED, past no proxy; whatever a test forbids is allowed again."""
    async with open_database(database_url, pool_size=PARALLEL) as database:
        yield await world_on(database, sql)
    await sql.execute(ALLOW)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_mutation_and_its_change_are_one_transaction(world: World, name: str) -> None:
    """One change, written by the very transaction, in the slot of its user, with the new version.

    Seen to fail with the change put in a transaction of its own.
    """
    scenario = SCENARIOS[name]
    await scenario.before(world)
    assert await scenario.act(world) == scenario.answer
    assert await world.changes() == [scenario.change(world)]
    assert await world.version() == (40 if scenario.kind == "role" else 41)
    (by,) = await world.sql.fetchrow(scenario.written)
    rows = await world.sql.fetch("SELECT xmin::text, slot, id FROM changes")
    assert [row["xmin"] for row in rows] == [by]
    assert slot_of(rows[0]["id"]) == rows[0]["slot"]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_changes_nothing_leaves_no_change(world: World, name: str) -> None:
    """The second time there is nothing to do: no version is raised and no change is written."""
    scenario = SCENARIOS[name]
    await scenario.before(world)
    await scenario.act(world)
    version, changes = await world.version(), await world.changes()
    assert (await scenario.act(world) == scenario.answer) is scenario.same_again
    assert (await world.version(), await world.changes()) == (version, changes)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_without_its_change_nothing_is_done(world: World, name: str) -> None:
    """A change that cannot be stored takes its mutation back; afterwards both succeed.

    Seen to fail with the change left out.
    """
    scenario = SCENARIOS[name]
    await scenario.before(world)
    await world.sql.execute(FORBID)
    with pytest.raises(asyncpg.CheckViolationError):
        await scenario.act(world)
    assert await world.changes() == []
    assert await world.version() == 40
    await world.sql.execute(ALLOW)
    assert await scenario.act(world) == scenario.answer
    assert await world.changes() == [scenario.change(world)]


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("statement", [INSERT_CHANGE, COMMIT])
async def test_a_lost_connection_leaves_both_or_neither(
    database_url: str, sql: Sql, statement: str, cut: Cut
) -> None:
    """At the change's own statement neither is there, in COMMIT what was committed."""
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        world = await world_on(database, sql)
        proxy.arm(statement, cut)
        if (statement, cut) == (COMMIT, Cut.AFTER):
            assert await world.revoke() == 1
        else:
            with pytest.raises(StorageUnavailable):
                await world.revoke()
            assert await world.changes() == []
            assert await world.version() == 40
            assert await world.revoke() == 1
        assert proxy.has_cut
        assert await world.changes() == [SCENARIOS["revoke"].change(world)]


@pytest.mark.parametrize("level", LEVELS)
async def test_versions_of_a_user_are_given_out_once(
    database_url: str, sql: Sql, level: Isolation
) -> None:
    """Many sessions of a user revoked at once, each twice: every end has a version of its own.

    Seen to fail with the version read before and set from outside.
    """
    async with open_database(database_url, isolation=level, pool_size=PARALLEL) as database:
        world = await world_on(database, sql)
        minted = [
            await database.run_statement(lambda tx: stored_session(tx, world.user))
            for _ in range(PARALLEL)
        ]
        await sql.execute("UPDATE sessions SET epoch = 3")
        start = asyncio.Barrier(2 * PARALLEL)

        async def at_once(session: MintedSession) -> int:
            await start.wait()
            while True:
                try:
                    return await world.revoke(session)
                except StorageUnavailable:
                    # Lost five races, above READ COMMITTED.
                    await asyncio.sleep(0.01)

        counts = await asyncio.gather(*(at_once(session) for session in minted * 2))
        assert sum(counts) == PARALLEL
        changes = await world.changes()
        versions = [change[6] for change in changes]
        assert len(set(versions)) == len(versions) == PARALLEL
        assert {change[3] for change in changes} == {session.session_id for session in minted}
        assert max(versions) <= await world.version()


async def test_the_user_is_locked_before_the_session(world: World, database_url: str) -> None:
    """While somebody holds the user, a revoke waits there, and has not locked the session yet.

    Seen to fail with the session ended first: a transaction that locks in the right order and this
    one would wait for each other.
    """
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM users FOR UPDATE")
            revoking = asyncio.create_task(world.revoke())
            async with asyncio.timeout(10):
                while not await world.sql.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ):
                    await asyncio.sleep(0.005)
            await other.execute("SELECT 1 FROM sessions FOR UPDATE NOWAIT")
        assert await revoking == 1
    finally:
        await other.close()
