"""What every text field of every request must be: one table.

A rule takes the raw text, returns what the use case wants, and raises ValueRejected. The maximum
beside it is what the proto's comment promises; tests/unit/transport compares the two and tries it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from watchword.callers.model import Scope
from watchword.callers.registry import CALLER_NAME_MAX, caller_name
from watchword.crypto import PresentedCode, Secret, parse_code
from watchword.errors import ValueRejected
from watchword.mail import locales
from watchword.roles import rules as role_rules
from watchword.sessions import rules as session_rules
from watchword.users import rules as user_rules

TOKEN_MAX_BYTES = 256
CODE_MAX = 64
UUID_MAX = 36
LOCALE_MAX = 35
SESSION_TOKENS_MAX = 256
SCOPE_MAX = 16
# Of an action or an actor that is asked for.
WORD_MAX = 64

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


def _optional_role(text: str) -> str | None:
    return role_rules.name(text) if text else None


def _word(text: str) -> str | None:
    if len(text) > WORD_MAX or not text.isprintable():
        raise ValueRejected(f"must have at most {WORD_MAX} printable characters")
    return text or None


def _scope(text: str) -> Scope:
    if text not in set(Scope):
        raise ValueRejected(f"must be one of {', '.join(Scope)}")
    return Scope(text)


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
_FULL_NAME = Rule(user_rules.full_name, user_rules.FULL_NAME_MAX)
_USERNAME = Rule(user_rules.username, user_rules.USERNAME_MAX)
_PAGE_TOKEN = Rule(_page_token, TOKEN_MAX_BYTES, "bytes")
_ROLE = Rule(role_rules.name, role_rules.NAME_MAX)
_OPTIONAL_ID = Rule(_optional_uuid, UUID_MAX)
_LOCALE = Rule(_locale, LOCALE_MAX)
_ID = Rule(_uuid, UUID_MAX)
_CODE = Rule(_code, CODE_MAX)

RULES: dict[str, Rule] = {
    "ClientContext.ip": Rule(session_rules.client_ip, session_rules.CLIENT_IP_MAX),
    "ClientContext.user_agent": Rule(session_rules.user_agent, session_rules.USER_AGENT_MAX),
    "ClientContext.device_name": Rule(session_rules.device_name, session_rules.DEVICE_NAME_MAX),
    "ClientContext.device_token": Rule(_device_token, TOKEN_MAX_BYTES, "bytes"),
    "RegisterRequest.full_name": _FULL_NAME,
    "RegisterRequest.username": _USERNAME,
    "RegisterRequest.email": _EMAIL,
    "RegisterRequest.locale": _LOCALE,
    "SendOtpRequest.email": _EMAIL,
    "SendOtpRequest.challenge_id": _ID,
    "SendOtpRequest.locale": _LOCALE,
    "SendOtpRequest.request_id": _OPTIONAL_ID,
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
    "ListSessionsRequest.page_token": _PAGE_TOKEN,
    "StartEmailChangeRequest.session_token": _SESSION_TOKEN,
    "StartEmailChangeRequest.new_email": _EMAIL,
    "StartEmailChangeRequest.locale": _LOCALE,
    "ConfirmEmailChangeRequest.session_token": _SESSION_TOKEN,
    "ConfirmEmailChangeRequest.challenge_id": _ID,
    "ConfirmEmailChangeRequest.code": _CODE,
    "GetRolesRequest.user_id": _ID,
    "GetRolesRequest.session_token": _SESSION_TOKEN,
    "CreateUserRequest.full_name": _FULL_NAME,
    "CreateUserRequest.username": _USERNAME,
    "CreateUserRequest.email": _EMAIL,
    "CreateUserRequest.locale": _LOCALE,
    "GetUserRequest.user_id": _ID,
    "GetUserRequest.username": _USERNAME,
    "GetUserRequest.email": _EMAIL,
    "ListUsersRequest.page_token": _PAGE_TOKEN,
    "ListUsersRequest.role": Rule(_optional_role, role_rules.NAME_MAX),
    "UpdateUserRequest.user_id": _ID,
    "UpdateUserRequest.full_name": _FULL_NAME,
    "UpdateUserRequest.username": _USERNAME,
    "UpdateUserRequest.email": _EMAIL,
    "UpdateUserRequest.locale": _LOCALE,
    "DisableUserRequest.user_id": _ID,
    "EnableUserRequest.user_id": _ID,
    "DeleteUserRequest.user_id": _ID,
    "ListUserSessionsRequest.user_id": _ID,
    "ListUserSessionsRequest.page_token": _PAGE_TOKEN,
    "RevokeUserSessionsRequest.user_id": _ID,
    "RevokeUserSessionsRequest.session_id": _OPTIONAL_ID,
    "CreateRoleRequest.name": _ROLE,
    "CreateRoleRequest.permissions": _ROLE,
    "UpdateRoleRequest.name": _ROLE,
    "UpdateRoleRequest.permissions": _ROLE,
    "DeleteRoleRequest.name": _ROLE,
    "ListRolesRequest.page_token": _PAGE_TOKEN,
    "AssignRoleRequest.user_id": _ID,
    "AssignRoleRequest.role": _ROLE,
    "AssignRoleRequest.reason": Rule(role_rules.reason, role_rules.REASON_MAX),
    "UnassignRoleRequest.user_id": _ID,
    "UnassignRoleRequest.role": _ROLE,
    "RevokeSessionsRequest.role": _ROLE,
    "CreateServiceKeyRequest.name": Rule(caller_name, CALLER_NAME_MAX),
    "CreateServiceKeyRequest.scopes": Rule(_scope, SCOPE_MAX),
    "ListServiceKeysRequest.page_token": _PAGE_TOKEN,
    "RevokeServiceKeyRequest.service_key_id": _ID,
    "ListAuditEventsRequest.page_token": _PAGE_TOKEN,
    "ListAuditEventsRequest.user_id": _OPTIONAL_ID,
    "ListAuditEventsRequest.action": Rule(_word, WORD_MAX),
    "ListAuditEventsRequest.actor": Rule(_word, WORD_MAX),
}

# Choices that may be left open.
OPTIONAL_ONEOFS = frozenset({"RevokeRequest.target"})
# How many texts a list must have at least and may have at most.
LISTS: dict[str, tuple[int, int]] = {
    "BatchValidateSessionsRequest.session_tokens": (1, SESSION_TOKENS_MAX),
    "CreateRoleRequest.permissions": (0, role_rules.PERMISSIONS_MAX),
    "UpdateRoleRequest.permissions": (0, role_rules.PERMISSIONS_MAX),
    "CreateServiceKeyRequest.scopes": (1, len(Scope)),
}
# Fields of a request with a mask that count only when it names them.
UPDATABLE: dict[str, Sequence[str]] = {
    "UpdateUserRequest": ("full_name", "username", "email", "locale"),
}
