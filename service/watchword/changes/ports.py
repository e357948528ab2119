"""What changes need from storage, and what the poller needs from a cache."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from watchword.changes.model import Change, Reading, UserVersion


class ChangeStore(Protocol):
    """Changes, each put in the transaction of what it tells, as the last of its statements."""

    async def raise_version(self, user_id: UUID) -> UserVersion | None:
        """Raises the user's version by 1; None when there is no such user."""

    async def version_of(self, user_id: UUID) -> UserVersion | None:
        """Returns what the user has come to."""

    async def put(self, change: Change) -> None:
        """Stores the change; the start of the transaction is its time."""


class ChangeFeed(Protocol):
    """Reads changes on a connection of its own; any exception means that nothing was read."""

    async def read(self, *, since: datetime) -> Reading:
        """Returns the committed changes of transactions that began at `since` or later."""

    def close(self) -> None:
        """Cuts the connection off; the next reading opens another."""


class ChangeSink(Protocol):
    """A cache, as the poller sees it; what it raises ends the poller, which begins anew."""

    def apply(self, change: Change) -> None:
        """Drops what the change makes out of date, and refuses what was read before it."""

    def clear(self) -> None:
        """Drops everything, fills under way as well, and ends the lease."""

    def renew(self, *, sent_ns: int, database_time: datetime) -> None:
        """Begins the lease anew, at `sent_ns` of CLOCK_BOOTTIME in nanoseconds.

        Every change that was acknowledged before that moment has been applied, or cleared away.
        """
