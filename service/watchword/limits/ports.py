"""What limits need from storage."""

from collections.abc import Sequence
from typing import Protocol

from watchword.limits.model import Bucket, Shortage


class LimitStore(Protocol):
    """Buckets, by the database's clock; each call is a transaction of its own."""

    async def take(self, buckets: Sequence[Bucket]) -> Sequence[Shortage]:
        """Takes a unit of every bucket, or of none and returns those without room.

        Keys must differ. Raises Overloaded when a bucket stays locked for 100 ms: nothing was
        taken, and what asks must not go on.
        """

    async def give_back(self, bucket: Bucket) -> None:
        """Returns one unit to the bucket."""
