"""What a call raises: one class per reason that programs act on, read from google.rpc.ErrorInfo.

    WatchwordError              every failed call: `code`, `reason`, `message`, `metadata`
    ├── RequestInvalid          `violations`, every field that is wrong
    ├── OtpInvalid
    ├── SessionInvalid          the person must sign in again
    ├── ReauthenticationNeeded  the person must prove the address again, for this only
    ├── UsernameTaken, EmailTaken, UserNotFound, ChallengeClosed
    ├── RoleExists, RoleNotFound, ServiceKeyNotFound
    ├── CallerRefused           this program's service key, not the person, is refused
    ├── RateLimited             `retry_after`; metadata's `limit` says whose
    ├── Overloaded              `retry_after`
    └── Unavailable             the service or its database cannot be reached; the person stays
                                signed in

An error that gRPC itself made carries no ErrorInfo: its reason is empty and its class follows its
code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "watchword.v1"
_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong, by its path in the request, and what would be accepted."""

    field: str
    description: str


class WatchwordError(Exception):
    """A failed call; `reason` is a value of ErrorReason without its prefix, or empty."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Code, reason and message on one line; the message names every wrong field."""
        head = f"{self.code.name} {self.reason}".rstrip()
        return f"{head}: {self.message}"


class RequestInvalid(WatchwordError):
    """One or more fields are wrong, or the request could not be decoded."""


class OtpInvalid(WatchwordError):
    """The code is wrong, used, expired or unknown, or its attempts are spent."""


class SessionInvalid(WatchwordError):
    """The session is not live; the person must sign in again."""


class ReauthenticationNeeded(WatchwordError):
    """The session lives, but the person must prove the address again for this."""


class UsernameTaken(WatchwordError):
    """The username is owned or held by somebody else."""


class EmailTaken(WatchwordError):
    """The address has an account; only where the installation discloses that."""


class UserNotFound(WatchwordError):
    """No user is meant; where roles are asked for, no active one."""


class RoleExists(WatchwordError):
    """There is a role of this name."""


class RoleNotFound(WatchwordError):
    """No role has this name."""


class ServiceKeyNotFound(WatchwordError):
    """No stored service key has this id."""


class ChallengeClosed(WatchwordError):
    """The challenge cannot be mailed again; ask for a new code by address."""


class CallerRefused(WatchwordError):
    """The service key is missing, wrong or lacks a scope; a person can't mend that."""


class RateLimited(WatchwordError):
    """A limit is reached, for which the person or the caller has to wait; see `retry_after`."""


class Overloaded(WatchwordError):
    """The service has too much to do; try again after `retry_after`."""


class Unavailable(WatchwordError):
    """The service, or its database, cannot be reached in time."""


_BY_REASON: dict[str, type[WatchwordError]] = {
    "REQUEST_INVALID": RequestInvalid,
    "REQUEST_MALFORMED": RequestInvalid,
    "OTP_INVALID": OtpInvalid,
    "SESSION_INVALID": SessionInvalid,
    "REAUTHENTICATION_NEEDED": ReauthenticationNeeded,
    "USERNAME_TAKEN": UsernameTaken,
    "EMAIL_TAKEN": EmailTaken,
    "USER_NOT_FOUND": UserNotFound,
    "ROLE_EXISTS": RoleExists,
    "ROLE_NOT_FOUND": RoleNotFound,
    "SERVICE_KEY_NOT_FOUND": ServiceKeyNotFound,
    "CHALLENGE_CLOSED": ChallengeClosed,
    "CALLER_CREDENTIAL_MISSING": CallerRefused,
    "CALLER_CREDENTIAL_INVALID": CallerRefused,
    "CALLER_SCOPE_MISSING": CallerRefused,
    "RATE_LIMITED": RateLimited,
    "OVERLOADED": Overloaded,
    "STORAGE_UNAVAILABLE": Unavailable,
}

# For what gRPC itself answers. Never UNAUTHENTICATED: only Watchword's own word signs people out.
_BY_CODE: dict[grpc.StatusCode, type[WatchwordError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
}


def from_rpc_error(error: grpc.RpcError) -> WatchwordError:
    """Returns the typed error for what grpc or grpc.aio raised for a call."""
    info = error_details_pb2.ErrorInfo()
    violations: list[FieldViolation] = []
    retry_after = None
    for detail in _status_of(error).details:
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Unpack(bad_request):
            violations += [
                FieldViolation(v.field, v.description) for v in bad_request.field_violations
            ]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    reason = info.reason if info.domain == DOMAIN else ""
    error_class = _BY_REASON.get(reason) or _BY_CODE.get(error.code(), WatchwordError)
    return error_class(
        error.details() or "",
        code=error.code(),
        reason=reason,
        metadata=info.metadata,
        violations=tuple(violations),
        retry_after=retry_after,
    )


def _status_of(error: grpc.RpcError) -> status_pb2.Status:
    # grpc's and grpc.aio's pairs are of different types.
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()
