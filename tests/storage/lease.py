"""A cache that only takes down what it is told, and what a poller must have told it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from watchword.changes.model import Change, Reading
from watchword.changes.ports import ChangeFeed
from watchword.jobs.change_poller import ChangePoller


def boottime_ns() -> int:
    """The clock of leases."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass
class Ledger:
    """Implements ChangeSink: what it was told, in order; a renewal is its `sent_ns`."""

    told: list[Change | int | None] = field(default_factory=list)
    database_times: list[datetime] = field(default_factory=list)

    def apply(self, change: Change) -> None:
        self.told.append(change)

    def clear(self) -> None:
        self.told.append(None)

    def renew(self, *, sent_ns: int, database_time: datetime) -> None:
        self.told.append(sent_ns)
        self.database_times.append(database_time)

    @property
    def changes(self) -> list[Change]:
        """What was applied."""
        return [entry for entry in self.told if isinstance(entry, Change)]

    @property
    def renewals(self) -> list[int]:
        """When the readings that renewed the lease were sent."""
        return [entry for entry in self.told if isinstance(entry, int)]

    @property
    def clears(self) -> int:
        """How often it was emptied."""
        return self.told.count(None)

    def assert_lease_kept(self, acknowledged: Mapping[UUID, int]) -> None:
        """No lease of a reading sent after a revoke's acknowledgement precedes its change.

        `acknowledged`: the session, and when its revoke was answered, by the clock of leases. A
        cache that was emptied on the way would have to be told of nothing, so none may have been.
        """
        assert self.clears == 1, "emptied on the way"
        applied: set[UUID | None] = set()
        waiting = dict(acknowledged)
        for entry in self.told:
            if isinstance(entry, Change):
                applied.add(entry.session_id)
            elif entry is not None:
                due = {id for id, at_ns in waiting.items() if at_ns <= entry}
                assert due <= applied, f"{len(due - applied)} revokes unseen within the lease"
                for id in due:
                    del waiting[id]


@dataclass
class OtherClock:
    """The feed of a database whose clock has leapt, or of another server.

    Its rows keep their times: they are of transactions that began before the leap.
    """

    feed: ChangeFeed
    ahead: timedelta = timedelta()
    restarts: int = 0

    async def read(self, *, since: datetime) -> Reading:
        reading = await self.feed.read(since=since)
        return replace(
            reading,
            database_time=reading.database_time + self.ahead,
            server_start=reading.server_start + timedelta(seconds=self.restarts),
        )

    def close(self) -> None:
        self.feed.close()


@dataclass
class SlowAnswer:
    """A feed whose answers are held back until `go`."""

    feed: ChangeFeed
    read_done: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, *, since: datetime) -> Reading:
        reading = await self.feed.read(since=since)
        self.read_done.set()
        await self.go.wait()
        return reading

    def close(self) -> None:
        self.feed.close()


@asynccontextmanager
async def running(poller: ChangePoller) -> AsyncIterator[None]:
    """The job is at work; fails if it ends."""
    task = asyncio.create_task(poller.run())
    try:
        yield
        assert not task.done(), "the poller died"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
