"""Tells the cache of this process what has changed, and renews its lease.

What it keeps, and what the bound on revocation rests on: when a change was acknowledged at T, every
lease that is renewed by a reading sent after T is renewed after that change was applied, or after
the cache was emptied by a reading sent after T. It holds because

- a reading sees whatever committed before it was sent, and is asked for every transaction that can
  have committed since the last good one: a change has the time at which its transaction began, so
  each reading goes back over what a transaction may last (the overlap);
- the lease counts from when the reading was sent, not from its answer;
- a reading that fails renews nothing.

How far back is remembered as the database's time at a reading that is an overlap older by the
clock of this host. A database that stood still, or whose clock leaps ahead, then hides nothing: its
time counts only once it was read for as long as a transaction may last.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from watchword.changes.model import CHANGES_KEPT, Reading
from watchword.changes.ports import ChangeFeed, ChangeSink
from watchword.clock import boottime_ns

POLL_INTERVAL_SECONDS = 0.1
# Beyond the longest transaction: what a reading may take, and a COMMIT that goes on in the database
# when its client has given up.
OVERLAP_MARGIN = timedelta(seconds=3)
# The purger may be at work while a reading is under way.
_GAP_MAX = CHANGES_KEPT - timedelta(minutes=1)
# No change is as late.
_NEVER = datetime.max.replace(tzinfo=UTC)
_SECOND_NS = 1_000_000_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A good reading: when it was sent, by CLOCK_BOOTTIME, and the database's time then."""

    sent_ns: int
    database_time: datetime


class ChangePoller:
    """The poller of this process; `longest_transaction` is that of all processes."""

    def __init__(
        self, feed: ChangeFeed, sink: ChangeSink, *, longest_transaction: timedelta
    ) -> None:
        self._feed = feed
        self._sink = sink
        self._overlap = longest_transaction + OVERLAP_MARGIN
        self._overlap_ns = int(self._overlap.total_seconds() * _SECOND_NS)
        # From one that is an overlap older than the last, to the last. Empty: nothing is known.
        self._marks: deque[_Mark] = deque()
        self._server_start: datetime | None = None
        # Of the last good reading. The next one begins no earlier, so that this is all there is to
        # remember.
        self._seen: frozenset[UUID] = frozenset()
        self._problem: str | None = None

    async def run(self) -> None:
        """Polls for ever, every 100 ms; a database that is gone is asked again."""
        clock = asyncio.get_running_loop().time
        # A run that died may have lost a change on the way to the sink.
        self._marks.clear()
        try:
            while True:
                started = clock()
                await self.poll()
                await asyncio.sleep(max(0.0, started + POLL_INTERVAL_SECONDS - clock()))
        finally:
            self._feed.close()

    async def poll(self) -> None:
        """Reads once: applies what is new and renews the lease, or begins anew."""
        # Before anything else: also what makes the connection counts against the lease.
        sent_ns = boottime_ns()
        try:
            reading = await self._feed.read(since=self._since())
        except Exception as error:
            self._report(f"{type(error).__name__}: {error}")
            return
        self._report(None)
        mark = _Mark(sent_ns, reading.database_time)
        gap = self._gap(reading)
        if gap is not None:
            self._begin(mark, reading, gap)
            return
        for change in reading.changes:
            if change.id not in self._seen:
                self._sink.apply(change)
        self._seen = frozenset(change.id for change in reading.changes)
        self._remember(mark)
        self._sink.renew(sent_ns=sent_ns, database_time=reading.database_time)

    def _since(self) -> datetime:
        """Returns the time from which on transactions may have committed since the last reading."""
        return self._marks[0].database_time if self._marks else _NEVER

    def _gap(self, reading: Reading) -> str | None:
        """Returns why changes may have been missed, which an empty cache makes good."""
        if not self._marks:
            return "started"
        if reading.server_start != self._server_start:
            return "another database server, or started anew"
        if reading.database_time < self._marks[-1].database_time:
            return "the database's time went back"
        if reading.database_time - self._since() > _GAP_MAX:
            return "no reading for longer than changes are kept"
        return None

    def _begin(self, mark: _Mark, reading: Reading, why: str) -> None:
        """Empties the cache. The lease waits for the next reading, which has an overlap as well."""
        if self._marks:
            _log.warning("cache emptied", why=why)
        self._sink.clear()
        before = _Mark(mark.sent_ns - self._overlap_ns, mark.database_time - self._overlap)
        self._marks = deque([before, mark])
        self._server_start = reading.server_start
        self._seen = frozenset()

    def _remember(self, mark: _Mark) -> None:
        self._marks.append(mark)
        while self._marks[1].sent_ns <= mark.sent_ns - self._overlap_ns:
            self._marks.popleft()

    def _report(self, problem: str | None) -> None:
        if problem != self._problem:
            if problem is None:
                _log.info("changes are read again")
            elif self._problem is None:
                _log.warning("changes cannot be read", problem=problem)
        self._problem = problem
