"""What sessions need from storage. A look-up returns None when there is nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from watchword.sessions.model import (
    ChangedSession,
    Client,
    EndedSessions,
    ListedSession,
    NewSession,
    Rotation,
    Session,
)


class SessionStore(Protocol):
    """Stored sessions."""

    async def insert(self, session: NewSession) -> Session:
        """Stores the session; the database's clock sets its times."""

    async def revoke(self, session_id: UUID, *, verifier: bytes) -> ChangedSession | None:
        """Ends the session for good and raises its user's version; None when it was not live."""

    async def list_live(
        self, user_id: UUID, *, before: UUID | None, limit: int, idle_lifetime: timedelta
    ) -> Sequence[ListedSession]:
        """Returns live sessions of a user, those with ids below `before`, the newest first."""

    async def revoke_by_id(self, session_id: UUID, *, user_id: UUID) -> ChangedSession | None:
        """Ends a session of this user for good, whatever its secret; None when it was not live."""

    async def revoke_others(self, user_id: UUID, *, spared: UUID) -> EndedSessions | None:
        """Ends all sessions of a user but one, and raises the version; None when none is live."""

    async def end_oldest(self, user_id: UUID, *, kept: int) -> EndedSessions | None:
        """Ends all but the newest `kept` live sessions of a user who is locked, and raises the
        version; None when there are no more.
        """

    async def revoke_all(self, user_id: UUID) -> EndedSessions:
        """Raises the epoch of a user, who is locked; below it all sessions are dead."""

    async def note_seen(self, seen: Mapping[UUID, datetime], *, period: timedelta) -> None:
        """Stores when live sessions were last seen, unless what is stored is a period younger."""

    async def exists(self, session_id: UUID) -> bool:
        """Answers whether the session was stored, live or not."""


class RotationStore(Protocol):
    """Stored sessions with their secrets, and how these follow each other."""

    async def find(self, session_id: UUID, *, idle_lifetime: timedelta) -> Rotation | None:
        """Returns a live session with what a refresh needs."""

    async def rotate(
        self, found: Rotation, *, verifier: bytes, key_id: int, client: Client
    ) -> ChangedSession | None:
        """Replaces the secret that was found, which stays as the previous one, and takes over what
        is said of the client; None when somebody was faster or the session has died.
        """

    async def end_previous(
        self, session_id: UUID, *, verifier: bytes, overlap: timedelta
    ) -> ChangedSession | None:
        """Gives the secret before the present one its end; None when it has one, or there is none,
        or another is the present one.
        """
