"""A cached check never takes the GIL: it is answered while somebody else holds it."""

import asyncio
import contextlib
import os
import signal
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.support import gil_server
from tests.support.cached_server import CachedServer, cached_server

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
HELD_SECONDS = 2.0
LEASE_SECONDS = 1.0
EVERY_SECONDS = 0.03
WAIT_SECONDS = 20.0
HITS = 10_000 if FULL else 1_000
AT_ONCE = 20


@dataclass
class HeldServer:
    """A server whose GIL can be held, and the notes that it takes of it."""

    server: CachedServer
    notes: Path

    async def noted(self, sign: signal.Signals, word: str) -> list[float]:
        """Sends a signal and returns the numbers of the line that it leads to."""
        known = len(self._lines(word))
        self.server.process.process.send_signal(sign)
        async with asyncio.timeout(WAIT_SECONDS):
            while len(lines := self._lines(word)) == known:
                await asyncio.sleep(0.02)
        return [float(number) for number in lines[-1].split()[1:]]

    def _lines(self, word: str) -> list[str]:
        lines = self.notes.read_text().splitlines()
        return [line for line in lines if line.startswith(word)]


@pytest.fixture
async def held(database_url: str, tmp_path: Path) -> AsyncIterator[HeldServer]:
    """A server of its own process whose GIL a signal has held for HELD_SECONDS."""
    notes = tmp_path / "notes"
    notes.touch()
    program = [sys.executable, "-P", gil_server.__file__, str(HELD_SECONDS), str(notes)]
    async with cached_server(database_url, program=program) as server:
        await calm(server)
        yield HeldServer(server, notes)


async def calm(server: CachedServer) -> None:
    """Waits until calls are answered, and checks from the cache: it is filled by a check once the
    changes were read twice.
    """
    for _ in range(20):
        async with asyncio.timeout(WAIT_SECONDS):
            while not await _answered(server.check) or not await _answered(server.pass_on):
                await asyncio.sleep(EVERY_SECONDS)


async def _answered(method: Callable[[], Awaitable[None]]) -> bool:
    try:
        await method()
    except grpc.aio.AioRpcError:
        return False
    return True


@dataclass
class Timed:
    """When calls of one kind began and ended."""

    calls: list[tuple[float, float]]

    def within(self, began: float, ended: float) -> list[tuple[float, float]]:
        """Those that were made and answered in between."""
        return [call for call in self.calls if began <= call[0] and call[1] <= ended]

    def begun_within(self, began: float, ended: float) -> list[tuple[float, float]]:
        """Those that were made in between, whenever they were answered."""
        return [call for call in self.calls if began <= call[0] <= ended]


@contextlib.asynccontextmanager
async def calling(method: Callable[[], Awaitable[None]]) -> AsyncIterator[Timed]:
    """Calls every 30 ms, without waiting for the answers before the block has ended."""
    timed = Timed([])
    clock = asyncio.get_running_loop().time  # CLOCK_MONOTONIC, as the server's notes

    async def one() -> None:
        began = clock()
        # Who has waited for the GIL may be told that it took too long.
        with contextlib.suppress(grpc.aio.AioRpcError):
            await method()
        timed.calls.append((began, clock()))

    async def many() -> None:
        while True:
            calls.append(asyncio.create_task(one()))
            await asyncio.sleep(EVERY_SECONDS)

    calls: list[asyncio.Task[None]] = []
    beginning = asyncio.create_task(many())
    try:
        yield timed
    finally:
        beginning.cancel()
        await asyncio.gather(*calls)


async def test_hits_go_on_until_the_lease_ends(held: HeldServer) -> None:
    """While a C call holds the GIL for 2 s, cached checks are answered for as long as the lease
    lasts, none that begins later than a second is, and calls that need Python wait; afterwards all
    is as before, and the next time the same.

    Seen to fail without a cache (no check is answered), and with both looks at the lease taken out
    of Lane::validate (checks are answered to the end).
    """
    for _ in range(2):
        async with calling(held.server.check) as checks, calling(held.server.pass_on) as others:
            await asyncio.sleep(0.3)
            began, ended = await held.noted(signal.SIGUSR1, "held")
            await asyncio.sleep(0.5)
        assert ended - began >= HELD_SECONDS
        hits = checks.within(began, ended)
        assert len(hits) >= 5, checks.calls
        assert [hit for hit in hits if hit[0] > began + LEASE_SECONDS] == []
        assert checks.begun_within(began + LEASE_SECONDS, ended)
        assert others.begun_within(began, ended)
        assert others.within(began, ended) == []
        await calm(held.server)


async def test_hits_attach_no_thread(held: HeldServer) -> None:
    """Between two threads that attach to the interpreter no other one does, though 1,000 checks are
    answered (10,000 with WATCHWORD_TEST_FULL=1).

    The first two notes show that the count counts: a thread of C's that attaches is one more.
    """
    (first,) = await held.noted(signal.SIGUSR2, "attached")
    (second,) = await held.noted(signal.SIGUSR2, "attached")
    assert second == first + 1
    for _ in range(HITS // AT_ONCE):
        await asyncio.gather(*(held.server.check() for _ in range(AT_ONCE)))
    (third,) = await held.noted(signal.SIGUSR2, "attached")
    assert third == second + 1


def test_the_gate_knows_no_python() -> None:
    """PyO3 is not among what the crate of the gate is made of, so that none of its threads can
    attach; of the binding's crate it is, which shows that it would be found.
    """
    lock = Path(__file__).parents[2] / "Cargo.lock"
    packages = tomllib.loads(lock.read_text())["package"]
    assert "pyo3-ffi" in _made_of("watchword-py", packages)
    made_of = _made_of("watchword-gate", packages)
    assert "tokio" in made_of
    assert [name for name in made_of if "pyo3" in name or "python" in name] == []


def _made_of(crate: str, packages: list[dict[str, list[str]]]) -> set[str]:
    """Everything that a crate depends on, with whatever feature and for whatever system."""
    needs: dict[str, set[str]] = {}
    for package in packages:
        # `name` or, where there are several, `name version`.
        names = {entry.split()[0] for entry in package.get("dependencies", [])}
        needs.setdefault(str(package["name"]), set()).update(names)
    found: set[str] = set()
    left = [crate]
    while left:
        new = needs[left.pop()] - found
        found |= new
        left += new
    return found
