"""Roles, and what a user may do by them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """A role with its permissions, sorted."""

    name: str
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grants:
    """The roles that a user holds and the permissions of all of them, each sorted, each once."""

    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
