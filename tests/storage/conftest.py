"""Databases, connections and the log for the tests of storage/."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from tests.support.postgres import DatabaseServer
from watchword.observability.logging import LogSettings, configure_logging
from watchword.storage.transactions import PgTx

# What a test left open, so that it holds no lock.
END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000)
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
TABLES = """
    SELECT tablename
    FROM pg_tables
    WHERE schemaname = 'public' AND tablename NOT IN ('schema_migrations', 'installation')
"""
CALM = "UPDATE installation SET eight_digits_until_us = 0, long_codes_until_us = 0"
Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


@pytest.fixture
def log() -> io.StringIO:
    """What is logged."""
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream=stream)
    return stream


@pytest.fixture
async def empty_database_url(postgres: DatabaseServer) -> AsyncIterator[str]:
    """The URL of a database without any table."""
    name = postgres.next_name("empty")
    yield await postgres.create_database(name)
    await postgres.drop_database(name)


@pytest.fixture(scope="session")
async def shared_database_url(postgres: DatabaseServer, template: str) -> str:
    """A migrated database that the tests of rows use one after the other."""
    return await postgres.create_database("storage_rows", template=template)


@pytest.fixture
async def own_database_url(postgres: DatabaseServer, template: str) -> AsyncIterator[str]:
    """A migrated database for a test that changes the schema."""
    name = postgres.next_name("storage")
    yield await postgres.create_database(name, template=template)
    await postgres.drop_database(name)


@pytest.fixture
async def database_url(shared_database_url: str) -> str:
    """The shared database without any row; emptying it costs a tenth of a copy."""
    connection = await asyncpg.connect(shared_database_url)
    try:
        await connection.execute(END_OTHERS)
        tables = [row["tablename"] for row in await connection.fetch(TABLES)]
        await connection.execute(f"TRUNCATE {', '.join(tables)}")
        await connection.execute(CALM)
    finally:
        await connection.close()
    return shared_database_url


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Connect]:
    """Opens connections to the test's database, each closed at its end."""
    async with AsyncExitStack() as stack:

        async def open_connection() -> "asyncpg.Connection[asyncpg.Record]":
            connection = await asyncpg.connect(database_url)
            stack.push_async_callback(connection.close, timeout=5)
            return connection

        yield open_connection


@pytest.fixture
async def sql(connect: Connect) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection that looks at the rows."""
    return await connect()


@pytest.fixture
async def tx(connect: Connect) -> PgTx:
    """The stores on a connection of their own; each statement commits by itself."""
    return PgTx(await connect())  # type: ignore[arg-type]  # what the pool lends behaves like it
