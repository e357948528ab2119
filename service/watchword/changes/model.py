"""What a change says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

# A replica that has not read for longer begins anew with an empty cache.
CHANGES_KEPT = timedelta(minutes=10)


class ChangeKind(StrEnum):
    """What has changed."""

    USER = "user"
    SESSION = "session"
    ROLE = "role"
    SERVICE_KEY = "service_key"
    INSTALLATION = "installation"


@dataclass(frozen=True, slots=True)
class UserVersion:
    """What a user has come to: sessions below `epoch` are dead, caches below `version` refill."""

    user_id: UUID
    epoch: int
    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """Something cached is out of date; `user` is what its user has come to by this change.

    The low 12 bits of the id are the user's slot, or 0.
    """

    id: UUID
    kind: ChangeKind
    user: UserVersion | None = None
    session_id: UUID | None = None
    role: str | None = None
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The changes since a moment, oldest first, and the database's time at which they were read.

    `server_start` tells one database server from another, and from itself before a restart.
    """

    changes: Sequence[Change]
    database_time: datetime
    server_start: datetime
