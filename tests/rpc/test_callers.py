"""Who may call what (threats rows 40 and 41): every RPC against every kind of credential.

The guard is CallerRegistry.authenticate as the first line of Pipeline._answer: it decides before
the body is decoded, so each call here has a body that no RPC would take, and no statement is sent.
"""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.rpc.wire import REQUESTS, Wire, sent, wire_to
from tests.support.running import RunningApp, running_app
from watchword.callers.model import Scope

NEEDED = {
    "Register": Scope.LOGIN,
    "SendOtp": Scope.LOGIN,
    "VerifyOtp": Scope.LOGIN,
    "ValidateSession": Scope.VALIDATE,
    "BatchValidateSessions": Scope.VALIDATE,
    "RefreshSession": Scope.LOGIN,
    "Revoke": Scope.LOGIN,
    "ListSessions": Scope.LOGIN,
    "StartEmailChange": Scope.LOGIN,
    "ConfirmEmailChange": Scope.LOGIN,
    "GetRoles": Scope.VALIDATE,
}
MALFORMED = b"\xff\xff"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


def bearer(key: str) -> list[tuple[str, str]]:
    """The metadata of a caller."""
    return [("authorization", f"Bearer {key}")]


def refused_credentials(app: RunningApp, key: str) -> dict[str, list[tuple[str, str]]]:
    """Metadata that names no caller of this installation; `key` is a good one."""
    last = "A" if key[-1] != "A" else "E"
    other = app.service_key(Scope.LOGIN)
    return {
        "no scheme": [("authorization", key)],
        "Basic": [("authorization", f"Basic {key}")],
        "another scheme": [("authorization", f"Bearer2 {key}")],
        "empty": [("authorization", "")],
        "scheme alone": [("authorization", "Bearer")],
        "scheme and a space": [("authorization", "Bearer ")],
        "two spaces": [("authorization", f"Bearer  {key}")],
        "no key": bearer("wwk_"),
        "short key": bearer("wwk_AAAA"),
        "session token": bearer(app.keys.mint_session(1).token.reveal()),
        "one character short": bearer(key[:-1]),
        "one character more": bearer(key + "A"),
        "padding": bearer(key + "="),
        "other case": bearer(key.swapcase()),
        "wrong tag": bearer(key[:-6] + ("A" if key[-6] != "A" else "B") + key[-5:]),
        "wrong last character": bearer(key[:-1] + last),
        "wrong secret": bearer(key[:8] + ("A" if key[8] != "A" else "B") + key[9:]),
        "right tag, not configured": bearer(app.keys.mint_service_key().reveal()),
        "the same key twice": bearer(key) * 2,
        "two keys": bearer(key) + bearer(other),
        "a good one after a bad one": bearer("wwk_AAAA") + bearer(key),
        "a good one before a bad one": bearer(key) + bearer("wwk_AAAA"),
        "two in one entry": [("authorization", f"Bearer {key}, Bearer {key}")],
    }


async def assert_denied(
    app: RunningApp, wire: Wire, method: str, metadata: list[tuple[str, str]], reason: str
) -> None:
    """PERMISSION_DENIED for this reason, whatever the body is, and not one statement."""
    app.statements.clear()
    for body in (MALFORMED, b""):
        answer = await wire.call(method, body, metadata=metadata)
        assert answer.code is grpc.StatusCode.PERMISSION_DENIED, metadata
        assert answer.reason == reason, metadata
        assert answer.fields == [], metadata
    assert sent(app) == []


@pytest.mark.parametrize("method", REQUESTS)
async def test_no_caller_no_call(shared_app: RunningApp, shared_wire: Wire, method: str) -> None:
    """A call without `authorization` is CALLER_CREDENTIAL_MISSING; other headers do not stand in
    for it, whatever they say.
    """
    for metadata in ([], [("x-authorization", f"Bearer {shared_wire.key}"), ("x-caller", "tests")]):
        await assert_denied(shared_app, shared_wire, method, metadata, "CALLER_CREDENTIAL_MISSING")


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_credential_that_is_not_ours_is_refused(
    shared_app: RunningApp, shared_wire: Wire, method: str
) -> None:
    """Malformed, forged, unknown and doubled credentials are CALLER_CREDENTIAL_INVALID."""
    for metadata in refused_credentials(shared_app, shared_wire.key).values():
        await assert_denied(shared_app, shared_wire, method, metadata, "CALLER_CREDENTIAL_INVALID")


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("method", REQUESTS)
async def test_each_scope_opens_its_own_calls_and_no_other(
    shared_app: RunningApp, shared_wire: Wire, method: str, scope: Scope
) -> None:
    """A key of one scope gets through to decoding where that is the scope of the RPC, and is
    refused with the name of the missing scope elsewhere.
    """
    metadata = bearer(shared_app.service_key(scope))
    if scope is NEEDED[method]:
        answer = await shared_wire.call(method, MALFORMED, metadata=metadata)
        assert answer.reason == "REQUEST_MALFORMED"
        return
    await assert_denied(shared_app, shared_wire, method, metadata, "CALLER_SCOPE_MISSING")
    answer = await shared_wire.call(method, MALFORMED, metadata=metadata)
    assert answer.info.metadata == {"scope": NEEDED[method]}


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_key_with_every_scope_opens_every_call(shared_wire: Wire, method: str) -> None:
    """The scheme's case does not matter (RFC 9110, 11.1)."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await shared_wire.call(
            method, MALFORMED, metadata=[("authorization", f"{scheme} {shared_wire.key}")]
        )
        assert answer.reason == "REQUEST_MALFORMED"


async def test_a_refused_key_is_not_echoed(shared_app: RunningApp, shared_wire: Wire) -> None:
    """Nothing of the credential comes back."""
    key = shared_app.keys.mint_service_key().reveal()
    answer = await shared_wire.call("Revoke", b"", metadata=bearer(key))
    assert key[4:20] not in answer.text


async def test_health_needs_no_caller(shared_wire: Wire) -> None:
    """Load balancers have no key: health answers SERVING for the server and for its service."""
    for name in ("", "watchword.v1.AuthService"):
        answer = await shared_wire.call(
            "Check",
            health_pb2.HealthCheckRequest(service=name),
            service="grpc.health.v1.Health",
            metadata=[],
        )
        assert answer.code is grpc.StatusCode.OK
        assert health_pb2.HealthCheckResponse.FromString(answer.body).status == 1


async def reflect(app: RunningApp) -> list[bytes]:
    """Asks the server's reflection, without a caller, which services there are."""

    async def questions() -> AsyncIterator[bytes]:
        yield b"\x3a\x01*"  # list_services: "*"

    async with grpc.aio.insecure_channel(app.app.api_address) as channel:
        call = channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo")(questions(), timeout=5)
        return [answer async for answer in call]


async def test_reflection_is_off_by_default(shared_app: RunningApp) -> None:
    """Who scans the port learns no method."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflect(shared_app)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_can_be_switched_on(database_url: str) -> None:
    """API__REFLECTION=true lists the services without a caller, for grpcurl and `buf curl`."""
    async with running_app(database_url, API__REFLECTION="true") as app:
        (answer,) = await reflect(app)
        for service in (b"watchword.v1.AuthService", b"grpc.health.v1.Health", REFLECTION.encode()):
            assert service in answer
        async with wire_to(app) as wire:
            denied = await wire.call("Register", b"", metadata=[])
            assert denied.reason == "CALLER_CREDENTIAL_MISSING"
