"""A PostgreSQL that can be killed and comes back on its data, at the same URL."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from benchmarks.cpu import children
from tests.support.processes import environment

START_SECONDS = 60.0
# A process of its own: it forks to change the user, which a process whose gRPC is busy must not.
LAUNCHER = """
import json, sys
from pathlib import Path
from watchword.dev.postgres import start
with start(Path(sys.argv[1]), settings=json.loads(sys.argv[2])) as server:
    print(server.pid, server.url(), flush=True)
    sys.stdin.read()
"""


class KillablePostgres:
    """PostgreSQL on `data` in a folder, with fsync on, as in production but for `settings`."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = dict(settings or {})
        # Each start has a socket folder of its own, which this link leads to.
        self._sockets = folder / "sockets"
        self._launcher: asyncio.subprocess.Process | None = None
        self.pid = 0

    def url(self, database: str = "postgres") -> str:
        """Returns the URL of a database, the same after every start."""
        host = quote(str(self._sockets), safe="")
        return f"postgresql://postgres@/{database}?host={host}&port=5432"

    async def start(self) -> None:
        """Starts it and returns when it takes connections, after whatever recovery it needs."""
        self._launcher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LAUNCHER, str(self._folder / "data")),
            json.dumps(self._settings),
            env=environment(None),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._launcher.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            pid, url = (await self._launcher.stdout.readline()).decode().split()
        self.pid = int(pid)
        link = self._folder / "next"
        link.symlink_to(parse_qs(urlsplit(url).query)["host"][0])
        link.replace(self._sockets)

    def kill(self) -> None:
        """Kills every one of its processes by SIGKILL, all at one moment."""
        # While it is stopped, it neither starts children nor sees them end.
        os.kill(self.pid, signal.SIGSTOP)
        for pid in (self.pid, *children(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Stops it, or does what is left to do after a kill."""
        if self._launcher is not None:
            assert self._launcher.stdin is not None
            self._launcher.stdin.close()
            assert await self._launcher.wait() == 0
        self._launcher = None


@contextlib.asynccontextmanager
async def killable_postgres(
    folder: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[KillablePostgres]:
    """Runs one until the block ends."""
    postgres = KillablePostgres(folder, settings)
    try:
        await postgres.start()
        yield postgres
    finally:
        await postgres.stop()
