"""What the audit needs from storage."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from watchword.audit.model import Event, StoredEvent


class AuditStore(Protocol):
    """Stored events; the database's clock says when."""

    async def put(self, event: Event) -> None:
        """Stores the event, in the transaction of what it tells."""

    async def put_all(self, events: Sequence[Event]) -> None:
        """Stores events of any slots in one statement."""

    async def list_all(self, *, action: str | None, limit: int) -> Sequence[StoredEvent]:
        """Returns events of everybody, of one action or all, the newest first."""

    async def list_of_user(
        self, user_id: UUID, *, action: str | None, limit: int
    ) -> Sequence[StoredEvent]:
        """Returns those of one user, likewise."""

    async def exists(self, event_id: UUID) -> bool:
        """Answers whether the event was stored."""
