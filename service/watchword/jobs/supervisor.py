"""Keeps background tasks alive: one that dies is logged and started again.

Three deaths of one task within a minute end the process: then it is no accident, and whoever
watches the process should see it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import structlog

DEATHS_MAX = 3
DEATHS_WINDOW_SECONDS = 60.0
RESTART_DELAY_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class TaskDiedTooOften(Exception):
    """A background task died three times within a minute."""


class Supervisor:
    """Runs named jobs until `stop`; `failed` is set once one of them died too often."""

    def __init__(self, jobs: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        self._jobs = jobs
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Starts every job."""
        self.failed = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._keep_alive(name, job), name=name)
            for name, job in self._jobs.items()
        ]

    async def stop(self) -> None:
        """Cancels every job and waits for its end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self.failed is not None and not self.failed.done():
            self.failed.cancel()

    async def _keep_alive(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        clock = asyncio.get_running_loop().time
        deaths: deque[float] = deque(maxlen=DEATHS_MAX)
        while True:
            try:
                await job()
                _log.error("background task returned", task=name)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # a Rust panic and a stray CancelledError are deaths, too
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                _log.exception("background task died", task=name)
            deaths.append(clock())
            if len(deaths) == DEATHS_MAX and deaths[-1] - deaths[0] < DEATHS_WINDOW_SECONDS:
                self._give_up(name)
                return
            await asyncio.sleep(RESTART_DELAY_SECONDS)

    def _give_up(self, name: str) -> None:
        if self.failed is not None and not self.failed.done():
            self.failed.set_exception(TaskDiedTooOften(f"`{name}` died {DEATHS_MAX} times"))
