"""Calls that come and go while others end, by the turn of the event loop."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence

import pytest

from watchword.transport.pipeline import Asked, Handler
from watchword.transport.unary_server import UnaryServer

AT_ONCE = 2


class Call:
    """A call for the handler of its number; notes that it was answered."""

    message, authorization, time_left = b"", "", None

    def __init__(self, number: int) -> None:
        self.number = self.method = number
        self.answered = asyncio.Event()

    def end(self, message: bytes) -> None:
        self.answered.set()

    def fail(self, code: int, message: str, details: bytes) -> None:
        raise AssertionError("no handler fails")


class Calls:
    """A queue that is filled by the test: the gate's has no order that could be told."""

    def __init__(self) -> None:
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.waiting: deque[Call] = deque()
        self.given_up: list[int] = []

    def take(self) -> Call | None:
        return self.waiting.popleft() if self.waiting else None

    def take_given_up(self) -> Sequence[int]:
        given_up, self.given_up = self.given_up, []
        return given_up


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = Calls()
    yield calls
    os.close(calls.wake_fd)


async def test_a_call_given_up_before_it_began_leaves_its_place(calls: Calls) -> None:
    """One call ends, so another is taken; the next to end, in the same turn of the loop, finds that
    one given up, which has not begun. Afterwards as many run at once as before.

    Seen to fail with the place given back in the call's own coroutine.
    """
    both = asyncio.Barrier(AT_ONCE)

    async def lets_one_in(asked: Asked) -> bytes:
        calls.waiting.append(Call(2))
        return b""

    async def gives_it_up(asked: Asked) -> bytes:
        calls.given_up.append(2)
        return b""

    async def never(asked: Asked) -> bytes:
        raise AssertionError("it was given up before it began")

    async def waits_for_another(asked: Asked) -> bytes:
        async with asyncio.timeout(5):
            await both.wait()
        return b""

    handlers: list[Handler] = [lets_one_in, gives_it_up, never, *[waits_for_another] * AT_ONCE]
    server = asyncio.create_task(UnaryServer(calls, handlers, at_once=AT_ONCE).run())
    first = [Call(number) for number in range(AT_ONCE)]
    later = [Call(number) for number in range(3, 3 + AT_ONCE)]
    try:
        for these in (first, later):
            calls.waiting += these
            os.eventfd_write(calls.wake_fd, 1)
            async with asyncio.timeout(5):
                for call in these:
                    await call.answered.wait()
    finally:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
