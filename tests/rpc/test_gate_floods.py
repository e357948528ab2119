"""Floods of frames that cost their sender little (threats rows 37 and 38): a client that does
nothing wrong is served all the while, the process lives, and its memory is bounded.

Sizes are those of the ordinary suite; those of WATCHWORD_TEST_FULL=1 are in brackets. Full runs
print what they have measured (`pytest -s`). One server for the file, as long as it lives.
"""

import asyncio
import contextlib
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import pytest

from tests.support import http2
from tests.support.cached_server import SERVICE, CachedServer, cached_server, others
from tests.support.http2 import RawConnection, frame, header_block
from tests.support.postgres import DatabaseServer

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
WAIT_SECONDS = 20.0
KIB_OF_A_CONNECTION = 24
CALLS_MIN = 5
PASSED_ON, ANSWERED_HERE = f"/{SERVICE}/Revoke", "/none.Such/Method"

pytestmark = pytest.mark.timeout(300 if FULL else 120)


def size(ordinary: int, full: int) -> int:
    """How often something is done."""
    return full if FULL else ordinary


def tell(text: str) -> None:
    """Says what a full run has measured."""
    if FULL:
        sys.stdout.write(f"\n{text}\n")


@pytest.fixture(scope="module")
async def server(postgres: DatabaseServer, template: str) -> AsyncIterator[CachedServer]:
    """A server of its own process that has served some calls already."""
    name = postgres.next_name("floods")
    url = await postgres.create_database(name, template=template)
    async with cached_server(url) as running:
        for _ in range(10):
            await asyncio.gather(*(running.check() for _ in range(20)))
            await asyncio.gather(*(running.pass_on() for _ in range(5)))
        yield running
    await postgres.drop_database(name)


@contextlib.asynccontextmanager
async def disturbed(server: CachedServer, *, mib_max: float) -> AsyncIterator[None]:
    """A block during which the other client has to be served, and memory may grow by so much."""
    before, began = server.resident_kib(), time.monotonic()
    async with others(server) as seen:
        yield
        await until(lambda: min(len(seen.checks), len(seen.passed_on)) >= CALLS_MIN)
    took = time.monotonic() - began
    grown = (seen.resident_kib - before) / 1024
    checks, passed_on = seen.slowest_ms()
    tell(
        f"{took:.1f} s, RSS {grown:+.1f} MiB, {len(seen.checks)} checks p99 {checks} ms, "
        f"{len(seen.passed_on)} passed on p99 {passed_on} ms"
    )
    assert grown <= mib_max


def ends(connection: RawConnection) -> bool:
    """Reads to the end, which has to come."""
    for _ in connection.frames():
        pass
    return True


def streams() -> Iterator[int]:
    """The numbers that a client's streams may have."""
    return iter(range(1, 2**31, 2))


async def test_rapid_resets_end_the_connection(server: CachedServer) -> None:
    """2,000 [100,000] calls that are reset in the same breath, 1,000 on a connection: each of these
    is ended by the gate, and one connection of which 100,000 are tried, too.

    Seen to fail with PENDING_RESETS_MAX of settings.rs raised to 1,000,000.
    """
    block = header_block(PASSED_ON)

    def burst(count: int) -> bytes:
        ids = [number for number, _ in zip(streams(), range(count), strict=False)]
        return b"".join(http2.split_headers(id, block) + http2.reset(id) for id in ids)

    def flood() -> None:
        thousand = burst(1_000)
        for _ in range(size(2, 100)):
            with RawConnection(server.address) as connection:
                connection.send(thousand)
                assert ends(connection)
        with RawConnection(server.address) as connection:
            connection.send(burst(size(5_000, 100_000)))
            assert ends(connection)

    async with disturbed(server, mib_max=50):
        await asyncio.to_thread(flood)


