"""A connection beside the pool, for what must not wait in line for one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from watchword.storage.pool import Pool

CONNECT_SECONDS = 1.0


class OwnConnection:
    """Opened at its first use, and anew after one that went wrong."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: asyncpg.Connection | None = None

    @asynccontextmanager
    async def use(self, seconds: float | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Lends it for so long, not counted what it takes to connect; whatever goes wrong inside
        cuts it off. Raises whatever the driver raises, and TimeoutError.
        """
        if self._connection is None or self._connection.is_closed():
            async with asyncio.timeout(CONNECT_SECONDS):
                self._connection = await self._pool.connect()
        try:
            async with asyncio.timeout(seconds):
                yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cuts it off."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
