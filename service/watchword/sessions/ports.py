"""What sessions need from storage. A look-up returns None when there is nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from watchword.sessions.model import EndedSession, NewSession, Session


class SessionStore(Protocol):
    """Stored sessions."""

    async def insert(self, session: NewSession) -> Session:
        """Stores the session; the database's clock sets its times."""

    async def revoke(self, session_id: UUID, *, verifier: bytes) -> EndedSession | None:
        """Ends the session for good and raises its user's version; None when it was not live."""

    async def note_seen(self, seen: Mapping[UUID, datetime], *, period: timedelta) -> None:
        """Stores when live sessions were last seen, unless what is stored is a period younger."""

    async def exists(self, session_id: UUID) -> bool:
        """Answers whether the session was stored, live or not."""