async def test_calls_that_are_reset_once_they_are_taken(server: CachedServer) -> None:
    """2,000 [100,000] resets by somebody who is no caller, each after the gate has taken the call,
    which no limit on a connection can forbid: few of them get as far as Python, and callers' calls
    go on.

    Seen to fail with one room for all.
    """
    block = header_block(PASSED_ON)
    wanted = size(2_000, 100_000)
    connections = sent = 0

    def flood() -> None:
        nonlocal connections, sent
        give_up = time.monotonic() + 90
        while sent < wanted and time.monotonic() < give_up:
            connections += 1
            with RawConnection(server.address) as connection:
                for first in range(1, 2**31 - 16, 16):
                    ids = range(first, first + 16, 2)
                    # Without their message: whoever is to answer waits for it.
                    opened = (http2.split_headers(id, block, flags=http2.END_HEADERS) for id in ids)
                    if not connection.send(b"".join(opened)) or not connection.ping():
                        break
                    connection.send(b"".join(map(http2.reset, ids)))
                    sent += len(ids)
                    if sent >= wanted or time.monotonic() > give_up:
                        break

    async with disturbed(server, mib_max=50):
        await asyncio.to_thread(flood)
    tell(f"{sent} resets on {connections} connections")
    assert sent >= wanted
    # A gate that is slow to take calls may see one batch with the next, and end the connection.
    assert connections <= 2 + sent // 1_000


async def test_streams_that_the_gate_has_to_reset(server: CachedServer) -> None:
    """Clients that make the gate reset their calls, 500 on each of 2 [200] connections
    (CVE-2025-8671): the connection ends.

    Seen to fail with ERROR_RESETS_MAX of settings.rs raised to 1,000,000.
    """
    block = header_block(PASSED_ON, content_length="1")

    def flood() -> None:
        for _ in range(size(2, 200)):
            with RawConnection(server.address) as connection:
                for id, _ in zip(streams(), range(500), strict=False):
                    opened = http2.split_headers(id, block, flags=http2.END_HEADERS)
                    # More than was announced is an error of the stream (8.1.1).
                    if not connection.send(opened + frame(http2.DATA, 0, id, b"12345")):
                        break
                assert ends(connection)

    async with disturbed(server, mib_max=50):
        await asyncio.to_thread(flood)


@pytest.mark.parametrize("bytes_each", [0, 1_024])
async def test_continuations_without_end(server: CachedServer, bytes_each: int) -> None:
    """A header list of 10,000 CONTINUATION frames, empty ones and some of 1 KiB, on each of 3 [200]
    connections: they end before its end.

    Seen to fail with HEADERS_READ_MAX_BYTES of settings.rs raised to 1 GiB.
    """
    part = http2.field("x", "y" * 1_018) if bytes_each else b""
    assert len(part) == bytes_each
    endless = frame(http2.CONTINUATION, 0, 1, part) * 10_000

    def flood() -> None:
        for _ in range(size(3, 200)):
            with RawConnection(server.address) as connection:
                connection.send(frame(http2.HEADERS, 0, 1, header_block(PASSED_ON)))
                connection.send(endless)
                assert ends(connection)

    async with disturbed(server, mib_max=50):
        await asyncio.to_thread(flood)


async def test_header_lists_of_64_kib(server: CachedServer) -> None:
    """100 [10,000] of them: none is passed on, and each is refused or ends its connection.

    Seen to fail with HEADERS_READ_MAX_BYTES of settings.rs raised to 1 GiB.
    """
    fields = {f"x_{number}": "v" * 4_000 for number in range(16)}
    block = header_block(PASSED_ON, authorization=server.authorization, **fields)
    assert len(block) > 64_000

    def flood() -> None:
        left = size(100, 10_000)
        while left:
            with RawConnection(server.address) as connection:
                left -= 1
                assert connection.send(http2.split_headers(1, block))
                # gRPC, behind the gate or in it, would have begun with 200.
                for answer in connection.frames_of(1):
                    assert answer.kind == http2.RST_STREAM or answer.payload[0] != http2.STATUS_200

    async with disturbed(server, mib_max=20):
        await asyncio.to_thread(flood)


