"""The asyncio client: one method per RPC, typed errors, a deadline on every call."""

import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

import grpc

from watchword_client import calls
from watchword_client._gen.watchword.v1 import auth_service_pb2_grpc as pb_grpc
from watchword_client.calls import DEFAULT_TIMEOUT_SECONDS, Call, Response
from watchword_client.errors import from_rpc_error

P = ParamSpec("P")


def _method(
    make: Callable[P, Call[Response]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, Response]]:
    """Makes the client's method of a call: the same parameters and words."""

    @functools.wraps(make)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> Response:
        return await self._make(make(*args, **kwargs))

    return method


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
        self._metadata = calls.bearer(service_key)
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

    register = _method(calls.register)
    send_otp = _method(calls.send_otp)
    verify_otp = _method(calls.verify_otp)
    validate_session = _method(calls.validate_session)
    batch_validate_sessions = _method(calls.batch_validate_sessions)
    refresh_session = _method(calls.refresh_session)
    revoke = _method(calls.revoke)
    list_sessions = _method(calls.list_sessions)
    start_email_change = _method(calls.start_email_change)
    confirm_email_change = _method(calls.confirm_email_change)
    get_roles = _method(calls.get_roles)

    async def _make(self, call: Call[Response]) -> Response:
        method = getattr(self._stub, call.rpc)
        try:
            answer: Response = await method(
                call.request, timeout=self._timeout, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            # `from None`: grpc's own error prints its peer and metadata.
            raise from_rpc_error(error) from None
        return answer
