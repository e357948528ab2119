"""Client of the Watchword authentication service.

    async with AsyncClient("127.0.0.1:50051", service_key="wwk_...") as watchword:
        sent = await watchword.send_otp(email="ada@example.com")
        signed_in = await watchword.verify_otp(challenge_id=sent.challenge.id, code="123456")
        answer = await watchword.validate_session(signed_in.session_token)

`Client` has the same methods for programs without an event loop. Every call answers the response
message of watchword.v1 and raises a subclass of WatchwordError.
"""

from watchword_client._gen.watchword.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    error_reason_pb2,
    resources_pb2,
)
from watchword_client.aio import AsyncClient
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
    SessionInvalid,
    Unavailable,
    UsernameTaken,
    UserNotFound,
    WatchwordError,
)
from watchword_client.sync import Client

__all__ = [
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
    "SessionInvalid",
    "Unavailable",
    "UserNotFound",
    "UsernameTaken",
    "WatchwordError",
    "auth_service_pb2",
    "auth_service_pb2_grpc",
    "error_reason_pb2",
    "resources_pb2",
]
