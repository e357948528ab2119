"""Numbered, forward-only migrations, each applied once and recorded with its sha256.

Code runs before and after each migration: a file that has been released is never edited, and a
later migration that this program does not know is no hindrance.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources

import asyncpg

from watchword.storage.cluster import record_cluster
from watchword.storage.pool import Connection

# "watchword" in ASCII, cut to 63 bits: the key of the advisory lock.
_LOCK_KEY = int.from_bytes(b"watchwor") & 0x7FFF_FFFF_FFFF_FFFF
_LOCK_POLL_SECONDS = 0.2
CONNECT_TIMEOUT_SECONDS = 10.0
_LOCK_WAIT_SECONDS = 60.0
# The one that makes room for the cluster.
_CLUSTER_VERSION = 15
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class MigrationError(Exception):
    """The schema and this program's migrations do not go together; the message has the hint."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of storage/migrations."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The hash that is recorded, over the file's bytes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> Sequence[Migration]:
    """Returns this program's migrations in order; raises ValueError on a misnamed file."""
    found = []
    for file in resources.files("watchword.storage").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise ValueError(f"`{file.name}` is not named like `0001_initial.sql`")
        found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return sorted(found, key=lambda migration: migration.version)


CREATE_LEDGER = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version integer PRIMARY KEY,
        name text NOT NULL,
        sha256 text NOT NULL,
        applied_time timestamptz NOT NULL
    )
"""
LEDGER_EXISTS = "SELECT to_regclass('schema_migrations') IS NOT NULL"
APPLIED = "SELECT version, sha256 FROM schema_migrations"
RECORD = """
    INSERT INTO schema_migrations (version, name, sha256, applied_time)
    VALUES ($1, $2, $3, now())
"""
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"


async def pending_migrations(
    connection: "asyncpg.Connection[asyncpg.Record] | Connection",
) -> Sequence[Migration]:
    """Returns what is still to be applied; raises MigrationError when an applied file differs."""
    applied: dict[int, str] = {}
    if await connection.fetchval(LEDGER_EXISTS):
        applied = {row["version"]: row["sha256"] for row in await connection.fetch(APPLIED)}
    pending = []
    for migration in known_migrations():
        recorded = applied.get(migration.version)
        if recorded is None:
            pending.append(migration)
        elif recorded != migration.sha256:
            raise MigrationError(
                f"migration `{migration.version:04}_{migration.name}` was applied from other text\n"
                "hint: this program and the one that migrated are not of one line of releases"
            )
    return pending


DATABASE_NAME = "watchword"
DATABASE_EXISTS = "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = 'watchword')"
CREATE_DATABASE = "CREATE DATABASE watchword"


async def ensure_database(url: str) -> None:
    """Makes the database `watchword` on the server of this URL unless it is there.

    For development: an installation's database is made by whoever runs its PostgreSQL.
    """
    connection = await _connect(url, database="postgres")
    try:
        if not await connection.fetchval(DATABASE_EXISTS):
            await connection.execute(CREATE_DATABASE)
    finally:
        await connection.close(timeout=5)


async def migrate(url: str) -> Sequence[Migration]:
    """Applies what is pending, each file in a transaction of its own, and returns it.

    Several may be started at once: one works, the others wait up to a minute and find nothing left.
    In which cluster the database is, is recorded as soon as there is room for it. Raises
    MigrationError, also for a database that cannot be reached.
    """
    connection = await _connect(url)
    try:
        async with _lock(connection):
            pending = await pending_migrations(connection)
            await connection.execute(CREATE_LEDGER)
            for migration in pending:
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        RECORD, migration.version, migration.name, migration.sha256
                    )
            if _CLUSTER_VERSION in {migration.version for migration in known_migrations()}:
                await record_cluster(connection)
            return pending
    finally:
        await connection.close(timeout=5)


async def check(url: str) -> Sequence[Migration]:
    """Returns what `migrate` would apply, and changes nothing."""
    connection = await _connect(url)
    try:
        return await pending_migrations(connection)
    finally:
        await connection.close(timeout=5)


async def _connect(
    url: str, *, database: str | None = None
) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await asyncpg.connect(
            url,
            database=database,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"timezone": "UTC"},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationError(
            f"the database cannot be reached: {error or type(error).__name__}\n"
            "hint: look at WATCHWORD_DATABASE__URL, and whether PostgreSQL runs"
        ) from error


@asynccontextmanager
async def _lock(connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    # Polled: a session that waits inside pg_advisory_lock holds a snapshot, which a
    # CREATE INDEX CONCURRENTLY of the one that works would wait for.
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _LOCK_WAIT_SECONDS
    while not await connection.fetchval(TRY_LOCK, _LOCK_KEY):
        if loop.time() > give_up:
            raise MigrationError(
                "another `watchword migrate` has held the lock for a minute\n"
                "hint: look for it in pg_locks (locktype `advisory`)"
            )
        await asyncio.sleep(_LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        await connection.fetchval(UNLOCK, _LOCK_KEY)
