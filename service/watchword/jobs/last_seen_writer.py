"""Stores when sessions were last seen, every few seconds in batches, and when the process ends.

What a process that is killed had not stored is noted again when the session is used again; until
then it is a period behind, as it may be anyway. While the database is away what was seen is kept,
and nearly nothing is added: without the database nobody is answered.

No change is left: nobody's answer becomes wrong by a session living longer, and a replica that goes
by an older time asks the database before it calls a session idle.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol
from uuid import UUID

import structlog

from watchword.errors import Overloaded, StorageUnavailable
from watchword.login.ports import Database
from watchword.sessions.last_seen import LastSeen

FLUSH_INTERVAL = timedelta(seconds=2)
# Milliseconds, for which a Revoke of one of them may wait.
BATCH = 500
DRAIN_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class SeenByHits(Protocol):
    """What the gate has answered without asking anybody."""

    def take_seen(self) -> tuple[Sequence[tuple[UUID, datetime]], int]:
        """Takes sessions and when each was seen, and how many had no room."""


class LastSeenWriter:
    """The writer of this process; `hits` is None where nothing answers from memory."""

    def __init__(
        self, database: Database, last_seen: LastSeen, hits: SeenByHits | None = None
    ) -> None:
        self._database = database
        self._last_seen = last_seen
        self._hits = hits
        # Twice a period: what waits here counts towards how far the stored time is behind.
        self._interval = min(FLUSH_INTERVAL, last_seen.period / 2)
        self._put_off = False
        # The last flush waits for one that is under way, whose batches would otherwise come back.
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Stores for ever; a database that is gone is asked again with the next flush."""
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            await self.flush()

    async def drain(self) -> None:
        """Stores what is left, within 5 seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.flush()
        if self._last_seen:
            _log.warning("last-seen lost", sessions=len(self._last_seen))

    async def flush(self) -> None:
        """Stores what has been seen; what cannot be stored is kept."""
        async with self._turn:
            self._collect()
            waiting = self._last_seen.take()
            try:
                while waiting:
                    batch = dict(islice(waiting.items(), BATCH))
                    await self._store(batch)
                    for session_id in batch:
                        del waiting[session_id]
                self._put_off = False
            except (StorageUnavailable, Overloaded) as error:
                self._tell(error, len(waiting))
            finally:
                self._last_seen.put_back(waiting)

    async def _store(self, batch: dict[UUID, datetime]) -> None:
        # Stored twice is stored once: a COMMIT without an answer is simply tried again.
        period = self._last_seen.period
        await self._database.run_statement(lambda tx: tx.sessions.note_seen(batch, period=period))

    def _collect(self) -> None:
        if self._hits is None:
            return
        reports, dropped = self._hits.take_seen()
        for session_id, seen in reports:
            dropped += not self._last_seen.add(session_id, seen)
        if dropped:
            _log.warning("last-seen dropped", sessions=dropped)

    def _tell(self, error: Exception, sessions: int) -> None:
        """Logs the first failure in a row, or each would be a line every two seconds."""
        if not self._put_off:
            _log.warning("last-seen put off", error=type(error).__name__, sessions=sessions)
        self._put_off = True
