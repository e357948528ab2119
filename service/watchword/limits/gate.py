"""The first gate: refuses in memory what the database would refuse.

Times are the event loop's, in seconds; the wall clock may jump.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta

from watchword.limits.model import Bucket, Shortage

ENTRIES_MAX = 10_000


class FirstGate:
    """Remembers buckets that had no room until they may have some; the oldest are forgotten.

    Only for buckets that get no unit back: their arrival times only grow, so a refusal stands
    until its end. It is of this process alone and lets through whatever it does not know.
    """

    def __init__(self) -> None:
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    def shortages(self, buckets: Sequence[Bucket]) -> list[Shortage]:
        """Returns which of the buckets are known to have no room, and for how long."""
        now = self.now()
        found = []
        for bucket in buckets:
            left = self._ends.get(bucket.key, now) - now
            if left > 0:
                found.append(Shortage(bucket, timedelta(seconds=left)))
        return found

    def remember(self, shortages: Sequence[Shortage], *, asked: float) -> None:
        """Notes what the database refused; `asked` is the time before it was asked."""
        for shortage in shortages:
            self._ends[shortage.bucket.key] = asked + shortage.wait.total_seconds()
            self._ends.move_to_end(shortage.bucket.key)
        while len(self._ends) > ENTRIES_MAX:
            self._ends.popitem(last=False)
