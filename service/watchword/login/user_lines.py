"""Users as lines of JSON (jsonlines.org), as `users export` writes and `users import` reads them.

    {"id": "...", "username": "ada", "full_name": "Ada", "email": "ada@example.com", "locale": null,
     "state": "active", "roles": [{"role": "editor", "expire_time": null, "reason": null}]}

A line is read by the rules of every other way to an account, and a field that is not known is
refused: whoever mistypes `roles` must not lose them. An error never quotes a value.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, TypeVar
from uuid import UUID

from watchword.crypto import new_user_id
from watchword.errors import ValueRejected
from watchword.mail import locales
from watchword.roles import rules as role_rules
from watchword.roles.model import Assignment
from watchword.users import rules
from watchword.users.model import EmailAddress, User, UserState

LINE_BYTES_MAX: Final = 65_536
_SKIPPED_BYTES: Final = 1 << 20
# An unknown field is named, and it is text of the file's choice.
_NAME_SHOWN_MAX: Final = 64
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_FIELDS: Final = ("id", "username", "full_name", "email", "locale", "state", "roles")
_ROLE_FIELDS: Final = ("role", "expire_time", "reason")
# `uuid.UUID` takes braces and URNs as well, `datetime` other forms of ISO 8601.
_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoleLine:
    """A role that a line gives its user."""

    role: str
    expire_time: datetime | None
    reason: str | None


# Two lines are never the same one, whatever they say.
@dataclass(frozen=True, slots=True, eq=False)
class UserLine:
    """A user as a line has it; the id is a new one where the line has none."""

    id: UUID
    id_given: bool
    username: str
    full_name: str
    email: EmailAddress
    locale: str | None
    state: UserState
    roles: tuple[RoleLine, ...]


def written(user: User, roles: Sequence[Assignment]) -> bytes:
    """Returns the line of a user who holds these roles, with its end."""
    fields = {
        "id": str(user.id),
        "username": user.username,
        "full_name": user.full_name,
        "email": user.email,
        "locale": user.locale,
        "state": str(user.state),
        "roles": [
            {"role": one.role, "expire_time": _time_text(one.expire_time), "reason": one.reason}
            for one in roles
        ],
    }
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def lines_of(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yields each line with its number from 1 on; None for one that is too long.

    No more of a line is held in memory than it may have.
    """
    number = 0
    while line := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) <= LINE_BYTES_MAX or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(_SKIPPED_BYTES)
        yield number, None


def is_blank(line: bytes | None) -> bool:
    """Whether there is nothing on a line."""
    return line is not None and not line.strip()


def parsed(line: bytes | None) -> UserLine:
    """Reads a line that is not blank; raises ValueRejected with everything that is wrong."""
    if line is None:
        raise ValueRejected(f"has more than {LINE_BYTES_MAX} bytes")
    fields = _object(line)
    problems: list[str] = []

    def read(name: str, rule: Callable[[Any], T]) -> T | None:
        value = fields.get(name)
        try:
            return rule(value)
        except ValueRejected as error:
            problems.append(f"`{name}` {error}")
            return None

    problems += _unknown(fields, _FIELDS)
    id = read("id", _optional(_id))
    username = read("username", _required(rules.username))
    full_name = read("full_name", _required(rules.full_name))
    email = read("email", _required(rules.email))
    locale = read("locale", _optional(_locale))
    state = read("state", _optional(_state))
    roles = read("roles", _roles)
    if problems or username is None or full_name is None or email is None or roles is None:
        raise ValueRejected("; ".join(problems))
    return UserLine(
        id=id or new_user_id(),
        id_given=id is not None,
        username=username,
        full_name=full_name,
        email=email,
        locale=locale,
        state=state or UserState.ACTIVE,
        roles=roles,
    )


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        text = line.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        raise ValueRejected("is not UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except ValueRejected:
        raise
    except (ValueError, RecursionError):
        raise ValueRejected("is not JSON") from None
    if not isinstance(value, dict):
        raise ValueRejected("must be a JSON object")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueRejected(f"{_shown(name)} is there twice")
        found[name] = value
    return found


def _unknown(fields: Mapping[str, Any], known: Collection[str]) -> list[str]:
    return [
        f"{_shown(name)} is no field; there are {', '.join(f'`{one}`' for one in known)}"
        for name in fields
        if name not in known
    ]


def _shown(name: str) -> str:
    """Names a field: nothing of it may steer a terminal, or be what a terminal cannot encode."""
    shown = name if len(name) <= _NAME_SHOWN_MAX else name[:_NAME_SHOWN_MAX] + "..."
    return f"`{ascii(shown)[1:-1]}`"


def _required(rule: Callable[[str], T]) -> Callable[[Any], T]:
    def checked(value: Any) -> T:
        if value is None:
            raise ValueRejected("is required")
        return _text(rule, value)

    return checked


def _optional(rule: Callable[[str], T]) -> Callable[[Any], T | None]:
    def checked(value: Any) -> T | None:
        return None if value is None else _text(rule, value)

    return checked


def _text(rule: Callable[[str], T], value: Any) -> T:
    if not isinstance(value, str):
        raise ValueRejected("must be a string")
    return rule(value)


def _id(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueRejected("must be a UUID like `0190b2c4-6f1e-8a3d-9c5b-7e2f1a4d8c06`")
    return UUID(text)


def _locale(text: str) -> str:
    if locales.malformed(text):
        raise ValueRejected("must be a BCP 47 language tag like `de` or `pt-BR`")
    return text


def _state(text: str) -> UserState:
    try:
        return UserState(text)
    except ValueError:
        raise ValueRejected("must be `active` or `disabled`") from None


def _roles(value: Any) -> tuple[RoleLine, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueRejected("must be a list")
    roles = tuple(_role(number, one) for number, one in enumerate(value, 1))
    if len({one.role for one in roles}) < len(roles):
        raise ValueRejected("must not name a role twice")
    return roles


def _role(number: int, value: Any) -> RoleLine:
    if not isinstance(value, dict):
        raise ValueRejected(f'number {number}: must be an object like `{{"role": "editor"}}`')

    def read(name: str, rule: Callable[[Any], T]) -> T:
        try:
            return rule(value.get(name))
        except ValueRejected as error:
            raise ValueRejected(f"number {number}: `{name}` {error}") from None

    for problem in _unknown(value, _ROLE_FIELDS):
        raise ValueRejected(f"number {number}: {problem}")
    return RoleLine(
        role=read("role", _required(role_rules.name)),
        expire_time=read("expire_time", _optional(_time)),
        reason=read("reason", _optional(role_rules.reason)),
    )


def _time(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # no such day; before the year 1
        pass
    raise ValueRejected("must be a time of RFC 3339 like `2027-01-31T12:00:00Z`")


def _time_text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")
