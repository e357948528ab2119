"""Two servers of one installation, shared by a file's tests, and one in the test's own process."""

from collections.abc import AsyncIterator

import pytest

from tests.races.bursts import Connections, connections, to_both
from tests.races.comparisons import Comparisons
from tests.support.processes import WatchwordProcess, replica, watchword
from tests.support.running import RunningApp
from watchword.callers.model import Scope

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


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> Comparisons:
    """The comparisons of the server in this process."""
    return Comparisons(monkeypatch)


@pytest.fixture
async def burst_here(app: RunningApp) -> AsyncIterator[Connections]:
    """Connections to the server in this process."""
    async with connections(
        [app.app.api_address], service_key=app.service_key(*Scope), count=32
    ) as opened:
        yield opened
