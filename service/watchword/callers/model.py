"""What a caller is and what its scopes allow."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a service key may call; each RPC names one."""

    LOGIN = "login"
    VALIDATE = "validate"
    WATCH = "watch"
    USERS = "users"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated program, by the name that the log shows."""

    name: str
    scopes: frozenset[Scope]
