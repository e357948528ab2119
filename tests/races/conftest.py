"""Two servers of one installation, shared by a file's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.races.bursts import Connections, to_both
from tests.support.processes import WatchwordProcess, replica, watchword

CONNECTIONS = 64


@pytest.fixture(scope="module")
async def processes() -> AsyncIterator[tuple[WatchwordProcess, WatchwordProcess]]:
    """Two `watchword` processes on one database."""
    async with watchword("dev", "--ephemeral") as first, replica(first) as second:
        yield first, second


@pytest.fixture(scope="module")
async def burst(
    processes: tuple[WatchwordProcess, WatchwordProcess],
) -> AsyncIterator[Connections]:
    """64 connections, half of them to each process."""
    async with to_both(*processes, count=CONNECTIONS) as opened:
        yield opened
