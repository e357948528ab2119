"""Is the database there, and is its schema this program's?"""

from watchword.storage.migrate import pending_migrations
from watchword.storage.own_connection import OwnConnection
from watchword.storage.pool import Pool

PING = "SELECT 1"


class DatabaseProbe:
    """What readiness asks; raises whatever the driver raises.

    It has a connection of its own: a pool that is busy must not look like a database that is gone,
    nor the other way round.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._own = OwnConnection(pool)

    async def ping(self) -> None:
        """Returns when PostgreSQL has answered."""
        async with self._own.use() as connection:
            await connection.fetchval(PING)

    async def missing_migrations(self) -> int:
        """Returns how many migrations of this program are not applied."""
        async with self._own.use() as connection:
            return len(await pending_migrations(connection))

    async def reconnect(self) -> None:
        """Has every connection of the pool made anew at its next use."""
        await self._pool.reconnect()

    def close(self) -> None:
        """Cuts the connection off; the next question opens another."""
        self._own.close()
