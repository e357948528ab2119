"""A server that the tests of one file share, and wires to it."""

from collections.abc import AsyncIterator

import pytest

from tests.rpc.wire import Wire, wire_to
from tests.support.postgres import DatabaseServer
from tests.support.running import RunningApp, running_app
from watchword.observability.logging import LogSettings, configure_logging


@pytest.fixture(scope="module")
async def shared_app(postgres: DatabaseServer, template: str) -> AsyncIterator[RunningApp]:
    """A real server for a whole file: its tests choose names of their own."""
    configure_logging(LogSettings(level="warning", format="json"))
    name = postgres.next_name("shared")
    url = await postgres.create_database(name, template=template)
    async with running_app(url) as running:
        yield running
    await postgres.drop_database(name)


@pytest.fixture(scope="module")
async def shared_wire(shared_app: RunningApp) -> AsyncIterator[Wire]:
    """A wire to the shared server."""
    async with wire_to(shared_app) as wire:
        yield wire


@pytest.fixture
async def wire(app: RunningApp) -> AsyncIterator[Wire]:
    """A wire to this test's own server."""
    async with wire_to(app) as opened:
        yield opened


@pytest.fixture(params=["cached", "uncached", "without the gate"])
async def server(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RunningApp]:
    """A server that answers checks from its cache, by reads, or without a gate."""
    settings = {
        "cached": {"GATE__CACHE_MIB": "16"},
        "uncached": {"GATE__CACHE_MIB": "0"},
        "without the gate": {"GATE__ENABLED": "false"},
    }
    async with running_app(database_url, **settings[request.param]) as app:
        yield app
