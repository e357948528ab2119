"""Is the database there, and is its schema this program's?"""

from watchword.storage.migrate import pending_migrations
from watchword.storage.pool import Pool

PING = "SELECT 1"


class DatabaseProbe:
    """What readiness asks; raises whatever the driver raises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """Returns when PostgreSQL has answered."""
        async with self._pool.connection() as connection:
            await connection.fetchval(PING)

    async def missing_migrations(self) -> int:
        """Returns how many migrations of this program are not applied."""
        async with self._pool.connection() as connection:
            return len(await pending_migrations(connection))
