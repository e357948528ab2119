import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from . import error_reason_pb2 as _error_reason_pb2
from . import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RevokeScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOKE_SCOPE_UNSPECIFIED: _ClassVar[RevokeScope]
    REVOKE_SCOPE_THIS: _ClassVar[RevokeScope]
    REVOKE_SCOPE_OTHERS: _ClassVar[RevokeScope]
    REVOKE_SCOPE_ALL: _ClassVar[RevokeScope]
REVOKE_SCOPE_UNSPECIFIED: RevokeScope
REVOKE_SCOPE_THIS: RevokeScope
REVOKE_SCOPE_OTHERS: RevokeScope
REVOKE_SCOPE_ALL: RevokeScope

class RegisterRequest(_message.Message):
    __slots__ = ("full_name", "username", "email", "locale", "send_otp", "client")
    FULL_NAME_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    SEND_OTP_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    full_name: str
    username: str
    email: str
    locale: str
    send_otp: bool
    client: _resources_pb2.ClientContext
    def __init__(self, full_name: _Optional[str] = ..., username: _Optional[str] = ..., email: _Optional[str] = ..., locale: _Optional[str] = ..., send_otp: bool = ..., client: _Optional[_Union[_resources_pb2.ClientContext, _Mapping]] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("user_id", "expire_time", "challenge")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    expire_time: _timestamp_pb2.Timestamp
    challenge: _resources_pb2.Challenge
    def __init__(self, user_id: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., challenge: _Optional[_Union[_resources_pb2.Challenge, _Mapping]] = ...) -> None: ...

class SendOtpRequest(_message.Message):
    __slots__ = ("email", "challenge_id", "locale", "client", "request_id")
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    email: str
    challenge_id: str
    locale: str
    client: _resources_pb2.ClientContext
    request_id: str
    def __init__(self, email: _Optional[str] = ..., challenge_id: _Optional[str] = ..., locale: _Optional[str] = ..., client: _Optional[_Union[_resources_pb2.ClientContext, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class SendOtpResponse(_message.Message):
    __slots__ = ("challenge",)
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    challenge: _resources_pb2.Challenge
    def __init__(self, challenge: _Optional[_Union[_resources_pb2.Challenge, _Mapping]] = ...) -> None: ...

class VerifyOtpRequest(_message.Message):
    __slots__ = ("challenge_id", "email", "code", "client")
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    challenge_id: str
    email: str
    code: str
    client: _resources_pb2.ClientContext
    def __init__(self, challenge_id: _Optional[str] = ..., email: _Optional[str] = ..., code: _Optional[str] = ..., client: _Optional[_Union[_resources_pb2.ClientContext, _Mapping]] = ...) -> None: ...

class VerifyOtpResponse(_message.Message):
    __slots__ = ("session_token", "session", "user", "first_sign_in", "device_token")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    FIRST_SIGN_IN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    session: _resources_pb2.Session
    user: _resources_pb2.User
    first_sign_in: bool
    device_token: str
    def __init__(self, session_token: _Optional[str] = ..., session: _Optional[_Union[_resources_pb2.Session, _Mapping]] = ..., user: _Optional[_Union[_resources_pb2.User, _Mapping]] = ..., first_sign_in: bool = ..., device_token: _Optional[str] = ...) -> None: ...

class ValidateSessionRequest(_message.Message):
    __slots__ = ("session_token", "min_change_token", "max_auth_age")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MIN_CHANGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MAX_AUTH_AGE_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    min_change_token: str
    max_auth_age: _duration_pb2.Duration
    def __init__(self, session_token: _Optional[str] = ..., min_change_token: _Optional[str] = ..., max_auth_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ValidateSessionResponse(_message.Message):
    __slots__ = ("session", "user", "as_of_time")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    session: _resources_pb2.Session
    user: _resources_pb2.User
    as_of_time: _timestamp_pb2.Timestamp
    def __init__(self, session: _Optional[_Union[_resources_pb2.Session, _Mapping]] = ..., user: _Optional[_Union[_resources_pb2.User, _Mapping]] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BatchValidateSessionsRequest(_message.Message):
    __slots__ = ("session_tokens",)
    SESSION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    session_tokens: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session_tokens: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchValidateSessionsResponse(_message.Message):
    __slots__ = ("results", "as_of_time")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SessionResult]
    as_of_time: _timestamp_pb2.Timestamp
    def __init__(self, results: _Optional[_Iterable[_Union[SessionResult, _Mapping]]] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SessionResult(_message.Message):
    __slots__ = ("session", "user", "error_reason")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    session: _resources_pb2.Session
    user: _resources_pb2.User
    error_reason: _error_reason_pb2.ErrorReason
    def __init__(self, session: _Optional[_Union[_resources_pb2.Session, _Mapping]] = ..., user: _Optional[_Union[_resources_pb2.User, _Mapping]] = ..., error_reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ...) -> None: ...

class RefreshSessionRequest(_message.Message):
    __slots__ = ("session_token", "client")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    client: _resources_pb2.ClientContext
    def __init__(self, session_token: _Optional[str] = ..., client: _Optional[_Union[_resources_pb2.ClientContext, _Mapping]] = ...) -> None: ...

class RefreshSessionResponse(_message.Message):
    __slots__ = ("session_token", "session")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    session: _resources_pb2.Session
    def __init__(self, session_token: _Optional[str] = ..., session: _Optional[_Union[_resources_pb2.Session, _Mapping]] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("session_token", "scope", "session_id")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    scope: RevokeScope
    session_id: str
    def __init__(self, session_token: _Optional[str] = ..., scope: _Optional[_Union[RevokeScope, str]] = ..., session_id: _Optional[str] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("revoked_count", "change_token")
    REVOKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revoked_count: int
    change_token: str
    def __init__(self, revoked_count: _Optional[int] = ..., change_token: _Optional[str] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("session_token", "page_size", "page_token")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    page_size: int
    page_token: str
    def __init__(self, session_token: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[_resources_pb2.ListedSession]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[_resources_pb2.ListedSession, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StartEmailChangeRequest(_message.Message):
    __slots__ = ("session_token", "new_email", "locale", "client")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEW_EMAIL_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    new_email: str
    locale: str
    client: _resources_pb2.ClientContext
    def __init__(self, session_token: _Optional[str] = ..., new_email: _Optional[str] = ..., locale: _Optional[str] = ..., client: _Optional[_Union[_resources_pb2.ClientContext, _Mapping]] = ...) -> None: ...

class StartEmailChangeResponse(_message.Message):
    __slots__ = ("challenge",)
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    challenge: _resources_pb2.Challenge
    def __init__(self, challenge: _Optional[_Union[_resources_pb2.Challenge, _Mapping]] = ...) -> None: ...

class ConfirmEmailChangeRequest(_message.Message):
    __slots__ = ("session_token", "challenge_id", "code", "client")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    challenge_id: str
    code: str
    client: _resources_pb2.ClientContext
    def __init__(self, session_token: _Optional[str] = ..., challenge_id: _Optional[str] = ..., code: _Optional[str] = ..., client: _Optional[_Union[_resources_pb2.ClientContext, _Mapping]] = ...) -> None: ...

class ConfirmEmailChangeResponse(_message.Message):
    __slots__ = ("user", "revoked_count", "change_token")
    USER_FIELD_NUMBER: _ClassVar[int]
    REVOKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user: _resources_pb2.User
    revoked_count: int
    change_token: str
    def __init__(self, user: _Optional[_Union[_resources_pb2.User, _Mapping]] = ..., revoked_count: _Optional[int] = ..., change_token: _Optional[str] = ...) -> None: ...

class GetRolesRequest(_message.Message):
    __slots__ = ("user_id", "session_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_token: str
    def __init__(self, user_id: _Optional[str] = ..., session_token: _Optional[str] = ...) -> None: ...

class GetRolesResponse(_message.Message):
    __slots__ = ("roles", "permissions", "as_of_time")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedScalarFieldContainer[str]
    permissions: _containers.RepeatedScalarFieldContainer[str]
    as_of_time: _timestamp_pb2.Timestamp
    def __init__(self, roles: _Optional[_Iterable[str]] = ..., permissions: _Optional[_Iterable[str]] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
