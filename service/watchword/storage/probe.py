"""Is the database there, and is its schema this program's?"""

from watchword.storage.migrate import pending_migrations
from watchword.storage.pool import Pool

PING = "SELECT 1"
# Less than what readiness gives the probe as a whole.
WAIT_SECONDS = 0.7


class DatabaseProbe:
    """What readiness asks; raises whatever the driver raises.

    It waits for its connection where calls are refused: a busy database must not look like one that
    is gone, nor the other way round.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """Returns when PostgreSQL has answered."""
        async with self._pool.connection(wait_seconds=WAIT_SECONDS) as connection:
            await connection.fetchval(PING)

    async def missing_migrations(self) -> int:
        """Returns how many migrations of this program are not applied."""
        async with self._pool.connection(wait_seconds=WAIT_SECONDS) as connection:
            return len(await pending_migrations(connection))

    async def reconnect(self) -> None:
        """Has every connection of the pool made anew at its next use."""
        await self._pool.reconnect()
