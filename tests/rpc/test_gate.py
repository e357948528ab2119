"""The gate in front of grpc.aio: what it passes on is what grpc.aio answers, and what it does not
pass on never gets there (threats rows 37, 39 and 47).
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rpc.wire import REQUESTS, SERVICE, Answer, Wire, wire_to
from tests.support.running import RunningApp, running_app
from watchword.gate import Gate, GateSettings
from watchword.transport.server import AddressTaken, ApiSettings
from watchword_client import auth_service_pb2 as pb

WAIT_SECONDS = 10.0
HEALTH = "grpc.health.v1.Health"


class Echo:
    """A server behind a gate that does what a test asks of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.metadata: dict[str, str | bytes] = {}
        self.remaining = 0.0
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Its methods, under the service's name."""
        unary = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            "test.Echo",
            {
                "Same": unary(self._same),
                "Wait": unary(self._wait),
                "Fail": unary(self._fail),
                "Both": grpc.stream_stream_rpc_method_handler(self._both),
            },
        )

    async def _same(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.calls.append("Same")
        self.metadata = dict(context.invocation_metadata() or ())
        self.remaining = context.time_remaining()
        context.set_trailing_metadata((("x-end-bin", b"\x00\xff"),))
        return body

    async def _wait(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return body

    async def _fail(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        details = (("grpc-status-details-bin", bytes(range(256))), ("x-text", "plain"))
        await context.abort(grpc.StatusCode.ABORTED, "why: 100 % \u00e9", details)

    async def _both(
        self, bodies: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async for body in bodies:
            yield body


class Behind:
    """A gate, and the server behind it, which can go and come back."""

    def __init__(self, gate: Gate, upstream: str, echo: Echo) -> None:
        self.gate = gate
        self.echo = echo
        self.address = ""
        self._upstream = upstream
        self._server = grpc.aio.server()

    async def start_server(self) -> None:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self.echo.handler(),))
        self._server.add_insecure_port(self._upstream)
        await self._server.start()

    async def stop_server(self) -> None:
        await self._server.stop(0)


@contextlib.asynccontextmanager
async def gate_before_echo(
    *, connections_max: int = 10_000, idle_seconds: float = 600, age_seconds: float = 3_600
) -> AsyncIterator[Behind]:
    """A gate with an echo server behind it."""
    gate = Gate(
        GateSettings(connections_max=connections_max),
        ApiSettings(address="127.0.0.1:0"),
        ["test.Echo"],
        idle_seconds=idle_seconds,
        age_seconds=age_seconds,
    )
    behind = Behind(gate, gate.make_upstream(), Echo())
    await behind.start_server()
    behind.address = gate.start()
    try:
        yield behind
    finally:
        await gate.stop(1)
        await behind.stop_server()
        gate.remove_upstream()


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


def host_and_port(address: str) -> tuple[str, int]:
    """Splits an address."""
    host, _, port = address.rpartition(":")
    return host, int(port)


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
    """`time_remaining` is the client's; a call that takes longer ends for both."""
    await channel.unary_unary("/test.Echo/Same")(b"", timeout=30)
    assert 25 < behind.echo.remaining <= 30
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


async def test_one_connection_too_many_is_closed() -> None:
    """It ends as it comes, and there is room again when another has gone (the guard: the permit
    in listener.rs).
    """
    async with gate_before_echo(connections_max=2) as behind:
        target = host_and_port(behind.address)
        opened = [await asyncio.open_connection(*target) for _ in range(3)]
        async with asyncio.timeout(WAIT_SECONDS):
            assert await opened[2][0].read() == b""
        for _, writer in opened:
            writer.close()
        async with asyncio.timeout(WAIT_SECONDS):
            while not await _is_served(target):
                await asyncio.sleep(0.02)


async def _is_served(target: tuple[str, int]) -> bool:
    reader, writer = await asyncio.open_connection(*target)
    answer = b""
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("limit", ["idle_seconds", "age_seconds"])
async def test_an_idle_or_old_connection_is_asked_to_go(limit: str) -> None:
    """It gets GOAWAY, and then its end (the guard: the timer in connection.rs)."""
    async with gate_before_echo(**{limit: 0.5}) as behind:
        with socket.socket() as raw:
            raw.connect(host_and_port(behind.address))
            raw.settimeout(WAIT_SECONDS)
            settings = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
            raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
            frames = await asyncio.to_thread(_read_all, raw)
        assert 7 in frames  # GOAWAY, RFC 9113, 6.8


async def test_a_client_that_says_nothing_is_closed() -> None:
    """A connection that has not said which protocol it speaks ends after 10 s (the guard:
    `said_nothing` in connection.rs).
    """
    async with gate_before_echo() as behind:
        reader, writer = await asyncio.open_connection(*host_and_port(behind.address))
        writer.write(b"PRI * HTTP/2.0\r\n")
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert clock() - began > 9
        writer.close()


def _read_all(raw: socket.socket) -> list[int]:
    """Reads frames to the end of the connection, answers pings, and gives the frames' types."""
    types = []
    with raw.makefile("rb") as stream:
        while head := stream.read(9):
            length = int.from_bytes(head[:3])
            types.append(head[3])
            payload = stream.read(length)
            if head[3] == 6 and not head[4]:
                raw.sendall(bytes((0, 0, 8, 6, 1, 0, 0, 0, 0)) + payload)
    return types


async def test_health_is_watched_through_the_gate_to_the_end(database_url: str) -> None:
    """Watch tells of the end, and then its stream ends."""
    async with contextlib.AsyncExitStack() as stack:
        async with running_app(database_url, API__DRAIN_TIMEOUT="1s") as app:
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(app.app.api_address)
            )
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            changed = asyncio.ensure_future(watch.read())
            await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await changed).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError):
                await watch.read()


