"""Callers' keys: made, listed, ended, and read whole by every server again and again."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from watchword.callers.model import Caller, NewServiceKey, Scope, ServiceKey, StoredCaller
from watchword.storage.own_connection import OwnConnection
from watchword.storage.pool import Connection, Pool

# A third of the lease: after one reading that hangs there is time for another.
READ_SECONDS = 0.3


def _service_key_of(row: asyncpg.Record) -> ServiceKey:
    return ServiceKey(
        id=row["id"],
        name=row["name"],
        scopes=_scopes(row["scopes"]),
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        suspend_time=row["suspend_time"],
        last_used_time=row["last_used_time"],
    )


def _scopes(texts: Sequence[str]) -> frozenset[Scope]:
    """Reads scopes; one that this program does not know opens nothing here."""
    known = set(Scope)
    return frozenset(Scope(text) for text in texts if text in known)


class ServiceKeyStore:
    """Implements watchword.callers.ports.ServiceKeyStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 id, $2 name, $3 digest, $4 scopes, $5 end or NULL. No row for an end that is over.
    INSERT = """
        INSERT INTO service_keys (id, name, digest, scopes, create_time, expire_time)
        SELECT $1, $2, $3, $4, now(), $5::timestamptz
        WHERE $5::timestamptz IS NULL OR $5::timestamptz > now()
        RETURNING id, name, scopes, create_time, expire_time, revoke_time, suspend_time,
                  last_used_time
    """

    async def insert(self, key: NewServiceKey) -> ServiceKey | None:
        row = await self._connection.fetchrow(
            self.INSERT, key.id, key.name, key.digest, sorted(key.scopes), key.expire_time
        )
        return None if row is None else _service_key_of(row)

    GET = """
        SELECT id, name, scopes, create_time, expire_time, revoke_time, suspend_time,
               last_used_time
        FROM service_keys
        WHERE id = $1
    """

    async def get(self, key_id: UUID) -> ServiceKey | None:
        row = await self._connection.fetchrow(self.GET, key_id)
        return None if row is None else _service_key_of(row)

    # $1 the id before which the page begins or NULL, $2 how many. Ids begin with the time at which
    # they were made.
    LIST_ALL = """
        SELECT id, name, scopes, create_time, expire_time, revoke_time, suspend_time,
               last_used_time
        FROM service_keys
        WHERE $1::uuid IS NULL OR id < $1
        ORDER BY id DESC
        LIMIT $2
    """

    async def list_all(self, *, before: UUID | None, limit: int) -> Sequence[ServiceKey]:
        rows = await self._connection.fetch(self.LIST_ALL, before, limit)
        return [_service_key_of(row) for row in rows]

    REVOKE = """
        UPDATE service_keys
        SET revoke_time = now()
        WHERE id = $1 AND revoke_time IS NULL
        RETURNING id
    """

    async def revoke(self, key_id: UUID) -> bool:
        return await self._connection.fetchval(self.REVOKE, key_id) is not None

    SUSPEND_ALL = """
        WITH suspended AS (
            UPDATE service_keys
            SET suspend_time = now()
            WHERE revoke_time IS NULL AND suspend_time IS NULL
              AND (expire_time IS NULL OR expire_time > now())
            RETURNING id
        )
        SELECT count(*) FROM suspended
    """

    async def suspend_all(self) -> int:
        suspended: int = await self._connection.fetchval(self.SUSPEND_ALL)
        return suspended

    CONFIRM = """
        UPDATE service_keys
        SET suspend_time = NULL
        WHERE id = $1 AND suspend_time IS NOT NULL AND revoke_time IS NULL
        RETURNING id
    """

    async def confirm(self, key_id: UUID) -> bool:
        return await self._connection.fetchval(self.CONFIRM, key_id) is not None

    # $1 digests. Once in a while is enough: a server comes back with the same ones.
    NOTE_USED = """
        UPDATE service_keys
        SET last_used_time = now()
        WHERE digest = ANY($1::bytea[])
    """

    async def note_used(self, digests: Sequence[bytes]) -> None:
        await self._connection.execute(self.NOTE_USED, digests)


class ServiceKeyFeed:
    """Implements watchword.callers.ports.ServiceKeyFeed.

    It has a connection of its own: a full pool must not shut callers out.
    """

    def __init__(self, pool: Pool) -> None:
        self._own = OwnConnection(pool)

    READ = """
        SELECT digest, name, scopes
        FROM service_keys
        WHERE revoke_time IS NULL AND suspend_time IS NULL
          AND (expire_time IS NULL OR expire_time > now())
    """

    async def read(self) -> Sequence[StoredCaller]:
        """Raises whatever the driver raises, and TimeoutError after 300 ms."""
        async with self._own.use(READ_SECONDS) as connection:
            rows = await connection.fetch(self.READ)
        return [
            StoredCaller(row["digest"], Caller(row["name"], _scopes(row["scopes"]))) for row in rows
        ]

    def close(self) -> None:
        """Cuts the connection off; the next reading opens another."""
        self._own.close()
