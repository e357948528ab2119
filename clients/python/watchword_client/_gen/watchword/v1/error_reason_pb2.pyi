from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_REQUEST_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_REQUEST_MALFORMED: _ClassVar[ErrorReason]
    ERROR_REASON_OTP_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_USERNAME_TAKEN: _ClassVar[ErrorReason]
    ERROR_REASON_EMAIL_TAKEN: _ClassVar[ErrorReason]
    ERROR_REASON_USER_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_CHALLENGE_CLOSED: _ClassVar[ErrorReason]
    ERROR_REASON_CALLER_CREDENTIAL_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_CALLER_CREDENTIAL_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_CALLER_SCOPE_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_OVERLOADED: _ClassVar[ErrorReason]
    ERROR_REASON_STORAGE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_RATE_LIMITED: _ClassVar[ErrorReason]
    ERROR_REASON_REAUTHENTICATION_NEEDED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_REQUEST_INVALID: ErrorReason
ERROR_REASON_REQUEST_MALFORMED: ErrorReason
ERROR_REASON_OTP_INVALID: ErrorReason
ERROR_REASON_SESSION_INVALID: ErrorReason
ERROR_REASON_USERNAME_TAKEN: ErrorReason
ERROR_REASON_EMAIL_TAKEN: ErrorReason
ERROR_REASON_USER_NOT_FOUND: ErrorReason
ERROR_REASON_CHALLENGE_CLOSED: ErrorReason
ERROR_REASON_CALLER_CREDENTIAL_MISSING: ErrorReason
ERROR_REASON_CALLER_CREDENTIAL_INVALID: ErrorReason
ERROR_REASON_CALLER_SCOPE_MISSING: ErrorReason
ERROR_REASON_OVERLOADED: ErrorReason
ERROR_REASON_STORAGE_UNAVAILABLE: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_RATE_LIMITED: ErrorReason
ERROR_REASON_REAUTHENTICATION_NEEDED: ErrorReason
