"""Client of the Watchword authentication service.

    async with AsyncClient("127.0.0.1:50051", service_key="wwk_...") as watchword:
        sent = await watchword.send_otp(email="ada@example.com")
        signed_in = await watchword.verify_otp(challenge_id=sent.challenge.id, code="123456")
        answer = await watchword.validate_session(signed_in.session_token)

`Client` has the same methods for programs without an event loop. `AsyncAdminClient` and
`AdminClient` are those of AdminService, which has an address of its own. Every call answers the
response message of watchword.v1 and raises a subclass of WatchwordError.
"""

from watchword_client._gen.watchword.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    auth_service_pb2,
    auth_service_pb2_grpc,
    error_reason_pb2,
    resources_pb2,
)
from watchword_client.aio import AsyncAdminClient, AsyncClient
from watchword_client.errors import (
    CallerRefused,
    ChallengeClosed,
    EmailTaken,
    FieldViolation,
    OtpInvalid,
    Overloaded,
    RateLimited,
    ReauthenticationNeeded,
    RequestInvalid,
    RoleExists,
    RoleNotFound,
    ServiceKeyNotFound,
    SessionInvalid,
    Unavailable,
    UsernameTaken,
    UserNotFound,
    WatchwordError,
)
from watchword_client.sync import AdminClient, Client

__all__ = [
    "AdminClient",
    "AsyncAdminClient",
    "AsyncClient",
    "CallerRefused",
    "ChallengeClosed",
    "Client",
    "EmailTaken",
    "FieldViolation",
    "OtpInvalid",
    "Overloaded",
    "RateLimited",
    "ReauthenticationNeeded",
    "RequestInvalid",
    "RoleExists",
    "RoleNotFound",
    "ServiceKeyNotFound",
    "SessionInvalid",
    "Unavailable",
    "UserNotFound",
    "UsernameTaken",
    "WatchwordError",
    "admin_service_pb2",
    "admin_service_pb2_grpc",
    "auth_service_pb2",
    "auth_service_pb2_grpc",
    "error_reason_pb2",
    "resources_pb2",
]
