"""Roles, and what a user may do by them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Role:
    """A role with its permissions, sorted."""

    name: str
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role that a user holds, until when, by whom and why."""

    role: str
    create_time: datetime
    expire_time: datetime | None
    granted_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Grants:
    """The roles that a user holds and the permissions of all of them, each sorted, each once."""

    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
