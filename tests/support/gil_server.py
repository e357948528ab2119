"""`watchword serve` whose GIL a test can have held, and whose attached threads it can count.

Run as `python gil_server.py SECONDS NOTES serve --ready-file FILE`. On SIGUSR1 a C call holds the
GIL for SECONDS: NOTES gets a line `held BEGAN ENDED`, in seconds of CLOCK_MONOTONIC. On SIGUSR2 a
thread that Python did not start attaches to the interpreter: a line `attached NUMBER`.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from watchword.app import App, run_until_signal
from watchword.config import REQUIRED_BY_SERVE, Config, load_config
from watchword.dev.ready import ready_file, write_ready_file
from watchword.observability.logging import configure_logging

# Other than CDLL, PyDLL keeps the GIL during a call.
_keeping = ctypes.PyDLL(None)
_releasing = ctypes.CDLL(None)
_START_ROUTINE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


class Notes:
    """The file that a test reads."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, *words: object) -> None:
        """Appends a line at once."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def hold(seconds: float, notes: Notes) -> None:
    """Holds the GIL; no Python code of this process runs meanwhile."""
    began = time.monotonic()
    _keeping.usleep(int(seconds * 1e6))
    notes.write("held", began, time.monotonic())


def attach(notes: Notes) -> None:
    """Has a thread of C's attach, as PyO3 would, and notes the number of its thread state.

    Each attaching of such a thread makes a thread state, and CPython numbers them without a gap
    (`PyThreadState_GetID`): what lies between two notes is how many attached in between.
    """
    python = ctypes.pythonapi
    python.PyThreadState_Get.restype = ctypes.c_void_p
    python.PyThreadState_GetID.argtypes = [ctypes.c_void_p]
    python.PyThreadState_GetID.restype = ctypes.c_uint64

    @_START_ROUTINE
    def note(_: int | None) -> int:
        notes.write("attached", python.PyThreadState_GetID(python.PyThreadState_Get()))
        return 0

    thread = ctypes.c_ulong()
    assert _releasing.pthread_create(ctypes.byref(thread), None, note, None) == 0
    _releasing.pthread_join(thread, None)


async def serve(config: Config, ready: Path) -> None:
    """Serves until SIGTERM, as the command does."""
    app = App(config)
    await run_until_signal(app, on_ready=lambda app: write_ready_file(ready, app, config))


def main(seconds: str, path: str, *command: str) -> None:
    """Does what `watchword serve --ready-file FILE` does."""
    assert command[:2] == ("serve", "--ready-file"), command
    ready = Path(command[2])
    notes = Notes(Path(path))
    signal.signal(signal.SIGUSR1, lambda *_: hold(float(seconds), notes))
    signal.signal(signal.SIGUSR2, lambda *_: attach(notes))
    with ready_file(ready):
        config = load_config(os.environ, required=REQUIRED_BY_SERVE)
        configure_logging(config.log)
        asyncio.run(serve(config, ready))


if __name__ == "__main__":
    main(*sys.argv[1:])
