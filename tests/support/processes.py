"""`watchword` as real processes: started with a ready file, stopped by SIGTERM."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.postgres import fetch
from tests.support.running import NO_ALARM, MailFolder
from watchword_client import AsyncClient

WATCHWORD = Path(sys.executable).with_name("watchword")
READY_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 20.0
COMMAND_TIMEOUT_SECONDS = 60.0
# PYTHONPATH is kept: with it the races are run against a copy of `service/` without its guards.
# WATCHWORD_DEV_POSTGRES_BIN too: the tests run on other versions of PostgreSQL by it.
KEPT = ("PATH", "HOME", "TMPDIR", "PYTHONPATH", "WATCHWORD_DEV_POSTGRES_BIN")


@dataclass
class WatchwordProcess:
    """A running process and what its ready file says."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any]
    ready_path: Path
    log_path: Path

    def client(self) -> AsyncClient:
        """A client with the process's own service key."""
        return AsyncClient(self.ready["api"], service_key=self.ready["service_key"])

    @property
    def mails(self) -> MailFolder:
        """The mails of the installation."""
        return MailFolder(Path(self.ready["mail_dir"]))

    def log(self) -> str:
        """Everything that the process has written to stdout and stderr."""
        return self.log_path.read_text()

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Runs a statement on a connection of its own."""
        return await fetch(self.ready["database_url"], statement, *arguments)


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end."""

    exit_code: int
    stdout: str
    stderr: str


@contextlib.asynccontextmanager
async def watchword(
    *arguments: str, env: Mapping[str, str] | None = None, program: Sequence[str] = ()
) -> AsyncIterator[WatchwordProcess]:
    """Runs `watchword ARGUMENTS --ready-file F` until the block ends; its environment is `env`.

    `program` replaces the installed command. Limits are off unless `env` turns them on: one mailbox
    gets many mails here, and one address has many people. Nor do wrong codes make others longer.
    """
    calm = {f"WATCHWORD_{name}": value for name, value in NO_ALARM.items()}
    env = {"WATCHWORD_LIMITS__ENABLED": "false", **calm, **(env or {})}
    with tempfile.TemporaryDirectory(prefix="watchword-process-") as folder:
        path = Path(folder, "ready.json")
        command = (*arguments, "--ready-file", str(path))
        async with started(*command, env=env, program=program) as (process, log_path):
            await _wait_for_file(process, path, log_path)
            yield WatchwordProcess(process, json.loads(path.read_text()), path, log_path)


@contextlib.asynccontextmanager
async def started(
    *arguments: str, env: Mapping[str, str] | None = None, program: Sequence[str] = ()
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """Runs `watchword ARGUMENTS` until the block ends and gives it with the path of its output.

    A killed server leaves its temporary files: they go with the folder of this one. Of `dev` they
    are elsewhere, since its PostgreSQL may be another user's, who could not get there.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-process-") as folder:
        log_path = Path(folder, "log")
        own = {"TMPDIR": folder} if "serve" in arguments else {}
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(program or [str(WATCHWORD)]),
                *arguments,
                env={**environment(env), **own},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process, log_path
        finally:
            await _stop(process)


@contextlib.asynccontextmanager
async def replica(first: WatchwordProcess, **settings: str) -> AsyncIterator[WatchwordProcess]:
    """Runs a second server on the installation of the first; settings like OTP__CODE_LENGTH."""
    own = {f"WATCHWORD_{name}": value for name, value in settings.items()}
    env = {
        **first.ready["env"],
        "WATCHWORD_API__ADDRESS": "127.0.0.1:0",
        "WATCHWORD_ADMIN__ADDRESS": "127.0.0.1:0",
        **own,
    }
    async with watchword("serve", env=env) as second:
        yield second


async def run(
    *arguments: str, env: Mapping[str, str] | None = None, program: Sequence[str] = ()
) -> Finished:
    """Runs `watchword ARGUMENTS`, or another program, to its end."""
    process = await asyncio.create_subprocess_exec(
        *(program or [str(WATCHWORD)]),
        *arguments,
        env=environment(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())


def environment(env: Mapping[str, str] | None) -> dict[str, str]:
    """What a process of a test gets: little of this one's environment, and `env`."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"HOME": "/", **kept, **(env or {})}


async def _wait_for_file(process: asyncio.subprocess.Process, path: Path, log_path: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            while not path.exists() and process.returncode is None:
                await asyncio.sleep(0.02)
    if not path.exists():
        raise RuntimeError(f"`watchword` did not get ready:\n{log_path.read_text()}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
