"""The embedded PostgreSQL of a test session, and databases on it."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import asyncpg

from watchword.dev.postgres import EmbeddedPostgres, start

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users may enter: as root, PostgreSQL runs as one of them.

    pytest's `tmp_path` does not do: its parents are closed (0700).
    """
    folder = Path(tempfile.mkdtemp(prefix="watchword-test-"))
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder)


class DatabaseServer:
    """One server a session; its databases come and go. A context manager.

    A connection is made for each statement, so any event loop and any process may use it.
    """

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._counter = itertools.count(1)
        with contextlib.ExitStack() as undo:
            folder = undo.enter_context(open_folder())
            self.postgres: EmbeddedPostgres = start(folder / "postgres", ephemeral=True)
            undo.callback(self.postgres.stop)
            self._undo = undo.pop_all()

    def next_name(self, prefix: str = "test") -> str:
        """Returns a name no database of this server has had: `test_1`, `test_2`."""
        return f"{prefix}_{next(self._counter)}"

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Creates a database and returns its URL; nobody may be connected to the template."""
        # Without fsync, copying files is the faster of the two strategies.
        copied = f" TEMPLATE {_quoted(template)} STRATEGY file_copy" if template else ""
        await self._run(f"CREATE DATABASE {_quoted(name)}{copied}")
        return self.postgres.url(name)

    async def drop_database(self, name: str) -> None:
        """Drops a database, and first the connections that a test left open."""
        await self._run(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def close(self) -> None:
        """Stops the server and removes its data."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(
            self.postgres.url(), timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=CONNECT_SECONDS)


async def fetch(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Runs a statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
