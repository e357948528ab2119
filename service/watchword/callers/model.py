"""What a caller is and what its scopes allow."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """What a service key may call; each RPC names one."""

    LOGIN = "login"
    VALIDATE = "validate"
    WATCH = "watch"
    USERS = "users"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class NewServiceKey:
    """A key to be stored: the SHA-256 of its secret, and what it may call."""

    id: UUID
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A stored key; `suspend_time` is since when it waits to be confirmed after a restore."""

    id: UUID
    name: str
    scopes: frozenset[Scope]
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    suspend_time: datetime | None
    last_used_time: datetime | None


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated program, by the name that the log shows."""

    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class StoredCaller:
    """The caller of a stored key that is good at this moment, by the SHA-256 of its secret."""

    digest: bytes
    caller: Caller
