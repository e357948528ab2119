"""What a session is; its token is minted and parsed by crypto.KeyRing and never stored."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import Field

from watchword.settings import Duration, Section


class SessionPolicy(Section):
    """How long a session lives."""

    lifetime: Duration = Field(
        timedelta(days=30),
        ge=timedelta(minutes=1),
        le=timedelta(days=366),
        description="absolute lifetime of a session",
    )
    idle_lifetime: Duration = Field(
        timedelta(days=7),
        ge=timedelta(seconds=1),
        le=timedelta(days=366),
        description="a session that nobody asks for so long ends",
    )
    recent_authentication: Duration = Field(
        timedelta(minutes=10),
        ge=timedelta(minutes=1),
        le=timedelta(days=1),
        description="how long after a sign-in its session may change the e-mail address",
    )
    max_per_user: int = Field(
        50,
        ge=1,
        le=10_000,
        description="live sessions of one user at once; a sign-in beyond ends the oldest",
    )


@dataclass(frozen=True, slots=True)
class Client:
    """What the caller said of the end user's device, and the caller's own name."""

    ip: str | None = None
    user_agent: str | None = None
    device_name: str | None = None
    caller: str = ""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be stored; `epoch` is the user's auth_epoch at this moment."""

    id: UUID
    user_id: UUID
    verifier: bytes
    key_id: int
    epoch: int
    lifetime: timedelta
    client: Client


@dataclass(frozen=True, slots=True)
class Session:
    """A stored session, without anything secret."""

    id: UUID
    user_id: UUID
    create_time: datetime
    auth_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A live session, when it was last seen, and what was said of its client."""

    session: Session
    last_seen_time: datetime
    client: Client


@dataclass(frozen=True, slots=True)
class Secrets:
    """The verifiers of a session's present secret and, after a refresh, of the one before.

    The one before is good until its end; without an end the present one was not used yet.
    """

    verifier: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    previous_end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A live session as a refresh finds it: the `generation`-th secret, made with key `key_id`."""

    session: Session
    secrets: Secrets
    generation: int
    key_id: int
    as_of_time: datetime


@dataclass(frozen=True, slots=True)
class EndedSessions:
    """How many live sessions of a user were just ended, and what the user has come to by that."""

    count: int
    user_id: UUID
    user_epoch: int
    user_version: int


@dataclass(frozen=True, slots=True)
class ChangedSession:
    """A session that was just ended or got a new secret, and what its user has come to by that."""

    id: UUID
    user_id: UUID
    user_epoch: int
    user_version: int
