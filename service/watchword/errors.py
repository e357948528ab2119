"""The errors that Watchword answers, and nothing of gRPC.

    WatchwordError                      one `Reason` each; transport/errors.py has its gRPC code
    ├── RequestInvalid                  every field that is wrong, at once
    ├── RequestMalformed
    ├── OtpInvalid
    ├── SessionInvalid
    ├── ReauthenticationNeeded
    ├── UsernameTaken
    ├── EmailTaken
    ├── UserNotFound
    ├── RoleExists
    ├── RoleNotFound
    ├── ServiceKeyNotFound
    ├── ChallengeClosed
    ├── CallerError
    │   ├── CallerCredentialMissing
    │   ├── CallerCredentialInvalid
    │   └── CallerScopeMissing          the scope
    ├── RateLimited                     which limit, and when to come back
    ├── Overloaded                      when to come back
    └── StorageUnavailable
        └── CommitOutcomeUnknown        whether the change was taken is not known

    ValueRejected                       one value; validation collects them into RequestInvalid

A message here reaches the caller: it never holds a code, a token or an address.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """Why a call failed; each is a value of watchword.v1.ErrorReason without its prefix."""

    REQUEST_INVALID = "REQUEST_INVALID"
    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    OTP_INVALID = "OTP_INVALID"
    SESSION_INVALID = "SESSION_INVALID"
    USERNAME_TAKEN = "USERNAME_TAKEN"
    EMAIL_TAKEN = "EMAIL_TAKEN"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    CHALLENGE_CLOSED = "CHALLENGE_CLOSED"
    CALLER_CREDENTIAL_MISSING = "CALLER_CREDENTIAL_MISSING"
    CALLER_CREDENTIAL_INVALID = "CALLER_CREDENTIAL_INVALID"
    CALLER_SCOPE_MISSING = "CALLER_SCOPE_MISSING"
    OVERLOADED = "OVERLOADED"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    INTERNAL = "INTERNAL"
    RATE_LIMITED = "RATE_LIMITED"
    REAUTHENTICATION_NEEDED = "REAUTHENTICATION_NEEDED"
    ROLE_EXISTS = "ROLE_EXISTS"
    ROLE_NOT_FOUND = "ROLE_NOT_FOUND"
    SERVICE_KEY_NOT_FOUND = "SERVICE_KEY_NOT_FOUND"


class WatchwordError(Exception):
    """An error with a reason that programs can act on and a message for people."""

    reason: ClassVar[Reason]
    message: ClassVar[str]

    def __str__(self) -> str:
        """The fixed message; what was wrong in detail is in attributes."""
        return self.message


class ValueRejected(ValueError):
    """One value is not acceptable; the message says what would be, never the value."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that is wrong, by its path in the request, and what would be accepted."""

    field: str
    description: str


class RequestInvalid(WatchwordError):
    """One or more fields are wrong."""

    reason = Reason.REQUEST_INVALID
    message = "the request has invalid fields"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__()
        self.violations = tuple(violations)

    def __str__(self) -> str:
        """The message with every field, as a person who reads a log wants it."""
        listed = "; ".join(f"{v.field} {v.description}" for v in self.violations)
        return f"{self.message}: {listed}"


class RequestMalformed(WatchwordError):
    """The body is no message of the expected type."""

    reason = Reason.REQUEST_MALFORMED
    message = "the request body cannot be decoded"


class OtpInvalid(WatchwordError):
    """The code is wrong, used, expired or unknown, or its attempts are spent."""

    reason = Reason.OTP_INVALID
    message = "the code is not valid"


class SessionInvalid(WatchwordError):
    """The session is unknown, expired or revoked, or its user may not sign in."""

    reason = Reason.SESSION_INVALID
    message = "the session is not valid"


class ReauthenticationNeeded(WatchwordError):
    """The session lives, but its user proved the address too long ago for what is asked."""

    reason = Reason.REAUTHENTICATION_NEEDED
    message = "the person must prove the address again"


class UsernameTaken(WatchwordError):
    """The username is owned or held by somebody else."""

    reason = Reason.USERNAME_TAKEN
    message = "the username is taken"


class EmailTaken(WatchwordError):
    """The address has an account; told to whoever has proved it, or where that is disclosed."""

    reason = Reason.EMAIL_TAKEN
    message = "the address has an account already"


class UserNotFound(WatchwordError):
    """No such user; where roles are asked for, no active one."""

    reason = Reason.USER_NOT_FOUND
    message = "no such user"


class RoleExists(WatchwordError):
    """There is a role of this name."""

    reason = Reason.ROLE_EXISTS
    message = "there is a role of this name already"


class RoleNotFound(WatchwordError):
    """No role has this name."""

    reason = Reason.ROLE_NOT_FOUND
    message = "no such role"


class ServiceKeyNotFound(WatchwordError):
    """No stored service key has this id."""

    reason = Reason.SERVICE_KEY_NOT_FOUND
    message = "no such service key"


class ChallengeClosed(WatchwordError):
    """The challenge cannot be mailed again."""

    reason = Reason.CHALLENGE_CLOSED
    message = "the challenge is closed; ask for a new code by address"


class CallerError(WatchwordError):
    """The calling program, not the person, is refused; `caller` is its name where it is known."""

    caller: str | None = None


class CallerCredentialMissing(CallerError):
    """The call names no caller."""

    reason = Reason.CALLER_CREDENTIAL_MISSING
    message = "the call needs `authorization: Bearer` with a service key"


class CallerCredentialInvalid(CallerError):
    """The service key is malformed, unknown or sent more than once."""

    reason = Reason.CALLER_CREDENTIAL_INVALID
    message = "the service key is not valid"


class CallerScopeMissing(CallerError):
    """The service key lacks a scope."""

    reason = Reason.CALLER_SCOPE_MISSING
    message = "the service key lacks the scope for this call"

    def __init__(self, scope: str, *, caller: str) -> None:
        super().__init__()
        self.scope = scope
        self.caller = caller


class RateLimited(WatchwordError):
    """A limit is reached; `limit` says whose, and a retry is in vain for `retry_after_seconds`."""

    reason = Reason.RATE_LIMITED
    message = "a limit is reached"

    def __init__(self, limit: str, *, retry_after_seconds: int) -> None:
        super().__init__()
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        """The message with what a person wants to know: which limit, and when."""
        return f"{self.message}: `{self.limit}`; try again in {self.retry_after_seconds} s"


class Overloaded(WatchwordError):
    """More than there is room for; worth a retry after `retry_after_seconds`."""

    reason = Reason.OVERLOADED
    message = "the server is overloaded"

    def __init__(self, *, retry_after_seconds: int = 1) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class StorageUnavailable(WatchwordError):
    """The database is out of reach or too slow."""

    reason = Reason.STORAGE_UNAVAILABLE
    message = "the database is unavailable"


class CommitOutcomeUnknown(StorageUnavailable):
    """The connection was lost in COMMIT: the change may have been taken or not."""
