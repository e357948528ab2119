"""The asyncio client: one method per RPC, typed errors, a deadline on every call."""

import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self

import grpc

from watchword_client import admin_calls, calls
from watchword_client._gen.watchword.v1 import admin_service_pb2_grpc as admin_grpc
from watchword_client._gen.watchword.v1 import auth_service_pb2_grpc as auth_grpc
from watchword_client.calls import DEFAULT_TIMEOUT_SECONDS, Call, Response
from watchword_client.errors import from_rpc_error

P = ParamSpec("P")


def _method(
    make: Callable[P, Call[Response]],
) -> Callable[Concatenate["_AsyncChannel", P], Coroutine[Any, Any, Response]]:
    """Makes the client's method of a call: the same parameters and words."""

    @functools.wraps(make)
    async def method(self: "_AsyncChannel", /, *args: P.args, **kwargs: P.kwargs) -> Response:
        return await self._make(make(*args, **kwargs))

    return method


class _AsyncChannel:
    """What calls one service of one Watchword."""

    _service: Callable[[Any], Any]

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
        self._stub = self._service(self._channel)

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


class AsyncClient(_AsyncChannel):
    """Calls one Watchword; safe to share between tasks of one event loop.

    `target` is `host:port` or `unix:/path`. With `credentials` the channel uses TLS; without, plain
    text, which the server allows on loopback only unless told otherwise. `timeout` is the deadline
    of each call in seconds. Every method raises a subclass of WatchwordError.
    """

    _service = auth_grpc.AuthServiceStub

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


class AsyncAdminClient(_AsyncChannel):
    """Calls AdminService of one Watchword, at its own address; safe to share between tasks of one
    event loop.

    `target` is `host:port` or `unix:/path`. With `credentials` the channel uses TLS; without, plain
    text, which the server allows on loopback only unless told otherwise. `timeout` is the deadline
    of each call in seconds. Every method raises a subclass of WatchwordError.
    """

    _service = admin_grpc.AdminServiceStub

    create_user = _method(admin_calls.create_user)
    get_user = _method(admin_calls.get_user)
    list_users = _method(admin_calls.list_users)
    update_user = _method(admin_calls.update_user)
    disable_user = _method(admin_calls.disable_user)
    enable_user = _method(admin_calls.enable_user)
    delete_user = _method(admin_calls.delete_user)
    list_user_sessions = _method(admin_calls.list_user_sessions)
    revoke_user_sessions = _method(admin_calls.revoke_user_sessions)
    create_role = _method(admin_calls.create_role)
    update_role = _method(admin_calls.update_role)
    delete_role = _method(admin_calls.delete_role)
    list_roles = _method(admin_calls.list_roles)
    assign_role = _method(admin_calls.assign_role)
    unassign_role = _method(admin_calls.unassign_role)
    revoke_sessions = _method(admin_calls.revoke_sessions)
    create_service_key = _method(admin_calls.create_service_key)
    list_service_keys = _method(admin_calls.list_service_keys)
    revoke_service_key = _method(admin_calls.revoke_service_key)
    list_audit_events = _method(admin_calls.list_audit_events)