async def test_a_taken_address_is_refused_and_leaves_nothing(behind: Behind) -> None:
    """The error names the setting."""
    second = Gate(GateSettings(), ApiSettings(address=behind.address), [])
    second.make_upstream()
    with pytest.raises(AddressTaken, match="hint: stop what listens there or set WATCHWORD_API"):
        second.start()
    second.remove_upstream()


async def test_a_second_start_is_refused(behind: Behind) -> None:
    """A gate starts once; another in the process shares its threads."""
    with pytest.raises(RuntimeError, match="was started"):
        behind.gate.start()
    threads = _gate_threads()
    async with gate_before_echo():
        assert _gate_threads() == threads == 1


def _gate_threads() -> int:
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count("watchword-gate\n")


FORKED = """
import os, sys
from watchword import crypto, _core
def start():
    return _core.Gate.start(address="127.0.0.1:0", upstream="/nowhere", services=[], threads=1,
                            connections_max=1, idle_seconds=1, age_seconds=1)
gate = start()
child = os.fork()
if child == 0:
    try:
        start()
    except RuntimeError as error:
        print(error, flush=True)
    assert gate.stop(1) is False
    del gate
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert gate.stop(1)
start().stop(1)
print("parent is well")
"""


async def test_a_fork_starts_no_gate() -> None:
    """A child of a process with a gate is refused another, and ends without waiting for threads
    that it does not have (the guard: the process id in runtime.rs).
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", FORKED, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert output.decode().splitlines() == [
        "a gate does not start after a fork",
        "parent is well",
    ]
    assert process.returncode == 0


async def test_twenty_starts_and_stops_leave_nothing() -> None:
    """No thread, no descriptor, no folder."""

    def left() -> tuple[int, int, int]:
        folders = len(list(Path(tempfile.gettempdir()).glob("watchword-*/api")))
        return sum(1 for _ in Path("/proc/self/fd").iterdir()), _gate_threads(), folders

    async def once() -> None:
        async with (
            gate_before_echo() as behind,
            grpc.aio.insecure_channel(behind.address) as channel,
        ):
            assert await channel.unary_unary("/test.Echo/Same")(b"x") == b"x"

    await once()
    before = left()
    for _ in range(20):
        await once()
    async with asyncio.timeout(WAIT_SECONDS):
        while left()[0] > before[0] + 5:  # gRPC closes its own a little later
            await asyncio.sleep(0.05)
    assert left()[1:] == before[1:]


async def test_the_app_listens_behind_the_gate(app: RunningApp) -> None:
    """A running app has its private folder with mode 0700, and the gate on the api address."""
    folders = [path.parent for path in Path(tempfile.gettempdir()).glob("watchword-*/api")]
    assert folders
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert (await app.client.revoke("none")).revoked_count == 0
