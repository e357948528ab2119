"""Stores the counted refusals once a minute, and when the process ends.

A process that is killed loses those of its last minute. While the database is away they are kept
and go on counting.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

import structlog

from watchword.audit.model import Event
from watchword.audit.refusals import Refusals
from watchword.errors import Overloaded, StorageUnavailable
from watchword.login.ports import Database, Tx

# Never sooner: it is what bounds how fast a guesser can make the table grow.
FLUSH_SECONDS = 60.0
BATCH = 500
DRAIN_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class AuditWriter:
    """The writer of this process."""

    def __init__(self, database: Database, refusals: Refusals) -> None:
        self._database = database
        self._refusals = refusals
        # The last flush waits for one that is under way, whose events would otherwise come back.
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Stores them for ever; a database that is gone is asked again a minute later."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def drain(self) -> None:
        """Stores what is left, within 5 seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.flush()
        if self._refusals:
            _log.error("refusals lost", count=len(self._refusals))

    async def flush(self) -> None:
        """Stores what has been counted; what cannot be stored is counted on."""
        async with self._turn:
            waiting = self._refusals.take()
            try:
                while waiting:
                    batch = dict(islice(waiting.items(), BATCH))
                    await self._store(list(batch.values()))
                    for key in batch:
                        del waiting[key]
            except (StorageUnavailable, Overloaded) as error:
                _log.warning("refusals put off", error=type(error).__name__, events=len(waiting))
            finally:
                self._refusals.put_back(waiting)

    async def _store(self, events: Sequence[Event]) -> None:
        async def transaction(tx: Tx) -> None:
            await tx.audit.put_all(events)

        # All of them or none: one tells whether a COMMIT without an answer was taken. Only when
        # that cannot be asked either may a batch be stored twice.
        await self._database.run_tx(
            transaction, committed=lambda tx, _: tx.audit.exists(events[0].id)
        )
