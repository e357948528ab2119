"""run_tx and run_statement on a real PostgreSQL: what is committed, undone and run again."""

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

import asyncpg
import pytest

from tests.storage.conftest import Connect
from tests.storage.database import open_database, raw
from watchword.errors import StorageUnavailable, UsernameTaken
from watchword.login.ports import Tx
from watchword.storage.pool import Isolation
from watchword.storage.transactions import ATTEMPTS_MAX

Sql = asyncpg.Connection

LEVELS = get_args(Isolation)
# What a transaction that works on what it read needs, and READ COMMITTED does not give.
SNAPSHOT_LEVELS = ("repeatable_read", "serializable")


@pytest.fixture(autouse=True)
async def counters(sql: Sql) -> AsyncIterator[None]:
    """A table to work on: `a` and `b` are 0."""
    await sql.execute("CREATE TABLE counters (name text PRIMARY KEY, value integer NOT NULL)")
    await sql.execute("INSERT INTO counters (name, value) VALUES ('a', 0), ('b', 0)")
    yield
    await sql.execute("DROP TABLE IF EXISTS counters")


async def value_of(sql: Sql, name: str) -> int:
    """Returns a counter as others see it."""
    return await sql.fetchval("SELECT value FROM counters WHERE name = $1", name)


async def add(tx: Tx, name: str, amount: int = 1) -> None:
    """Adds to a counter, in one statement."""
    await raw(tx).execute("UPDATE counters SET value = value + $2 WHERE name = $1", name, amount)


@pytest.mark.parametrize("level", LEVELS)
async def test_what_the_function_returns_is_answered_and_committed(
    database_url: str, sql: Sql, level: Isolation
) -> None:
    """The result comes back when others see the rows, at the level that was asked for."""

    async def work(tx: Tx) -> str:
        await add(tx, "a")
        return await raw(tx).fetchval("SHOW transaction_isolation")

    async with open_database(database_url, isolation=level) as database:
        assert await database.run_tx(work) == level.replace("_", " ")
        assert await value_of(sql, "a") == 1
        assert await database.run_statement(work) == level.replace("_", " ")
        assert await value_of(sql, "a") == 2


