"""A closed loop: so many workers, each of which begins its next operation when one has ended."""

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the loop took."""

    latencies_seconds: list[float]
    elapsed_seconds: float


async def closed_loop(
    operation: Callable[[int], Awaitable[float]],
    *,
    concurrency: int,
    count: int,
    seconds_max: float,
) -> Outcome:
    """Runs operations 0..count-1, or fewer when `seconds_max` have passed.

    Each returns the seconds it is to be counted with; the first exception ends the run.
    """
    numbers = itertools.count()
    latencies: list[float] = []
    started = time.perf_counter()

    async def worker() -> None:
        for number in numbers:
            if number >= count or time.perf_counter() - started > seconds_max:
                return
            latencies.append(await operation(number))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return Outcome(latencies, time.perf_counter() - started)


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
