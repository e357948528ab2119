"""The data folder that every PostgreSQL of these tests begins with."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.killable_postgres import KillablePostgres
from tests.support.postgres import fetch, open_folder
from watchword.storage.migrate import migrate


@pytest.fixture(scope="session")
async def made_folder() -> AsyncIterator[Path]:
    """The folder of a PostgreSQL whose database `watchword` has been migrated."""
    with open_folder() as folder:
        postgres = KillablePostgres(folder)
        await postgres.start()
        try:
            await fetch(postgres.url(), "CREATE DATABASE watchword")
            await migrate(postgres.url("watchword"))
        finally:
            await postgres.stop()
        yield folder


@pytest.fixture
async def folder(made_folder: Path) -> AsyncIterator[Path]:
    """A copy of it, of the test's own."""
    with open_folder() as folder:
        copy = await asyncio.create_subprocess_exec("cp", "-a", made_folder / "data", folder)
        assert await copy.wait() == 0
        yield folder