@pytest.mark.parametrize("method", ["ValidateSession", "SendOtp"])
async def test_bodies_of_4_mib(server: CachedServer, method: str) -> None:
    """40 [1,000] messages of 4 MiB, eight at once: RESOURCE_EXHAUSTED, and nothing keeps them.

    Seen to fail with BODY_MAX_BYTES of transport/server.py raised to 8 MiB.
    """
    body = b"\x0a" + b"\xfa\xff\xff\x01" + b"x" * (4 * 1024 * 1024)
    codes = set()

    async def send(channel: grpc.aio.Channel) -> None:
        for _ in range(size(40, 1_000) // 8):
            metadata = (("authorization", server.authorization),)
            call = channel.unary_unary(f"/{SERVICE}/{method}")(body, metadata=metadata, timeout=60)
            codes.add(await call.code())

    async with (
        disturbed(server, mib_max=20),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await asyncio.gather(*(send(channel) for _ in range(8)))
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("kind", [http2.PING, http2.SETTINGS])
async def test_frames_whose_answers_nobody_reads(server: CachedServer, kind: int) -> None:
    """PING and SETTINGS, up to 64 MiB [1 GiB] of each on one connection that reads nothing: the
    answers do not pile up, since the gate reads on only when it could write.

    It is h2 that does so: there is no guard of ours to take out.
    """
    flood_bytes = frame(kind, 0, 0, b"12345678" if kind == http2.PING else b"") * 4_096

    def flood() -> None:
        with RawConnection(server.address) as connection:
            connection.socket.settimeout(1)
            with contextlib.suppress(TimeoutError):
                for _ in range(size(64, 1_024) * 1024 * 1024 // len(flood_bytes)):
                    if not connection.send(flood_bytes):
                        return

    async with disturbed(server, mib_max=20):
        await asyncio.to_thread(flood)


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[int]:
    """Lets this process and those that it starts have more files open; yields for how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count + 500)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield min(count, limit - 500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_idle_connections(server: CachedServer) -> None:
    """400 [5,000] connections that say nothing after their preface take at most 24 KiB each, new
    ones are served, and when they have gone their descriptors are free.
    """
    before = server.descriptors()
    with descriptors(size(400, 5_000)) as count, contextlib.ExitStack() as opened:
        async with disturbed(server, mib_max=5 + count * KIB_OF_A_CONNECTION / 1024):
            for _ in range(count):
                opened.enter_context(RawConnection(server.address))
                await asyncio.sleep(0)
            # Those of other tests, and of its pool, may still go.
            await until(lambda: server.descriptors() >= before + count - 50)
            async with grpc.aio.insecure_channel(
                server.address, options=[("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                await channel.channel_ready()
    await until(lambda: server.descriptors() <= before + 50)


async def test_headers_that_come_by_the_byte(server: CachedServer) -> None:
    """100 [1,000] connections that dribble a header list disturb nobody [and are over in 45 s].

    Seen to fail, at full size, with PING_TIMEOUT of settings.rs raised to an hour.
    """
    block = header_block(PASSED_ON)
    started = frame(http2.HEADERS, http2.END_HEADERS, 1, block * 20)[: 9 + len(block)]
    with descriptors(size(100, 1_000)) as count, contextlib.ExitStack() as opened:
        async with disturbed(server, mib_max=5 + count * KIB_OF_A_CONNECTION / 1024):
            made = [opened.enter_context(RawConnection(server.address)) for _ in range(count)]
            left = [connection for connection in made if connection.send(started)]
            give_up = time.monotonic() + (45 if FULL else 1)
            while left and time.monotonic() < give_up:
                left = [one for one in left if one.is_open() and one.send(b"y")]
                await asyncio.sleep(0.3)
    assert not (FULL and left)


async def until(holds: Callable[[], bool]) -> None:
    """Waits until it does."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)
