"""The asyncio client: one method per RPC, typed errors, a deadline on every call."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from watchword_client._gen.watchword.v1 import auth_service_pb2 as pb
from watchword_client._gen.watchword.v1 import auth_service_pb2_grpc as pb_grpc
from watchword_client._gen.watchword.v1.resources_pb2 import ClientContext
from watchword_client.errors import from_rpc_error

Response = TypeVar("Response")

DEFAULT_TIMEOUT_SECONDS = 5.0


class AsyncClient:
    """Calls one Watchword; safe to share between tasks of one event loop.

    `target` is `host:port` or `unix:/path`. With `credentials` the channel uses TLS; without, plain
    text, which the server allows on loopback only unless told otherwise. `timeout` is the deadline
    of each call in seconds. Every method raises a subclass of WatchwordError.
    """

    def __init__(
        self,
        target: str,
        *,
        service_key: str,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self._metadata = (("authorization", f"Bearer {service_key}"),)
        self._timeout = timeout
        self._channel = (
            grpc.aio.insecure_channel(target)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials)
        )
        self._stub: Any = pb_grpc.AuthServiceStub(self._channel)  # type: ignore[no-untyped-call]  # protoc writes the stubs without types

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def register(
        self,
        *,
        full_name: str,
        username: str,
        email: str,
        locale: str = "",
        send_otp: bool = False,
        client: ClientContext | None = None,
    ) -> pb.RegisterResponse:
        """Takes down who someone says to be; with `send_otp` also mails a code."""
        request = pb.RegisterRequest(
            full_name=full_name,
            username=username,
            email=email,
            locale=locale,
            send_otp=send_otp,
            client=client,
        )
        answer: pb.RegisterResponse = await self._call(self._stub.Register, request)
        return answer

    async def send_otp(
        self,
        *,
        email: str | None = None,
        challenge_id: str | None = None,
        locale: str = "",
        client: ClientContext | None = None,
    ) -> pb.SendOtpResponse:
        """Mails a code to `email`, or the code of `challenge_id` again."""
        request = pb.SendOtpRequest(
            email=email, challenge_id=challenge_id, locale=locale, client=client
        )
        answer: pb.SendOtpResponse = await self._call(self._stub.SendOtp, request)
        return answer

    async def verify_otp(
        self,
        *,
        code: str,
        challenge_id: str | None = None,
        email: str | None = None,
        client: ClientContext | None = None,
    ) -> pb.VerifyOtpResponse:
        """Signs in with a code. Never retry it: after a lost answer ask for a new code."""
        request = pb.VerifyOtpRequest(
            challenge_id=challenge_id, email=email, code=code, client=client
        )
        answer: pb.VerifyOtpResponse = await self._call(self._stub.VerifyOtp, request)
        return answer

    async def validate_session(self, session_token: str) -> pb.ValidateSessionResponse:
        """Answers whose session it is; SessionInvalid when it is not live."""
        request = pb.ValidateSessionRequest(session_token=session_token)
        answer: pb.ValidateSessionResponse = await self._call(self._stub.ValidateSession, request)
        return answer

    async def revoke(self, session_token: str) -> pb.RevokeResponse:
        """Ends the session; a dead token counts 0 and is no error."""
        request = pb.RevokeRequest(session_token=session_token)
        answer: pb.RevokeResponse = await self._call(self._stub.Revoke, request)
        return answer

    async def get_roles(
        self, *, user_id: str | None = None, session_token: str | None = None
    ) -> pb.GetRolesResponse:
        """Answers the roles and permissions of a user, by id or by a live session."""
        request = pb.GetRolesRequest(user_id=user_id, session_token=session_token)
        answer: pb.GetRolesResponse = await self._call(self._stub.GetRoles, request)
        return answer

    async def _call(
        self,
        method: Callable[..., Awaitable[Response]],
        request: object,
    ) -> Response:
        try:
            return await method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            # `from None`: grpc's own error prints its peer and metadata.
            raise from_rpc_error(error) from None
