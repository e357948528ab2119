"""One embedded PostgreSQL a session, a database per test from a migrated template."""

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.support.postgres import DatabaseServer
from tests.support.running import RunningApp, running_app
from watchword.storage.migrate import migrate


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """The PostgreSQL of this session; fsync is off, everything else as in production."""
    with DatabaseServer() as server:
        yield server


@pytest.fixture(scope="session")
async def template(postgres: DatabaseServer) -> str:
    """The name of a migrated database that tests copy."""
    url = await postgres.create_database("template_migrated")
    await migrate(url)
    return "template_migrated"


@pytest.fixture
async def database_url(postgres: DatabaseServer, template: str) -> AsyncIterator[str]:
    """The URL of an empty migrated database of this test's own."""
    name = postgres.next_name("test")
    url = await postgres.create_database(name, template=template)
    yield url
    await postgres.drop_database(name)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[RunningApp]:
    """A real server in this process on a free port, with mail to files, ready to be called."""
    async with running_app(database_url) as running:
        yield running


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Tests that look at the log configure it themselves; the others see warnings only."""
    from watchword.observability.logging import LogSettings, configure_logging

    configure_logging(LogSettings(level="warning", format="json"))
    yield
    structlog.reset_defaults()
