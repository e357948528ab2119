"""Connections of the gate, how it starts and how it stops (threats rows 37, 39 and 47)."""

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

from tests.rpc.echo import Behind, gate_before_echo, host_and_port
from tests.support.running import running_app
from watchword.gate import Gate, GateSettings
from watchword.transport.server import AddressTaken, ApiSettings

WAIT_SECONDS = 10.0
HEALTH = "grpc.health.v1.Health"


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    """A gate with an echo server behind it."""
    async with gate_before_echo() as made:
        yield made


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
    # A thread has its name once it runs.
    assert await _is_served(host_and_port(behind.address))
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


async def test_twenty_starts_and_stops_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread, no descriptor, no folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def left() -> tuple[int, int, int]:
        folders = len(list(tmp_path.glob("watchword-*/api")))
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
