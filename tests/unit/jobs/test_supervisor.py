"""Background tasks that die are started again, and three deaths in a minute are too many."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator

import pytest

from watchword import _core
from watchword.jobs import supervisor
from watchword.jobs.supervisor import Supervisor, TaskDiedTooOften
from watchword.observability.logging import LogSettings, configure_logging

Job = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RESTART_DELAY_SECONDS", 0.001)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged."""
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream=stream)
    yield stream
    configure_logging(LogSettings(format="json", level="warning"))


class Flaky:
    """A job that dies a number of times and then works; `alive` is set when it works."""

    def __init__(self, deaths: int, die: Callable[[], object]) -> None:
        self.starts = 0
        self.alive = asyncio.Event()
        self._deaths = deaths
        self._die = die

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self._deaths:
            self._die()
            return
        self.alive.set()
        await asyncio.Event().wait()


def fail() -> None:
    """An ordinary defect."""
    raise ZeroDivisionError("words")


def stray_cancel() -> None:
    """A CancelledError that nobody asked for."""
    raise asyncio.CancelledError


def group() -> None:
    """What a TaskGroup makes of a panic in one of its tasks."""
    raise BaseExceptionGroup("group", [asyncio.CancelledError()])


DEATHS = {
    "exception": fail,
    "Rust panic": _core.panic_for_test,
    "stray cancel": stray_cancel,
    "group": group,
    "return": lambda: None,
}


@pytest.mark.parametrize("how", DEATHS)
async def test_a_job_that_dies_is_logged_and_started_again(how: str, log: io.StringIO) -> None:
    """Twice is no reason to give up, whatever it died of, a Rust panic and a stray cancel included
    (the guard: `except BaseException`; without it the job would end in silence).
    """
    job = Flaky(2, DEATHS[how])
    jobs = Supervisor({"mail": job.run})
    jobs.start()
    async with asyncio.timeout(5):
        await job.alive.wait()
    assert job.starts == 3
    assert jobs.failed is not None
    assert not jobs.failed.done()
    await jobs.stop()
    records = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(record["level"], record["task"]) for record in records] == [("error", "mail")] * 2
    assert all("exception" in record for record in records) is (how != "return")


@pytest.mark.parametrize("how", DEATHS)
async def test_three_deaths_in_a_minute_are_the_end(how: str) -> None:
    """`failed` says which task; it is not started a fourth time."""
    job = Flaky(99, DEATHS[how])
    jobs = Supervisor({"mail": job.run})
    jobs.start()
    assert jobs.failed is not None
    async with asyncio.timeout(5):
        with pytest.raises(TaskDiedTooOften, match="`mail` died 3 times"):
            await jobs.failed
    assert job.starts == 3
    await jobs.stop()


async def test_deaths_that_are_far_apart_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last three count, and only within the window."""
    monkeypatch.setattr(supervisor, "DEATHS_WINDOW_SECONDS", 0.0)
    job = Flaky(10, fail)
    jobs = Supervisor({"mail": job.run})
    jobs.start()
    async with asyncio.timeout(5):
        await job.alive.wait()
    assert job.starts == 11
    await jobs.stop()


async def test_each_job_has_its_own_deaths() -> None:
    """Two jobs with two deaths each are four deaths and no reason to end."""
    one, two = Flaky(2, fail), Flaky(2, fail)
    jobs = Supervisor({"one": one.run, "two": two.run})
    jobs.start()
    async with asyncio.timeout(5):
        await one.alive.wait()
        await two.alive.wait()
    assert jobs.failed is not None
    assert not jobs.failed.done()
    await jobs.stop()


async def test_two_jobs_that_die_too_often_are_one_failure() -> None:
    """The second one finds `failed` set and leaves it."""
    one, two = Flaky(99, fail), Flaky(99, fail)
    jobs = Supervisor({"one": one.run, "two": two.run})
    jobs.start()
    assert jobs.failed is not None
    async with asyncio.timeout(5):
        with pytest.raises(TaskDiedTooOften):
            await jobs.failed
        while two.starts < 3 or one.starts < 3:
            await asyncio.sleep(0.001)
    await jobs.stop()


async def test_stop_ends_every_job_and_waits_for_it(log: io.StringIO) -> None:
    """A job may clean up; being stopped is no death."""
    cleaned = []

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(1)

    jobs = Supervisor({"one": job, "two": job})
    jobs.start()
    await asyncio.sleep(0)
    await jobs.stop()
    assert cleaned == [1, 1]
    assert log.getvalue() == ""
    assert jobs.failed is not None
    assert jobs.failed.cancelled()
    await jobs.stop()
