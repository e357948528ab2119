"""The gate in front of grpc.aio: what it passes on is what grpc.aio answers, and what it does not
pass on never gets there (threats rows 37, 39 and 47).
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.rpc.echo import Behind, gate_before_echo, host_and_port
from tests.rpc.wire import REQUESTS, SERVICE, Answer, Wire, wire_to
from tests.support.running import running_app
from watchword_client import auth_service_pb2 as pb

WAIT_SECONDS = 10.0
HEALTH = "grpc.health.v1.Health"


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    """A gate with an echo server behind it."""
    async with gate_before_echo() as made:
        yield made


@pytest.fixture
async def channel(behind: Behind) -> AsyncIterator[grpc.aio.Channel]:
    """A client of the gate."""
    async with grpc.aio.insecure_channel(behind.address) as made:
        yield made


async def failure(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    """Awaits a call that has to fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_every_kind_of_answer_is_the_same_without_the_gate(
    database_url: str,
) -> None:
    """Code, message, trailers and body of one table of calls, but for the words of refusals that
    gRPC makes up, which no client reads.
    """
    tables: list[dict[str, tuple[object, ...]]] = []
    for enabled in ("true", "false"):
        async with (
            running_app(database_url, GATE__ENABLED=enabled) as app,
            wire_to(app) as wire,
        ):
            tables.append({name: _facts(answer) async for name, answer in _answers(wire)})
    assert tables[0] == tables[1]
    assert {facts[0] for facts in tables[0].values()} >= {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }


async def _answers(wire: Wire) -> AsyncIterator[tuple[str, Answer]]:
    caller = ("authorization", f"Bearer {wire.key}")
    for method, request in REQUESTS.items():
        yield f"{method} empty", await wire.call(method, request())
        yield f"{method} malformed", await wire.call(method, b"\xff")
        yield f"{method} without a key", await wire.call(method, request(), metadata=[])
        yield f"{method} long", await wire.call(method, b"x" * 10_000)
        yield f"{method} too long", await wire.call(method, b"x" * 65_537)
    revoke = pb.RevokeRequest(session_token="none")
    yield "revoke", await wire.call("Revoke", revoke)
    yield "binary metadata", await wire.call("Revoke", revoke, metadata=[caller, ("a-bin", b"\0")])
    for size in (9_000, 20_000):
        metadata = [caller, ("x-big", "x" * size)]
        yield f"metadata of {size}", await wire.call("Revoke", revoke, metadata=metadata)
    yield "unknown method", await wire.call("None", b"")
    yield "unknown service", await wire.call("None", b"", service="a.B")
    health = health_pb2.HealthCheckRequest(service=SERVICE)
    yield "health", await wire.call("Check", health, service=HEALTH)
    unknown = health_pb2.HealthCheckRequest(service="unknown")
    yield "health of nothing", await wire.call("Check", unknown, service=HEALTH)


def _facts(answer: Answer) -> tuple[object, ...]:
    own_words = answer.code is not grpc.StatusCode.RESOURCE_EXHAUSTED
    return answer.code, answer.message if own_words else "", answer.trailers, answer.body


async def test_metadata_and_trailers_pass_but_for_the_gates_own(
    behind: Behind, channel: grpc.aio.Channel
) -> None:
    """Text and binary values arrive as they are; `x-watchword-*` that a client sends does not
    (the guard: clean_request in headers.rs).
    """
    sent = (("a-text", "v"), ("b-bin", b"\x00\xfe"), ("authorization", "Bearer x"))
    forged = (("x-watchword-caller", "admin"), ("x-watchword-a-bin", b"\x01"))
    call = channel.unary_unary("/test.Echo/Same")(b"body", metadata=sent + forged)
    assert await call == b"body"
    assert dict(await call.trailing_metadata())["x-end-bin"] == b"\x00\xff"
    assert behind.echo.metadata.items() >= dict(sent).items()
    assert not [key for key in behind.echo.metadata if key.startswith("x-watchword-")]


