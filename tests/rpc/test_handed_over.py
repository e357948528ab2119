"""Calls that the gate hands over to Python without grpc.aio: whose they are and when they end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from tests.rpc.wire import SERVICE, Wire, wire_to
from tests.support.running import RunningApp, running_app
from watchword.app import CALLS_PER_CONNECTION
from watchword.transport.auth_service import AuthService
from watchword_client import auth_service_pb2 as pb

# CALLS_MAX in rust_core/gate/src/settings.rs.
CALLERS_MAX = 256
POOL_SIZE = 3
AT_ONCE = CALLS_PER_CONNECTION * POOL_SIZE
WAIT_SECONDS = 10.0
REVOKE = pb.RevokeRequest(session_token="none")
ROLES = pb.GetRolesRequest(user_id="00000000-0000-8000-8000-000000000000")


class Held:
    """GetRoles that waits until `ended` is set, even when its client has gone."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.over = 0
        self.ended = asyncio.Event()

    async def get_roles(
        self, _service: AuthService, _request: pb.GetRolesRequest, _caller: str
    ) -> pb.GetRolesResponse:
        self.begun += 1
        cancelled = None
        while not self.ended.is_set():
            try:
                await self.ended.wait()
            except asyncio.CancelledError as error:
                # Its time for the database ends as well.
                self.cancelled += cancelled is None
                cancelled = error
        self.over += 1
        if cancelled is not None:
            raise cancelled
        return pb.GetRolesResponse(roles=["held"])


async def _until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not happened():
            await asyncio.sleep(0.005)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """What GetRoles is in the server."""
    made = Held()

    async def get_roles(
        service: AuthService, request: pb.GetRolesRequest, caller: str
    ) -> pb.GetRolesResponse:
        return await made.get_roles(service, request, caller)

    monkeypatch.setattr(AuthService, "get_roles", get_roles)
    return made


@pytest.fixture
async def gated(database_url: str, held: Held) -> AsyncIterator[RunningApp]:
    """A server behind the gate."""
    async with running_app(database_url, DATABASE__POOL_SIZE=str(POOL_SIZE)) as app:
        yield app
        held.ended.set()


@pytest.fixture
async def wire(gated: RunningApp) -> AsyncIterator[Wire]:
    """A channel to it."""
    async with wire_to(gated) as wire:
        yield wire


def _begin(wire: Wire, timeout: float = WAIT_SECONDS) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
    key = [("authorization", f"Bearer {wire.key}")]
    return wire.start("GetRoles", ROLES.SerializeToString(), key, timeout=timeout)


async def _fill(wire: Wire) -> list[grpc.aio.UnaryUnaryCall[bytes, bytes]]:
    """Begins calls until one is refused: those before it may still have been on their way."""
    begun = []
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            call = _begin(wire)
            done, _ = await asyncio.wait([asyncio.ensure_future(call.code())], timeout=0.2)
            if done:
                assert done.pop().result() is grpc.StatusCode.RESOURCE_EXHAUSTED
                return begun
            begun.append(call)


async def test_a_call_has_its_place_until_it_is_over(
    gated: RunningApp, wire: Wire, held: Held
) -> None:
    """Of 256 calls 12 are begun, and no other has a place; of those that are begun each keeps its
    own when its client has gone, the others leave theirs; nobody waits for one that is over.

    Seen to fail with the place left when the client goes, and with no bound of what is begun.
    """
    async with wire_to(gated) as other:
        calls = [_begin(wire) for _ in range(CALLERS_MAX)]
        await _until(lambda: held.begun == AT_ONCE)
        calls += await _fill(other)
        assert (await other.call("Revoke", REVOKE)).reason == "OVERLOADED"
        assert held.begun == AT_ONCE
        for call in calls:
            call.cancel()
        await _until(lambda: held.cancelled == AT_ONCE)
        more = [_begin(wire) for _ in range(CALLERS_MAX - AT_ONCE)]
        more += await _fill(other)
        assert (await other.call("Revoke", REVOKE)).reason == "OVERLOADED"
        assert held.begun == AT_ONCE
        held.ended.set()
        # One that came after those that filled up was refused in their place.
        ends = Counter([await call.code() for call in more])
        assert ends.pop(grpc.StatusCode.OK) == CALLERS_MAX - AT_ONCE
        assert set(ends) <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert held.over == held.begun == CALLERS_MAX
        assert (await other.call("Revoke", REVOKE)).code is grpc.StatusCode.OK


async def test_who_goes_ends_the_call(gated: RunningApp, held: Held) -> None:
    """By a cancel, with its connection, or by a deadline; calls beside it go on.

    Seen to fail without the word to Python.
    """
    async with wire_to(gated) as stays:
        other = _begin(stays)
        async with wire_to(gated) as wire:
            cancelled, late, _left = _begin(wire), _begin(wire, timeout=1.0), _begin(wire)
            await _until(lambda: held.begun == 4)
            cancelled.cancel()
            await _until(lambda: held.cancelled == 1)
            assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await _until(lambda: held.cancelled == 2)
        await _until(lambda: held.cancelled == 3)
        held.ended.set()
        assert pb.GetRolesResponse.FromString(await other).roles == ["held"]


async def test_a_drain_waits_for_them(gated: RunningApp, wire: Wire, held: Held) -> None:
    """A call under way when the server stops has its answer."""
    call = _begin(wire)
    await _until(lambda: held.begun == 1)
    stopping = asyncio.create_task(gated.app.stop())
    await asyncio.sleep(0.3)
    assert not call.done()
    held.ended.set()
    assert pb.GetRolesResponse.FromString(await call).roles == ["held"]
    await stopping


async def test_what_is_no_plain_message_comes_through_grpc_aio(
    gated: RunningApp, wire: Wire
) -> None:
    """With grpc.aio gone, a plain call of a caller is answered and others are not; with it, the
    compressed one, the long one and the stranger's were.
    """
    key = [("authorization", f"Bearer {wire.key}")]
    plain = REVOKE.SerializeToString()
    # A field that the server does not know.
    long = plain + b"\xfa\x3f\xa8\x46" + b"x" * 9_000

    async def codes() -> list[str]:
        async with grpc.aio.insecure_channel(gated.app.api_address) as channel:
            revoke = channel.unary_unary(f"/{SERVICE}/Revoke")
            made = [
                revoke(plain, metadata=key),
                revoke(plain, metadata=key, compression=grpc.Compression.Gzip),
                revoke(long, metadata=key),
                revoke(plain),
            ]
            return [(await call.code()).name for call in made]

    assert await codes() == ["OK", "OK", "OK", "PERMISSION_DENIED"]
    await gated.app._api._server.stop(0)
    assert await codes() == ["OK", *["UNAVAILABLE"] * 3]
