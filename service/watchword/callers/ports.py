"""What callers need from storage."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from watchword.callers.model import NewServiceKey, ServiceKey, StoredCaller


class ServiceKeyStore(Protocol):
    """Stored keys; what they open is decided by every server for itself."""

    async def insert(self, key: NewServiceKey) -> ServiceKey | None:
        """Stores the key; None for an end that is over."""

    async def get(self, key_id: UUID) -> ServiceKey | None:
        """Returns the key, good or not."""

    async def list_all(self, *, before: UUID | None, limit: int) -> Sequence[ServiceKey]:
        """Returns keys made before that one, the newest first, good or not."""

    async def revoke(self, key_id: UUID) -> bool:
        """Ends the key; False when it has ended so before, or is not there."""

    async def suspend_all(self) -> int:
        """Has every key wait to be confirmed; how many that were good."""

    async def confirm(self, key_id: UUID) -> bool:
        """Lets a key that waits be good again; False when it does not wait."""

    async def note_used(self, digests: Sequence[bytes]) -> None:
        """Notes that calls came with these keys."""


class ServiceKeyFeed(Protocol):
    """Where a server reads the keys that are good."""

    async def read(self) -> Sequence[StoredCaller]:
        """Returns all of them; raises whatever went wrong."""

    def close(self) -> None:
        """Lets go of what is held open."""
