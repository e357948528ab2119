"""What every field of every request must be: one table, checked all at once.

A rule takes the raw text, returns what the use case wants, and raises ValueRejected. The maximum
beside it is what the proto's comment promises; tests/unit/transport compares the two and tries it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from watchword.crypto import PresentedCode, Secret, parse_code
from watchword.errors import RequestInvalid, ValueRejected, Violation
from watchword.mail import locales
from watchword.sessions import rules as session_rules
from watchword.users import rules as user_rules

TOKEN_MAX_BYTES = 256
CODE_MAX = 64
UUID_MAX = 36
LOCALE_MAX = 35
SESSION_TOKENS_MAX = 256
# Of any listing.
PAGE_SIZE = "page_size"
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 100
# google.protobuf.Duration's range: about 10,000 years.
SECONDS_MAX = 315_576_000_000
NANOS_OF_SECOND = 1_000_000_000

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _token(text: str) -> str:
    if not text:
        raise ValueRejected("is required")
    if len(text.encode()) > TOKEN_MAX_BYTES:
        raise ValueRejected(f"must have at most {TOKEN_MAX_BYTES} bytes")
    return text


def _change_token(text: str) -> str:
    if len(text.encode()) > TOKEN_MAX_BYTES:
        raise ValueRejected(f"must have at most {TOKEN_MAX_BYTES} bytes")
    return text


# A page token is looked at where it is known what it has to be a page of.
_page_token = _change_token


def _device_token(text: str) -> Secret | None:
    if len(text.encode()) > TOKEN_MAX_BYTES:
        raise ValueRejected(f"must have at most {TOKEN_MAX_BYTES} bytes")
    return Secret(text) if text else None


def _uuid(text: str) -> UUID:
    if not text:
        raise ValueRejected("is required")
    if not _UUID.fullmatch(text):
        raise ValueRejected("must be a UUID like `0190a0c2-7e0b-8f3a-9c1d-2b3c4d5e6f70`")
    return UUID(text)


def _optional_uuid(text: str) -> UUID | None:
    return _uuid(text) if text else None


def _code(text: str) -> PresentedCode:
    if not text:
        raise ValueRejected("is required")
    code = parse_code(text) if len(text) <= CODE_MAX else None
    if code is None:
        raise ValueRejected("must be 6 to 10 digits, or 13 letters and digits")
    return code


def _locale(text: str) -> str | None:
    if not text:
        return None
    if len(text) > LOCALE_MAX or locales.malformed(text):
        raise ValueRejected("must be a BCP 47 language tag like `de` or `pt-BR`")
    return text


@dataclass(frozen=True, slots=True)
class Rule:
    """How one field is read, and the documented maximum of its length."""

    read: Callable[[str], object]
    maximum: int
    unit: str = "characters"


_SESSION_TOKEN = Rule(_token, TOKEN_MAX_BYTES, "bytes")
_EMAIL = Rule(user_rules.email, user_rules.EMAIL_MAX)
_LOCALE = Rule(_locale, LOCALE_MAX)
_ID = Rule(_uuid, UUID_MAX)
_CODE = Rule(_code, CODE_MAX)

RULES: dict[str, Rule] = {
    "ClientContext.ip": Rule(session_rules.client_ip, session_rules.CLIENT_IP_MAX),
    "ClientContext.user_agent": Rule(session_rules.user_agent, session_rules.USER_AGENT_MAX),
    "ClientContext.device_name": Rule(session_rules.device_name, session_rules.DEVICE_NAME_MAX),
    "ClientContext.device_token": Rule(_device_token, TOKEN_MAX_BYTES, "bytes"),
    "RegisterRequest.full_name": Rule(user_rules.full_name, user_rules.FULL_NAME_MAX),
    "RegisterRequest.username": Rule(user_rules.username, user_rules.USERNAME_MAX),
    "RegisterRequest.email": _EMAIL,
    "RegisterRequest.locale": _LOCALE,
    "SendOtpRequest.email": _EMAIL,
    "SendOtpRequest.challenge_id": _ID,
    "SendOtpRequest.locale": _LOCALE,
    "SendOtpRequest.request_id": Rule(_optional_uuid, UUID_MAX),
    "VerifyOtpRequest.challenge_id": _ID,
    "VerifyOtpRequest.email": _EMAIL,
    "VerifyOtpRequest.code": _CODE,
    "ValidateSessionRequest.session_token": _SESSION_TOKEN,
    "ValidateSessionRequest.min_change_token": Rule(_change_token, TOKEN_MAX_BYTES, "bytes"),
    "BatchValidateSessionsRequest.session_tokens": _SESSION_TOKEN,
    "RefreshSessionRequest.session_token": _SESSION_TOKEN,
    "RevokeRequest.session_token": _SESSION_TOKEN,
    "RevokeRequest.session_id": _ID,
    "ListSessionsRequest.session_token": _SESSION_TOKEN,
    "ListSessionsRequest.page_token": Rule(_page_token, TOKEN_MAX_BYTES, "bytes"),
    "StartEmailChangeRequest.session_token": _SESSION_TOKEN,
    "StartEmailChangeRequest.new_email": _EMAIL,
    "StartEmailChangeRequest.locale": _LOCALE,
    "ConfirmEmailChangeRequest.session_token": _SESSION_TOKEN,
    "ConfirmEmailChangeRequest.challenge_id": _ID,
    "ConfirmEmailChangeRequest.code": _CODE,
    "GetRolesRequest.user_id": _ID,
    "GetRolesRequest.session_token": _SESSION_TOKEN,
}

# Choices that may be left open.
OPTIONAL_ONEOFS = frozenset({"RevokeRequest.target"})
# How many texts a list must have at least and may have at most.
LISTS: dict[str, tuple[int, int]] = {
    "BatchValidateSessionsRequest.session_tokens": (1, SESSION_TOKENS_MAX),
}
# Of a list so many members at most are told to be wrong: an error has to fit into a header.
MEMBERS_NAMED_MAX = 20


def check(request: Message) -> dict[str, Any]:
    """Returns what every text field says, by its path (`client.ip`), every enumeration, duration
    (None when it is not set) and page size (the default when it is 0). Unset oneof members lack,
    and lists: their members are checked and stay as they are.

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
    for path, rule, text in _texts(request, prefix=""):
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
            if (kind := field.enum_type) is not None:
                names = {one.number: one.name for one in kind.values}
                values[field.name] = _choice(names, value)
            elif field.name == PAGE_SIZE:
                values[field.name] = _page_size(value)
            elif isinstance(value, Duration):
                values[field.name] = _span(value) if request.HasField(field.name) else None
        except ValueRejected as error:
            violations.append(Violation(field.name, str(error)))
    if violations:
        raise RequestInvalid(violations)
    return values


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
