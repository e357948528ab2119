"""Reads the sessions that the gate does not know, many with one statement, and hands them over.

A check that the gate cannot answer waits there (rust_core/gate/src/misses.rs) until a turn here has
read its session. A turn takes all who wait, so that a statement is asked while the next ones
gather. It always begins after who waits for it has asked: what was committed before is in it.
"""

import asyncio
import os
from typing import Final

import structlog

from watchword.crypto import new_id
from watchword.errors import StorageUnavailable, WatchwordError
from watchword.login import sessions
from watchword.login.context import LoginContext
from watchword.login.ports import MissedSessions, SessionTurn
from watchword.transport.errors import internal_status, status_of
from watchword.transport.pipeline import DATABASE_BUDGET_SECONDS, was_cancelled

# What one statement asks for; a few milliseconds of PostgreSQL's.
TURN_SESSIONS_MAX: Final = 256
# Statements at once: one that is slow must not hold up all who come after it.
TURNS_MAX: Final = 4
# Nobody waits for a refill, so they gather for a while, and others' turns come in between.
REFILL_SECONDS: Final = 0.2
# After a read that failed, which may have taken no time at all: everything else runs meanwhile.
PAUSE_SECONDS: Final = 0.01

_log = structlog.get_logger(__name__)


class SessionReader:
    """The reader of this process."""

    def __init__(self, ctx: LoginContext, missed: MissedSessions) -> None:
        self._ctx = ctx
        self._missed = missed
        self._waiting = asyncio.Event()

    async def run(self) -> None:
        """Reads for ever."""
        loop = asyncio.get_running_loop()
        fd = self._missed.wake_fd
        loop.add_reader(fd, self._wake, fd)
        # What was queued before, or was left by a run that has died.
        self._waiting.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(TURNS_MAX):
                    tasks.create_task(self._read_misses())
                tasks.create_task(self._read_refills())
        finally:
            loop.remove_reader(fd)

    def _wake(self, fd: int) -> None:
        os.eventfd_read(fd)
        self._waiting.set()

    async def _read_misses(self) -> None:
        while True:
            await self._waiting.wait()
            turn = self._missed.take_misses(TURN_SESSIONS_MAX)
            if turn is None:
                # Who comes now finds the queue empty, and wakes.
                self._waiting.clear()
            elif not await self._read(turn):
                await asyncio.sleep(PAUSE_SECONDS)

    async def _read_refills(self) -> None:
        while True:
            await asyncio.sleep(REFILL_SECONDS)
            while (turn := self._missed.take_refills(TURN_SESSIONS_MAX)) is not None:
                if not await self._read(turn):
                    break

    async def _read(self, turn: SessionTurn) -> bool:
        """Takes one turn; whatever happens, all who wait are told. Whether there was a read."""
        ids = turn.session_ids
        try:
            async with asyncio.timeout(DATABASE_BUDGET_SECONDS):
                rows = await sessions.read_by_id(self._ctx, ids)
            turn.take_rows(rows)
            return True
        except (WatchwordError, TimeoutError) as error:
            refused = error if isinstance(error, WatchwordError) else StorageUnavailable()
            _log.warning("sessions were not read", count=len(ids), reason=refused.reason)
            turn.fail(status_of(refused))
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and was_cancelled():
                raise
            # A stray CancelledError is a defect; it would take this reader away without a word.
            request_id = str(new_id(0))
            _log.error(
                "sessions were not read", count=len(ids), request_id=request_id, exc_info=error
            )
            turn.fail(internal_status(request_id))
        return False