async def test_an_error_keeps_its_words_and_details(channel: grpc.aio.Channel) -> None:
    """Code, message in UTF-8, binary and text trailers."""
    error = await failure(channel.unary_unary("/test.Echo/Fail")(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "why: 100 % \u00e9")
    trailers = dict(error.trailing_metadata())
    assert trailers["grpc-status-details-bin"] == bytes(range(256))
    assert trailers["x-text"] == "plain"


async def test_the_deadline_is_known_behind_the_gate(
    behind: Behind, channel: grpc.aio.Channel
) -> None:
    """`time_remaining` is the client's; a call that takes longer ends for both.

    gRPC rounds a time-out up before it sends it, 30 s by up to 100 ms.
    """
    await channel.unary_unary("/test.Echo/Same")(b"", timeout=30)
    assert 25 < behind.echo.remaining <= 30.5
    error = await failure(channel.unary_unary("/test.Echo/Wait")(b"", timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(WAIT_SECONDS):
        await behind.echo.cancelled.wait()


async def test_a_cancel_reaches_the_server_behind(
    behind: Behind, channel: grpc.aio.Channel
) -> None:
    """A call that its client gives up, or whose client goes, ends behind the gate."""
    for way in ("cancel", "close"):
        echo = behind.echo
        echo.began.clear()
        echo.cancelled.clear()
        async with grpc.aio.insecure_channel(behind.address) as leaving:
            call = leaving.unary_unary("/test.Echo/Wait")(b"")
            waiting = asyncio.ensure_future(call)
            async with asyncio.timeout(WAIT_SECONDS):
                await echo.began.wait()
            if way == "cancel":
                call.cancel()
        async with asyncio.timeout(WAIT_SECONDS):
            await echo.cancelled.wait()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_streams_flow_both_ways(channel: grpc.aio.Channel) -> None:
    """Each message comes back before the next is sent, also ones larger than a window."""
    call = channel.stream_stream("/test.Echo/Both")()
    async with asyncio.timeout(WAIT_SECONDS):
        for body in (b"one", b"x" * 300_000, b"", b"two"):
            await call.write(body)
            assert await call.read() == body
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_other_services_never_get_behind_the_gate(
    behind: Behind, channel: grpc.aio.Channel
) -> None:
    """Paths outside of the listener's services are UNIMPLEMENTED though the server behind is gone
    (the guard: Routes.find in route.rs).
    """
    await behind.stop_server()
    for path in ("/test.Echos/Same", "/test.Ech/Same", "/x", "//test.Echo/Same"):
        error = await failure(channel.unary_unary(path)(b"", timeout=WAIT_SECONDS))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED, path
    assert behind.echo.calls == []


async def test_a_server_that_is_gone_is_unavailable_until_it_is_back(
    behind: Behind, channel: grpc.aio.Channel
) -> None:
    """UNAVAILABLE at once, and the next call after its return is served."""
    same = channel.unary_unary("/test.Echo/Same")
    assert await same(b"1") == b"1"
    await behind.stop_server()
    error = await failure(same(b"2", timeout=WAIT_SECONDS))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await behind.start_server()
    assert await same(b"3") == b"3"
    assert behind.echo.calls == ["Same", "Same"]


async def test_http_1_is_answered_and_not_passed_on(behind: Behind) -> None:
    """A request of HTTP/1.1 on the same port gets a short text and an end."""
    reader, writer = await asyncio.open_connection(*host_and_port(behind.address))
    writer.write(b"POST /test.Echo/Same HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(WAIT_SECONDS):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\nthere is nothing here for HTTP/1.1: gRPC needs HTTP/2\n")
    assert behind.echo.calls == []


async def test_a_thousand_calls_on_fifty_connections(behind: Behind) -> None:
    """Each gets its own answer."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    behind.address, options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            for _ in range(50)
        ]
        bodies = [str(number).encode() for number in range(1_000)]
        calls = [
            channels[number % 50].unary_unary("/test.Echo/Same")(body)
            for number, body in enumerate(bodies)
        ]
        assert list(await asyncio.gather(*calls)) == bodies


async def test_the_app_listens_behind_the_gate(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running app has private folders with mode 0700, and a gate on each of its addresses."""
    with tempfile.TemporaryDirectory(prefix="ww-") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        async with running_app(database_url) as app:
            folders = [path.parent for path in Path(short).glob("watchword-*/api")]
            assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
            assert (await app.client.revoke("none")).revoked_count == 0
