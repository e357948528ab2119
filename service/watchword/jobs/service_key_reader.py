"""Reads the stored service keys again and again, for the registry and the gate of this process.

A key that was revoked is taken no longer than a second after the answer: what is read is good for a
second from when the reading was sent, whatever stops this process meanwhile.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from watchword.callers.model import StoredCaller
from watchword.callers.ports import ServiceKeyFeed
from watchword.callers.registry import CallerRegistry
from watchword.clock import boottime_ns
from watchword.errors import Overloaded, StorageUnavailable
from watchword.login.ports import Database

# After one reading that hangs there is time for another within the second.
READ_INTERVAL_SECONDS: Final = 0.25
# What an operator sees of a key's use is as late.
NOTE_INTERVAL_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


class CallerSink(Protocol):
    """What answers callers without this process's Python."""

    def replace_callers(self, stored: Sequence[StoredCaller], *, sent_ns: int) -> None:
        """Takes the stored callers in place of those before."""

    def take_used_callers(self) -> Sequence[bytes]:
        """Takes the hashes of stored keys that calls came with."""


class ServiceKeyReader:
    """The reader of this process."""

    def __init__(
        self,
        feed: ServiceKeyFeed,
        callers: CallerRegistry,
        sink: CallerSink | None,
        database: Database,
    ) -> None:
        self._feed = feed
        self._callers = callers
        self._sink = sink
        self._database = database
        self._used: set[bytes] = set()
        self._problem: str | None = None
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Reads for ever; a database that is gone is asked again."""
        clock = asyncio.get_running_loop().time
        note_at = clock() + NOTE_INTERVAL_SECONDS
        try:
            while True:
                started = clock()
                await self.read()
                if clock() > note_at:
                    await self._note_used()
                    note_at = clock() + NOTE_INTERVAL_SECONDS
                await asyncio.sleep(max(0.0, started + READ_INTERVAL_SECONDS - clock()))
        finally:
            self._feed.close()

    async def drain(self) -> None:
        """Stores what was used and not noted yet."""
        await self._note_used()

    async def read(self) -> None:
        """Reads once: what was committed before counts here from then on."""
        async with self._turn:
            await self._read()

    async def _read(self) -> None:
        # Before anything else: also what makes the connection counts.
        sent_ns = boottime_ns()
        try:
            stored = await self._feed.read()
        except Exception as error:
            self._report(f"{type(error).__name__}: {error}")
            return
        self._report(None)
        self._collect_used()
        self._callers.replace_stored(stored, sent_ns=sent_ns)
        if self._sink is not None:
            self._sink.replace_callers(stored, sent_ns=sent_ns)

    def _collect_used(self) -> None:
        self._used |= self._callers.take_used()
        if self._sink is not None:
            self._used |= set(self._sink.take_used_callers())

    async def _note_used(self) -> None:
        self._collect_used()
        used = sorted(self._used)
        if not used:
            return
        try:
            await self._database.run_statement(lambda tx: tx.service_keys.note_used(used))
        except (StorageUnavailable, Overloaded) as error:
            _log.warning("the use of service keys was not noted", error=type(error).__name__)
        else:
            self._used.difference_update(used)

    def _report(self, problem: str | None) -> None:
        if problem != self._problem:
            if problem is None:
                _log.info("service keys are read again")
            elif self._problem is None:
                _log.warning("service keys cannot be read", problem=problem)
        self._problem = problem
