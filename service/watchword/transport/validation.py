"""Looks at all fields of a request at once, by the table of fields.py."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from watchword.errors import RequestInvalid, ValueRejected, Violation
from watchword.transport.fields import LISTS, OPTIONAL_ONEOFS, RULES, UPDATABLE, Rule

# Of any listing.
PAGE_SIZE = "page_size"
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 100
# google.protobuf.Duration's range: about 10,000 years.
SECONDS_MAX = 315_576_000_000
NANOS_OF_SECOND = 1_000_000_000
# The year 10,000.
TIME_MAX = 253_402_300_800
UPDATE_MASK = "update_mask"
# Of a list so many members at most are told to be wrong: an error has to fit into a header.
MEMBERS_NAMED_MAX = 20


def check(request: Message) -> dict[str, Any]:
    """Returns what every text field says, by its path (`client.ip`), every enumeration, duration,
    time and page size. Unset oneof members lack, fields that a mask does not name, and lists: their
    members are checked and stay as they are.

    Raises RequestInvalid with every field that is wrong; of a list its number of members, or the
    first MEMBERS_NAMED_MAX that are wrong. A oneof is named by its own name when no member is set.
    """
    values: dict[str, Any] = {}
    violations: list[Violation] = []
    for oneof in request.DESCRIPTOR.oneofs:
        name = f"{request.DESCRIPTOR.name}.{oneof.name}"
        if request.WhichOneof(oneof.name) is None and name not in OPTIONAL_ONEOFS:
            members = ", ".join(f"`{field.name}`" for field in oneof.fields)
            violations.append(Violation(oneof.name, f"is required: set one of {members}"))
    masked = _masked(request, violations)
    for path, rule, text in _texts(request, prefix=""):
        if path in masked:
            continue
        try:
            values[path] = rule.read(text)
        except ValueRejected as error:
            violations.append(Violation(path, str(error)))
    for field in request.DESCRIPTOR.fields:
        value = getattr(request, field.name)
        if field.is_repeated:
            name = f"{request.DESCRIPTOR.name}.{field.name}"
            violations += _members(name, field.name, value)
            continue
        try:
            values |= _read(request, field, value)
        except ValueRejected as error:
            violations.append(Violation(field.name, str(error)))
    if violations:
        raise RequestInvalid(violations)
    return values


def _read(request: Message, field: Any, value: Any) -> dict[str, Any]:
    """Reads a field that is no text: the default of a page size that is 0, None for a duration or a
    time that is not set, nothing of what has no rule.
    """
    if (kind := field.enum_type) is not None:
        return {field.name: _choice({one.number: one.name for one in kind.values}, value)}
    if field.name == PAGE_SIZE:
        return {field.name: _page_size(value)}
    reader = _MESSAGES.get(type(value))
    if reader is None:
        return {}
    return {field.name: reader(value) if request.HasField(field.name) else None}


def _choice(names: Mapping[int, str], number: int) -> int:
    if number not in names:
        raise ValueRejected(f"must be one of {', '.join(names.values())}")
    return number


def _page_size(number: int) -> int:
    if number < 0:
        raise ValueRejected("must not be below 0")
    return min(number or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def _span(duration: Duration) -> timedelta:
    """Reads a duration of the range that google.protobuf.Duration has, but for what is below 0."""
    if not (0 <= duration.seconds <= SECONDS_MAX and 0 <= duration.nanos < NANOS_OF_SECOND):
        raise ValueRejected("must be from 0 to 10,000 years")
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1_000)


def _time(timestamp: Timestamp) -> datetime:
    """Reads a time of the range that PostgreSQL and Python share, to the microsecond."""
    if not (0 <= timestamp.seconds < TIME_MAX and 0 <= timestamp.nanos < NANOS_OF_SECOND):
        raise ValueRejected("must be from the year 1970 to 9999")
    return timestamp.ToDatetime(tzinfo=UTC)


_MESSAGES: dict[type, Callable[[Any], object]] = {Duration: _span, Timestamp: _time}


def _masked(request: Message, violations: list[Violation]) -> Set[str]:
    """Returns the fields that do not count, since the request has a mask that leaves them out."""
    updatable = UPDATABLE.get(request.DESCRIPTOR.name)
    if updatable is None:
        return frozenset()
    named = set(getattr(request, UPDATE_MASK).paths)
    if not named or not named <= set(updatable):
        what = f"must name one or more of {', '.join(updatable)}"
        violations.append(Violation(UPDATE_MASK, what))
    return set(updatable) - named


def _texts(message: Message, *, prefix: str) -> Iterator[tuple[str, Rule, str]]:
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            yield from _texts(getattr(message, field.name), prefix=f"{prefix}{field.name}.")
        elif field.type == FieldDescriptor.TYPE_STRING:
            oneof = field.containing_oneof
            if oneof is not None and message.WhichOneof(oneof.name) != field.name:
                continue
            rule = RULES[f"{message.DESCRIPTOR.name}.{field.name}"]
            yield f"{prefix}{field.name}", rule, getattr(message, field.name)


def _members(name: str, path: str, texts: Sequence[str]) -> list[Violation]:
    """What is wrong with a list of texts, which `values` has no part of."""
    fewest, most = LISTS[name]
    if not fewest <= len(texts) <= most:
        return [Violation(path, f"must have {fewest} to {most} members")]
    violations: list[Violation] = []
    for number, text in enumerate(texts):
        try:
            RULES[name].read(text)
        except ValueRejected as error:
            violations.append(Violation(f"{path}[{number}]", str(error)))
            if len(violations) == MEMBERS_NAMED_MAX:
                break
    return violations
