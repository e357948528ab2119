"""`watchword` as real processes: started with a ready file, stopped by SIGTERM."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchword_client import AsyncClient

WATCHWORD = Path(sys.executable).with_name("watchword")
READY_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 20.0


@dataclass
class WatchwordProcess:
    """A running process and what its ready file says."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any]
    log_path: Path

    def client(self) -> AsyncClient:
        """A client with the process's own service key."""
        return AsyncClient(self.ready["api"], service_key=self.ready["service_key"])

    def log(self) -> str:
        """Everything that the process has written to stdout and stderr."""
        return self.log_path.read_text()


@contextlib.asynccontextmanager
async def watchword(
    *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[WatchwordProcess]:
    """Runs `watchword ARGUMENTS --ready-file F` until the block ends; its environment is `env`."""
    with tempfile.TemporaryDirectory(prefix="watchword-process-") as folder:
        ready_path, log_path = Path(folder, "ready.json"), Path(folder, "log")
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                WATCHWORD,
                *arguments,
                "--ready-file",
                str(ready_path),
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": os.environ.get("HOME", "/"),
                    **(env or {}),
                },
                stdout=log,
                stderr=log,
            )
        try:
            await _wait_for_file(process, ready_path, log_path)
            yield WatchwordProcess(process, json.loads(ready_path.read_text()), log_path)
        finally:
            await _stop(process)


async def _wait_for_file(process: asyncio.subprocess.Process, path: Path, log_path: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            while not path.exists() and process.returncode is None:
                await asyncio.sleep(0.02)
    if not path.exists():
        raise RuntimeError(f"`watchword` did not get ready:\n{log_path.read_text()}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