async def test_an_exception_undoes_everything(database_url: str, sql: Sql) -> None:
    """What the function raises passes as it is, none of its rows stay, and it ran once."""
    attempts = 0

    async def work(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await add(tx, "a")
        raise UsernameTaken

    async with open_database(database_url, pool_size=1) as database:
        with pytest.raises(UsernameTaken):
            await database.run_tx(work)
        assert await value_of(sql, "a") == 0
        assert attempts == 1
        # The connection that it used is fit for the next.
        await database.run_tx(lambda tx: add(tx, "b"))
    assert await value_of(sql, "b") == 1


async def test_a_cancelled_call_undoes_everything(database_url: str, sql: Sql) -> None:
    """A deadline that ends a call in the middle of a statement leaves no row and no lock."""
    async with open_database(database_url, pool_size=1) as database:

        async def work(tx: Tx) -> None:
            await add(tx, "a")
            await raw(tx).execute("SELECT pg_sleep(30)")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await database.run_tx(work)
        await database.run_tx(lambda tx: add(tx, "a", 10))
    assert await value_of(sql, "a") == 10


async def test_a_defect_is_no_outage(database_url: str) -> None:
    """An error of PostgreSQL that speaks of a defect passes, so that it is logged whole."""

    async def work(tx: Tx) -> None:
        await raw(tx).execute("INSERT INTO counters (name, value) VALUES ('a', 1)")

    async with open_database(database_url) as database:
        with pytest.raises(asyncpg.UniqueViolationError):
            await database.run_tx(work)
        with pytest.raises(asyncpg.UniqueViolationError):
            await database.run_statement(work)


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
async def test_a_lost_race_runs_the_whole_function_again(
    database_url: str, sql: Sql, level: Isolation
) -> None:
    """Guards the retry of 40001: two read, then both write; a retry of the last statement alone
    would write what was read before the other's commit.
    """
    both_have_read = asyncio.Barrier(2)
    attempts: dict[int, list[int]] = {1: [], 2: []}

    async def work(tx: Tx, number: int) -> int:
        value = await raw(tx).fetchval("SELECT value FROM counters WHERE name = 'a'")
        attempts[number].append(value)
        if len(attempts[number]) == 1:
            await both_have_read.wait()
        await raw(tx).execute("UPDATE counters SET value = $1 WHERE name = 'a'", value + 1)
        return value

    async with open_database(database_url, isolation=level) as database:
        answers = await asyncio.gather(
            *(database.run_tx(lambda tx, number=number: work(tx, number)) for number in (1, 2))
        )
    assert sorted(answers) == [0, 1]
    # The result is the last attempt's; the first of the loser saw 0 as well.
    assert sorted(attempts.values(), key=len) == [[0], [0, 1]]
    assert await value_of(sql, "a") == 2


async def test_a_race_lost_in_commit_is_run_again(database_url: str, sql: Sql) -> None:
    """Guards the retry of a 40001 that COMMIT itself raises: each reads the other's counter and
    writes its own, which no order of the two explains.
    """
    both_have_written = asyncio.Barrier(2)
    attempts = 0

    async def work(tx: Tx, mine: str, other: str) -> int:
        nonlocal attempts
        attempts += 1
        first = attempts <= 2
        value = await raw(tx).fetchval("SELECT value FROM counters WHERE name = $1", other)
        await raw(tx).execute("UPDATE counters SET value = $2 WHERE name = $1", mine, value + 1)
        if first:
            await both_have_written.wait()
        return value

    async with open_database(database_url, isolation="serializable") as database:
        answers = await asyncio.gather(
            database.run_tx(lambda tx: work(tx, "a", "b")),
            database.run_tx(lambda tx: work(tx, "b", "a")),
        )
    assert attempts == 3
    assert sorted(answers) == [0, 1]
    assert sorted([await value_of(sql, "a"), await value_of(sql, "b")]) == [1, 2]


async def test_a_deadlock_is_run_again(database_url: str, sql: Sql) -> None:
    """Guards the retry of 40P01: two take the same locks in opposite order, and both finish."""
    both_hold_one = asyncio.Barrier(2)
    attempts = 0

    async def work(tx: Tx, first: str, second: str) -> None:
        nonlocal attempts
        attempts += 1
        meet = attempts <= 2
        await add(tx, first)
        if meet:
            await both_hold_one.wait()
        await add(tx, second)

    async with open_database(database_url) as database:
        await asyncio.gather(
            database.run_tx(lambda tx: work(tx, "a", "b")),
            database.run_tx(lambda tx: work(tx, "b", "a")),
        )
    assert attempts == 3
    assert [await value_of(sql, "a"), await value_of(sql, "b")] == [2, 2]


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
async def test_a_race_lost_five_times_is_unavailable(
    database_url: str, sql: Sql, level: Isolation
) -> None:
    """Guards the bound: somebody else commits into each attempt, and the fifth was the last."""
    attempts = 0

    async def work(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await raw(tx).fetchval("SELECT value FROM counters WHERE name = 'a'")
        await sql.execute("UPDATE counters SET value = value + 1 WHERE name = 'a'")
        await add(tx, "a", 100)

    async with open_database(database_url, isolation=level, pool_size=1) as database:
        with pytest.raises(StorageUnavailable) as caught:
            await database.run_tx(work)
        assert isinstance(caught.value.__cause__, asyncpg.SerializationError)
        assert attempts == ATTEMPTS_MAX == 5
        assert await value_of(sql, "a") == 5
        await database.run_tx(lambda tx: add(tx, "b"))
    assert await value_of(sql, "b") == 1


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
async def test_a_single_statement_that_lost_a_race_is_run_again(
    database_url: str, sql: Sql, connect: Connect, level: Isolation
) -> None:
    """Guards the retry in run_statement: it waits for another's row lock, and that one commits."""
    other = await connect()
    attempts = 0

    async def work(tx: Tx) -> None:
        nonlocal attempts
        attempts += 1
        await add(tx, "a", 10)

    async with open_database(database_url, isolation=level) as database:
        async with other.transaction():
            await other.execute("UPDATE counters SET value = value + 1 WHERE name = 'a'")
            waiting = asyncio.create_task(database.run_statement(work))
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'watchword'"
                " AND datname = current_database() AND wait_event_type = 'Lock'"
            )
            while not await sql.fetchval(blocked):
                await asyncio.sleep(0.01)
        await waiting
    assert attempts == 2
    assert await value_of(sql, "a") == 11
