"""Answers the calls that the gate hands over: unary calls of callers, without grpc.aio.

grpc.aio costs several times what most calls cost beyond it. What is no plain message, and whoever
is no caller, still comes through it; the pipeline is the same for both.
"""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from watchword.transport.pipeline import Asked, Handler


class UnaryCall(Protocol):
    """One call; ValueError once it was answered."""

    @property
    def number(self) -> int:
        """Which call it is."""

    @property
    def method(self) -> int:
        """The place of its method among those of the queue."""

    @property
    def message(self) -> bytes:
        """The encoded request."""

    @property
    def authorization(self) -> str:
        """The one `authorization` header."""

    @property
    def time_left(self) -> float | None:
        """Seconds that the client goes on waiting; None for ever."""

    def end(self, message: bytes) -> None:
        """Answers OK with an encoded response."""

    def fail(self, code: int, message: str, details: bytes) -> None:
        """Answers with another status: code, message, encoded google.rpc.Status."""


class UnaryCalls(Protocol):
    """The queue of calls; nothing in it waits for Python but the calls themselves."""

    @property
    def wake_fd(self) -> int:
        """An eventfd that is readable when there is something to take."""

    def take(self) -> UnaryCall | None:
        """Takes the call that has waited longest; None if there is none."""

    def take_given_up(self) -> Sequence[int]:
        """Takes the numbers of calls that were taken and whose clients have gone."""


class UnaryServer:
    """Runs each call as a task, `at_once` of them, and ends those whose clients have gone.

    The others wait in the queue, where they cost nothing, rather than in line for a connection,
    where they are refused after they have cost most of what an answer does.
    """

    def __init__(self, calls: UnaryCalls, handlers: Sequence[Handler], *, at_once: int) -> None:
        self._calls = calls
        self._handlers = handlers
        self._at_once = at_once
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running = False

    async def run(self) -> None:
        """Answers for ever; when it ends, so do the calls."""
        loop = asyncio.get_running_loop()
        fd = self._calls.wake_fd
        loop.add_reader(fd, self._wake, fd)
        self._running = True
        try:
            # What was queued before, or was left by a run that has died.
            self._take()
            await loop.create_future()
        finally:
            self._running = False
            loop.remove_reader(fd)
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self, fd: int) -> None:
        os.eventfd_read(fd)
        self._take()

    def _take(self) -> None:
        for number in self._calls.take_given_up():
            if (task := self._tasks.get(number)) is not None:
                task.cancel()
        loop = asyncio.get_running_loop()
        while len(self._tasks) < self._at_once and (call := self._calls.take()) is not None:
            task = loop.create_task(self._answer(call))
            self._tasks[call.number] = task
            # Not in `_answer`, of which a task that is cancelled before it begins runs nothing.
            task.add_done_callback(partial(self._ended, call.number))

    def _ended(self, number: int, _task: asyncio.Task[None]) -> None:
        del self._tasks[number]
        if self._running:
            self._take()

    async def _answer(self, call: UnaryCall) -> None:
        handler = self._handlers[call.method]
        answer = await handler(Asked(call.message, [call.authorization], call.time_left))
        if isinstance(answer, bytes):
            call.end(answer)
        else:
            call.fail(answer.code, answer.message, answer.SerializeToString())
