"""What the audit needs from storage."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from watchword.audit.model import Event, EventFilter, EventKey, EventPage


class AuditStore(Protocol):
    """Stored events; the database's clock says when."""

    async def put(self, event: Event) -> None:
        """Stores the event, in the transaction of what it tells."""

    async def put_all(self, events: Sequence[Event]) -> None:
        """Stores events of any slots in one statement."""

    async def list_page(
        self, asked: EventFilter, *, before: EventKey | None, limit: int
    ) -> EventPage:
        """Returns events from that one on, the newest first."""

    async def exists(self, event_id: UUID) -> bool:
        """Answers whether the event was stored."""
