"""Stores that refreshed secrets came into use, which gives the secrets before them an end.

As soon as it is seen, a few times a second, so that a copied secret is not good for long. What a
process that is killed had not stored is seen again with the session's next read.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol
from uuid import UUID

import structlog

from watchword.errors import Overloaded, StorageUnavailable
from watchword.login.ports import Database, SessionCache
from watchword.login.refresh import note_first_use
from watchword.sessions.first_use import FirstUses

INTERVAL_SECONDS: Final = 0.2
DRAIN_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class FirstUsesByHits(SessionCache, Protocol):
    """What the gate has answered without asking anybody."""

    def take_first_uses(self) -> tuple[Sequence[tuple[UUID, bytes]], int]:
        """Takes sessions with the verifier of the secret in use, and how many had no room."""


class FirstUseWriter:
    """The writer of this process; `hits` is None where nothing answers from memory."""

    def __init__(
        self, database: Database, first_uses: FirstUses, hits: FirstUsesByHits | None = None
    ) -> None:
        self._database = database
        self._first_uses = first_uses
        self._hits = hits

    async def run(self) -> None:
        """Stores for ever; a database that is gone is asked again a moment later."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.flush()

    async def drain(self) -> None:
        """Stores what is left, within 2 seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.flush()

    async def flush(self) -> None:
        """Stores what has been seen; what cannot be stored is kept."""
        self._collect()
        while (use := self._first_uses.take()) is not None:
            session_id, verifier = use
            try:
                await note_first_use(self._database, self._hits, session_id, verifier)
            except (StorageUnavailable, Overloaded) as error:
                self._first_uses.add(session_id, verifier)
                _log.warning("first use put off", error=type(error).__name__)
                return

    def _collect(self) -> None:
        if self._hits is None:
            return
        uses, dropped = self._hits.take_first_uses()
        for session_id, verifier in uses:
            dropped += not self._first_uses.add(session_id, verifier)
        if dropped:
            _log.warning("first uses dropped", sessions=dropped)
