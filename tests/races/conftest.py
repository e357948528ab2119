"""Three servers of one installation as processes, and the rows' results."""

from collections.abc import AsyncIterator

import pytest

from tests.races.bursts import Connections, to_all
from tests.races.results import Results, table
from tests.support.postgres import DatabaseServer, fetch
from tests.support.replicas import Replicas, replicas_on

_RESULTS = pytest.StashKey[Results]()


@pytest.fixture(scope="session")
async def results(postgres: DatabaseServer, pytestconfig: pytest.Config) -> Results:
    """The rows of this run, printed at its end."""
    (row,) = await fetch(postgres.postgres.url(), "SHOW server_version")
    pytestconfig.stash[_RESULTS] = Results(row[0])
    return pytestconfig.stash[_RESULTS]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints the table."""
    results = config.stash.get(_RESULTS, None)
    if results is None or not results.lines:
        return
    terminalreporter.section("races")
    for line in table(results.lines):
        terminalreporter.write_line(line)


@pytest.fixture(scope="module")
async def replicas(
    request: pytest.FixtureRequest, postgres: DatabaseServer, template: str
) -> AsyncIterator[Replicas]:
    """Three servers at the isolation level that is the parameter; limits are off.

    Shared by a file's tests of that level: each makes people of its own.
    """
    name = postgres.next_name("races")
    url = await postgres.create_database(name, template=template)
    async with replicas_on(url, isolation=request.param) as running:
        yield running
    await postgres.drop_database(name)


@pytest.fixture
async def burst(replicas: Replicas) -> AsyncIterator[Connections]:
    """64 connections, a third of them to each server."""
    async with to_all(replicas) as opened:
        yield opened
