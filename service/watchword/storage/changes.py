"""Changes: written with what they tell of, read by every replica, purged by storage/purge.py."""

from datetime import datetime
from uuid import UUID

import asyncpg

from watchword.changes.model import Change, ChangeKind, Reading, UserVersion
from watchword.crypto import slot_of
from watchword.storage.own_connection import OwnConnection
from watchword.storage.pool import Connection, Pool

# A third of the lease: after one reading that hangs there is time for another.
READ_SECONDS = 0.3


class ChangeStore:
    """Implements watchword.changes.ports.ChangeStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    RAISE_VERSION = """
        UPDATE users
        SET version = version + 1
        WHERE slot = $1 AND id = $2
        RETURNING id, auth_epoch, version
    """

    async def raise_version(self, user_id: UUID) -> UserVersion | None:
        row = await self._connection.fetchrow(self.RAISE_VERSION, slot_of(user_id), user_id)
        return None if row is None else UserVersion(row["id"], row["auth_epoch"], row["version"])

    # $1 slot, $2 id, $3 kind, $4 user id, $5 session id, $6 role, $7 epoch, $8 version, $9 revoked
    PUT = """
        INSERT INTO changes (slot, at, id, kind, user_id, session_id, role, epoch, version, revoked)
        VALUES ($1, now(), $2, $3, $4, $5, $6, $7, $8, $9)
    """

    VERSION_OF = "SELECT id, auth_epoch, version FROM users WHERE slot = $1 AND id = $2"

    async def version_of(self, user_id: UUID) -> UserVersion | None:
        row = await self._connection.fetchrow(self.VERSION_OF, slot_of(user_id), user_id)
        return None if row is None else UserVersion(row["id"], row["auth_epoch"], row["version"])

    async def put(self, change: Change) -> None:
        user = change.user
        await self._connection.execute(
            self.PUT,
            slot_of(change.id),
            change.id,
            change.kind,
            None if user is None else user.user_id,
            change.session_id,
            change.role,
            None if user is None else user.epoch,
            None if user is None else user.version,
            change.revoked,
        )


class ChangeFeed:
    """Implements watchword.changes.ports.ChangeFeed.

    It has a connection of its own: a full pool must not let the lease run out.
    """

    def __init__(self, pool: Pool) -> None:
        self._own = OwnConnection(pool)

    # The time is that of the statement's beginning, before its snapshot, and is there without any
    # change as well.
    # sql-rules: all slots (the poll of changes)
    READ = """
        SELECT d.database_time, d.server_start, c.id, c.kind, c.user_id, c.session_id, c.role,
               c.epoch, c.version, c.revoked
        FROM (SELECT now() AS database_time, pg_postmaster_start_time() AS server_start) AS d
        LEFT JOIN changes AS c ON c.at >= $1
        ORDER BY c.at, c.id
    """

    async def read(self, *, since: datetime) -> Reading:
        """Raises whatever the driver raises, and TimeoutError after 300 ms."""
        async with self._own.use(READ_SECONDS) as connection:
            rows = await connection.fetch(self.READ, since)
        return Reading(
            changes=[_change_of(row) for row in rows if row["id"] is not None],
            database_time=rows[0]["database_time"],
            server_start=rows[0]["server_start"],
        )

    def close(self) -> None:
        """Cuts the connection off; the next reading opens another."""
        self._own.close()


def _change_of(row: asyncpg.Record) -> Change:
    """Maps a row with the columns of changes."""
    has_version = row["version"] is not None
    return Change(
        id=row["id"],
        kind=ChangeKind(row["kind"]),
        user=UserVersion(row["user_id"], row["epoch"], row["version"]) if has_version else None,
        session_id=row["session_id"],
        role=row["role"],
        revoked=row["revoked"],
    )
