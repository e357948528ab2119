"""A server in the test's own process whose reads of sessions wait until the test goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import pytest

from tests.support.running import RunningApp, running_app
from watchword.login.ports import Tx
from watchword.storage.live_sessions import decoded
from watchword.storage.transactions import PgDatabase

T = TypeVar("T")
WAIT_SECONDS = 10.0


class HeldReads:
    """What was read of sessions, a number for each statement, and where the answers wait."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.open = asyncio.Event()

    async def wait_for(self, reads: int) -> None:
        """Waits until so many statements were answered."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.sizes) < reads:
                await asyncio.sleep(0.005)

    async def hold(self, found: Collection[UUID]) -> None:
        """Notes a read, and lets its answer wait."""
        self.sizes.append(len(found))
        await self.open.wait()


class HeldDatabase:
    """The database; after its look-up of many sessions `hold` is awaited with what was found."""

    def __init__(
        self, database: PgDatabase, hold: Callable[[Collection[UUID]], Awaitable[None]]
    ) -> None:
        self._database = database
        self._hold = hold
        self.run_tx = database.run_tx

    async def run_statement(self, fn: Callable[[Tx], Awaitable[T]]) -> T:
        result = await self._database.run_statement(fn)
        match result:
            case (dict() as found, datetime()):
                await self._hold(found)
            case [bytes(), *_] as rows:
                await self._hold(decoded(rows)[0])
        return result


@asynccontextmanager
async def held_reads(
    database_url: str, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[tuple[RunningApp, HeldReads]]:
    """The server, and its reads, which wait until `open` is set."""
    reads = HeldReads()
    monkeypatch.setattr(
        "watchword.app.PgDatabase", lambda pool: HeldDatabase(PgDatabase(pool), reads.hold)
    )
    async with running_app(database_url, **settings) as app:
        yield app, reads
        reads.open.set()
