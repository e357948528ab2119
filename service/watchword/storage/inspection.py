"""What `watchword doctor` asks PostgreSQL, on one connection of its own; it changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from watchword.login.ports import KeyUse
from watchword.otp.level import CodeLevel
from watchword.storage.cluster import (
    Cluster,
    ConfirmedCluster,
    confirmed_cluster,
    present_cluster,
)
from watchword.storage.key_use import KeyUseStore
from watchword.storage.migrate import known_migrations, pending_migrations
from watchword.storage.pool import DatabaseSettings

CONNECT_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 1.0
# What the program reads and writes; `schema_migrations` is the migrations' own.
TABLES = (
    "audit_events",
    "challenges",
    "changes",
    "email_changes",
    "failure_counts",
    "identifiers",
    "installation",
    "outbox",
    "rate_limits",
    "registrations",
    "role_permissions",
    "roles",
    "service_keys",
    "sessions",
    "subject_budgets",
    "user_roles",
    "users",
)
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of itself and of this connection; limits of -1 are none."""

    version: str
    version_number: int
    tls: str | None
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    max_connections: int
    reserved_connections: int
    role_connections: int
    database_connections: int
    superuser: bool
    standby: bool
    read_only: bool


@dataclass(frozen=True, slots=True)
class Outbox:
    """Mails that are late, and those that were given up."""

    waiting: int
    dropped: int


class Inspection:
    """The questions."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    @property
    def lost(self) -> bool:
        """Whether the connection is of no more use."""
        return self._connection.is_closed()

    def give_up(self) -> None:
        """Drops the connection without waiting for the server."""
        self._connection.terminate()

    # The second `current_setting` is of PostgreSQL 16 and newer.
    SERVER = """
        SELECT current_setting('server_version') AS version,
               current_setting('server_version_num')::integer AS version_number,
               s.version AS tls,
               current_setting('fsync')::boolean AS fsync,
               current_setting('full_page_writes')::boolean AS full_page_writes,
               current_setting('synchronous_commit') AS synchronous_commit,
               current_setting('max_connections')::integer AS max_connections,
               current_setting('superuser_reserved_connections')::integer
                   + coalesce(current_setting('reserved_connections', true)::integer, 0)
                   AS reserved_connections,
               r.rolconnlimit AS role_connections,
               d.datconnlimit AS database_connections,
               r.rolsuper AS superuser,
               pg_is_in_recovery() AS standby,
               current_setting('default_transaction_read_only')::boolean AS read_only
        FROM pg_roles r
        JOIN pg_database d ON d.datname = current_database()
        LEFT JOIN pg_stat_ssl s ON s.pid = pg_backend_pid()
        WHERE r.rolname = current_user
    """

    async def server(self) -> Server:
        row = await self._connection.fetchrow(self.SERVER)
        assert row is not None, "a session has a role and a database"
        return Server(**row)

    NOW = "SELECT now()"

    async def now(self) -> datetime:
        """The database's clock."""
        now: datetime = await self._connection.fetchval(self.NOW)
        return now

    async def pending_migrations(self) -> int:
        """How many migrations are not applied; raises MigrationError when one differs."""
        return len(await pending_migrations(self._connection))

    # $1 the newest version that this program knows
    NEWER_MIGRATIONS = "SELECT count(*) FROM schema_migrations WHERE version > $1"

    async def newer_migrations(self) -> int:
        """How many migrations are applied that this program does not know."""
        newest = known_migrations()[-1].version
        count: int = await self._connection.fetchval(self.NEWER_MIGRATIONS, newest)
        return count

    # $1 tables, $2 privileges
    MISSING_PRIVILEGES = """
        SELECT p.privilege, t.name
        FROM unnest($1::text[]) AS t(name)
        CROSS JOIN unnest($2::text[]) AS p(privilege)
        WHERE NOT has_table_privilege(t.name, p.privilege)
        ORDER BY t.name, p.privilege
    """

    async def missing_privileges(self) -> Sequence[str]:
        """What the role may not do, like `DELETE on users`; the schema has to be there."""
        rows = await self._connection.fetch(self.MISSING_PRIVILEGES, TABLES, PRIVILEGES)
        return [f"{row['privilege']} on {row['name']}" for row in rows]

    async def cluster(self) -> Cluster | None:
        """Returns where the database is; None when this role may not ask."""
        return await present_cluster(self._connection)

    async def confirmed_cluster(self) -> ConfirmedCluster | None:
        """Returns where it was last confirmed to be, if ever."""
        return await confirmed_cluster(self._connection)

    async def key_use(self, slots: Sequence[int], *, idle_lifetime: timedelta) -> Sequence[KeyUse]:
        """Returns which keys something alive in these slots has."""
        return await KeyUseStore(self._connection).in_slots(slots, idle_lifetime=idle_lifetime)

    # sql-rules: all slots (how the whole queue is)
    # $1 before when a mail that still waits is late, $2 since when dropped ones count
    OUTBOX = """
        SELECT count(*) FILTER (WHERE state = 'pending' AND create_time < $1) AS waiting,
               count(*) FILTER (WHERE state = 'dropped' AND end_time > $2) AS dropped
        FROM outbox
    """

    async def outbox(self, *, late_before: datetime, dropped_since: datetime) -> Outbox:
        row = await self._connection.fetchrow(self.OUTBOX, late_before, dropped_since)
        assert row is not None, "count has a row always"
        return Outbox(waiting=row["waiting"], dropped=row["dropped"])

    # In seconds since 1970
    CODE_LEVEL = """
        SELECT eight_digits_until_us / 1000000 AS eight_digits_until,
               long_codes_until_us / 1000000 AS long_codes_until
        FROM installation
        WHERE id = 1
    """

    async def code_level_ends(self) -> dict[CodeLevel, datetime]:
        """When each level of codes ends, or has ended."""
        row = await self._connection.fetchrow(self.CODE_LEVEL)
        assert row is not None, "the migration has made the row"
        return {
            CodeLevel.EIGHT_DIGITS: datetime.fromtimestamp(row["eight_digits_until"], UTC),
            CodeLevel.LONG_CODES: datetime.fromtimestamp(row["long_codes_until"], UTC),
        }


@asynccontextmanager
async def inspect(settings: DatabaseSettings) -> AsyncIterator[Inspection]:
    """Connects; raises whatever the driver raises, within 5 seconds."""
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
        connection = await asyncpg.connect(
            settings.url.get_secret_value(),
            server_settings={"application_name": "watchword doctor", "timezone": "UTC"},
        )
    try:
        yield Inspection(connection)
    finally:
        try:
            # From outside: the driver's own time-out waits for a server that was stopped.
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()
