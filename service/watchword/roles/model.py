"""What a user may do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grants:
    """The roles that a user holds and the permissions of all of them, each sorted, each once."""

    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
