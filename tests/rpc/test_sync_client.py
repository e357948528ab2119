"""The synchronous client against a real server: called from threads, as its programs do."""

import asyncio
import inspect
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import ModuleType
from typing import TypeVar

import grpc
import pytest

from tests.support.running import RunningApp
from watchword.callers.model import Scope
from watchword_client import (
    AdminClient,
    AsyncAdminClient,
    AsyncClient,
    CallerRefused,
    Client,
    OtpInvalid,
    RequestInvalid,
    SessionInvalid,
    Unavailable,
    UserNotFound,
    WatchwordError,
    admin_calls,
    admin_service_pb2,
    calls,
)
from watchword_client import auth_service_pb2 as pb

T = TypeVar("T")

THREADS = 8
CALLS_A_THREAD = 25
METHODS = (
    "register",
    "send_otp",
    "verify_otp",
    "validate_session",
    "batch_validate_sessions",
    "refresh_session",
    "revoke",
    "list_sessions",
    "start_email_change",
    "confirm_email_change",
    "get_roles",
)


ADMIN_METHODS = tuple(
    re.sub(r"(?<!^)(?=[A-Z])", "_", rpc.name).lower()
    for rpc in admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].methods
)


def client_of(app: RunningApp, *scopes: Scope) -> Client:
    """A client whose key holds these scopes."""
    return Client(app.app.api_address, service_key=app.service_key(*scopes))


async def in_thread(work: Callable[[], T]) -> T:
    """Runs what blocks beside the server's own loop."""
    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("name", "made", "sync", "aio"),
    [
        *((name, calls, Client, AsyncClient) for name in METHODS),
        *((name, admin_calls, AdminClient, AsyncAdminClient) for name in ADMIN_METHODS),
    ],
)
def test_both_clients_have_the_same_methods(
    name: str, made: ModuleType, sync: type, aio: type
) -> None:
    """Parameters and words are those of the call, whichever client it is."""
    call = getattr(made, name)
    for client in (sync, aio):
        method = getattr(client, name)
        assert inspect.getdoc(method) == inspect.getdoc(call)
        assert inspect.signature(method) == inspect.signature(call)
    assert inspect.iscoroutinefunction(getattr(aio, name))
    assert not inspect.iscoroutinefunction(getattr(sync, name))


async def test_administration_from_a_thread(app: RunningApp) -> None:
    """The same answers and errors as of the asyncio client."""
    key = app.service_key(Scope.USERS)
    with AdminClient(app.app.admin_address, service_key=key) as admin:
        made = await in_thread(
            lambda: admin.create_user(full_name="Ada", username="ada", email="ada@example.com")
        )
        found = await in_thread(lambda: admin.get_user(username="ada"))
        assert found.user == made.user
        with pytest.raises(CallerRefused):
            await in_thread(lambda: admin.create_role("editor"))
    with pytest.raises(ValueError, match="no time zone"):
        admin_calls.assign_role("id", "role", expire_time=datetime(2030, 1, 1))


def test_no_call_is_left_out() -> None:
    """Every RPC of the service is a method of both."""
    rpcs = pb.DESCRIPTOR.services_by_name["AuthService"].methods
    assert {re.sub(r"(?<!^)(?=[A-Z])", "_", rpc.name).lower() for rpc in rpcs} == set(METHODS)


async def test_a_whole_sign_in(app: RunningApp) -> None:
    """Register, code by mail, session, roles, sign-out; each answers its response message."""
    with client_of(app, *Scope) as client:
        registered = await in_thread(
            lambda: client.register(
                full_name="Ada", username="ada", email="ada@example.com", send_otp=True
            )
        )
        code = await app.mails.code_for("ada@example.com")
        challenge_id = registered.challenge.id
        signed_in = await in_thread(lambda: client.verify_otp(challenge_id=challenge_id, code=code))
        token = signed_in.session_token
        live = await in_thread(lambda: client.validate_session(token))
        assert live.user.id == registered.user_id
        assert list((await in_thread(lambda: client.get_roles(session_token=token))).roles) == []
        assert (await in_thread(lambda: client.send_otp(email="ada@example.com"))).challenge.id
        assert (await in_thread(lambda: client.revoke(token))).revoked_count == 1
        with pytest.raises(SessionInvalid):
            await in_thread(lambda: client.validate_session(token))


async def test_errors_are_typed(app: RunningApp) -> None:
    """As the asyncio client's: class, code, reason, every violation; nothing of grpc's shines
    through (the guard: `from None`).
    """
    with client_of(app, *Scope) as client, client_of(app, Scope.VALIDATE) as weak:
        sent = await in_thread(lambda: client.send_otp(email="nobody@example.com"))
        cases: list[tuple[type[WatchwordError], str, Callable[[], object]]] = [
            (SessionInvalid, "SESSION_INVALID", lambda: client.validate_session("ww_x")),
            (
                OtpInvalid,
                "OTP_INVALID",
                lambda: client.verify_otp(challenge_id=sent.challenge.id, code="000000"),
            ),
            (
                UserNotFound,
                "USER_NOT_FOUND",
                lambda: client.get_roles(user_id="01a204a6-948a-8945-a339-45351be34ebe"),
            ),
            (CallerRefused, "CALLER_SCOPE_MISSING", lambda: weak.send_otp(email="a@example.com")),
            (
                RequestInvalid,
                "REQUEST_INVALID",
                lambda: client.register(full_name="", username="", email=""),
            ),
        ]
        for error_class, reason, call in cases:
            with pytest.raises(error_class) as caught:
                await in_thread(call)
            assert type(caught.value) is error_class
            assert caught.value.reason == reason
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
        fields = {violation.field for violation in caught.value.violations}
        assert {"full_name", "username", "email"} <= fields


async def test_threads_share_one_client(app: RunningApp) -> None:
    """Calls of many threads at once each get their own answer."""
    tokens = [(await app.sign_in(f"user{number}")).session_token for number in range(THREADS)]
    barrier = threading.Barrier(THREADS)

    def validate(client: Client, number: int) -> list[str]:
        barrier.wait(timeout=10)
        return [
            client.validate_session(tokens[number]).user.username for _ in range(CALLS_A_THREAD)
        ]

    loop = asyncio.get_running_loop()
    with client_of(app, *Scope) as client, ThreadPoolExecutor(THREADS) as pool:
        answers = await asyncio.gather(
            *(loop.run_in_executor(pool, validate, client, number) for number in range(THREADS))
        )
    assert answers == [[f"user{number}"] * CALLS_A_THREAD for number in range(THREADS)]


async def test_a_server_that_is_not_there() -> None:
    """Unavailable; never SessionInvalid."""
    client = Client("127.0.0.1:1", service_key="wwk_x", timeout=5)
    with client, pytest.raises(Unavailable) as caught:
        await in_thread(lambda: client.validate_session("ww_x"))
    assert caught.value.reason == ""


async def test_a_deadline_is_on_every_call() -> None:
    """A server that takes the connection and says nothing (the guard: `timeout` of the call)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        client = Client(target, service_key="wwk_x", timeout=0.3)
        with client, pytest.raises(Unavailable) as caught:
            async with asyncio.timeout(10):
                await in_thread(lambda: client.validate_session("ww_x"))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
