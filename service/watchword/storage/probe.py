"""Is the database there, and is its schema this program's?"""

import asyncpg

from watchword.storage.migrate import pending_migrations
from watchword.storage.pool import Pool

PING = "SELECT 1"


class DatabaseProbe:
    """What readiness asks; raises whatever the driver raises.

    It has a connection of its own: a pool that is busy must not look like a database that is gone,
    nor the other way round.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: asyncpg.Connection | None = None

    async def ping(self) -> None:
        """Returns when PostgreSQL has answered."""
        connection = await self._connected()
        try:
            await connection.fetchval(PING)
        except BaseException:
            self.close()
            raise

    async def missing_migrations(self) -> int:
        """Returns how many migrations of this program are not applied."""
        connection = await self._connected()
        try:
            return len(await pending_migrations(connection))
        except BaseException:
            self.close()
            raise

    async def reconnect(self) -> None:
        """Has every connection of the pool made anew at its next use."""
        await self._pool.reconnect()

    def close(self) -> None:
        """Cuts the connection off; the next question opens another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._pool.connect()
        return self._connection
