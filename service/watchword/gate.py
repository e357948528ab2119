"""The gate: the Rust threads that clients connect to, in front of grpc.aio.

A gate listens on the address of the api, and another on that of the administration. What it does
not answer it hands over to UnaryServer, or passes on to a unix socket in a folder that nobody else
may enter. It never logs: what an operator should know waits in a queue that `run` empties.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from pydantic import Field

# The second importer of the Rust core; config.py has imported watchword.crypto by then, which
# refuses one that is missing or stale with a hint.
from watchword import _core
from watchword.settings import Section
from watchword.transport.server import AddressTaken, ListenerSettings

# The path of a unix socket has 108 bytes with its NUL on Linux, 104 on BSD (sun_path).
SOCKET_PATH_MAX_BYTES: Final = 100
# A connection without a call, and any connection: it is asked to go, calls in flight finish.
IDLE_SECONDS: Final = 600.0
AGE_SECONDS: Final = 3_600.0
EVENTS_INTERVAL_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class GateSettings(Section):
    """The threads in front of grpc.aio, and the sessions that they know."""

    enabled: bool = Field(
        True,
        description="listen in Rust threads of this process; without, and on a unix socket, "
        "grpc.aio listens itself",
    )
    threads: int = Field(1, ge=1, le=64, description="how many threads serve the network")
    cache_mib: int = Field(
        256,
        ge=0,
        le=1_048_576,
        description="MiB for the sessions that checks are answered from, about 300 bytes each; 0: "
        "each check asks the database",
    )
    connections_max: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="connections at once; more are closed as they come",
    )


def has_gate(settings: GateSettings, listener: ListenerSettings) -> bool:
    """Whether a gate stands there: on a unix socket grpc.aio listens itself.

    gRPC's C core sends `:authority` there in a form that Rust's HTTP/2 refuses.
    """
    return settings.enabled and not listener.address.startswith("unix:")


def unary_calls(methods: Sequence[str]) -> _core.UnaryCalls:
    """Makes the queue by which a gate hands over calls of these, `package.Service/Method`."""
    return _core.UnaryCalls(methods)


class Gate:
    """The gate of one listener; all of a process share one runtime."""

    def __init__(
        self,
        settings: GateSettings,
        listener: ListenerSettings,
        services: Sequence[str],
        lane: _core.Lane | None = None,
        calls: "_core.UnaryCalls | None" = None,
        *,
        idle_seconds: float = IDLE_SECONDS,
        age_seconds: float = AGE_SECONDS,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._services = services
        self._lane = lane
        self._calls = calls
        self._idle_seconds = idle_seconds
        self._age_seconds = age_seconds
        self._folder: Path | None = None
        self._gate: _core.Gate | None = None

    def make_upstream(self) -> str:
        """Makes the private folder and returns the address in it for grpc.aio to listen on."""
        self._folder = _private_folder()
        return f"unix:{_socket(self._folder)}"

    def start(self) -> str:
        """Listens, and returns the address with the port that it got; raises AddressTaken.

        RuntimeError if it was started, or in a fork of a process with a gate.
        """
        if self._gate is not None:
            raise RuntimeError("the gate was started")
        assert self._folder is not None, "`make_upstream` comes first"
        try:
            self._gate = _core.Gate.start(
                address=self._listener.address,
                upstream=str(_socket(self._folder)),
                services=self._services,
                threads=self._settings.threads,
                connections_max=self._settings.connections_max,
                idle_seconds=self._idle_seconds,
                age_seconds=self._age_seconds,
                lane=self._lane,
                unary=self._calls,
            )
        except OSError:
            raise AddressTaken(
                self._listener.address,
                setting=self._listener.address_setting(),
                hint=f"stop what listens there or set {self._listener.address_setting()}",
            ) from None
        return self._gate.address

    async def run(self) -> None:
        """Logs the gate's events for ever."""
        while True:
            self.log_events()
            await asyncio.sleep(EVENTS_INTERVAL_SECONDS)

    def log_events(self) -> None:
        """Logs what has come since the last time."""
        for kind, detail, count in self._gate.events() if self._gate is not None else ():
            _log.warning("gate event", kind=kind, detail=detail, count=count)

    async def stop(self, timeout_seconds: float) -> None:
        """Stops accepting, lets calls in flight finish for so long, and joins the threads."""
        if self._gate is not None:
            self.log_events()
            if not await asyncio.to_thread(self._gate.stop, timeout_seconds):
                _log.warning("calls were cut off", after_seconds=timeout_seconds)

    def remove_upstream(self) -> None:
        """Removes the private folder, once grpc.aio has stopped."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None


def _private_folder() -> Path:
    """Makes a folder of mode 0700 in the system's temporary one; in /tmp if that is too deep."""
    folder = Path(tempfile.mkdtemp(prefix="watchword-"))
    if len(os.fsencode(_socket(folder))) < SOCKET_PATH_MAX_BYTES:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="watchword-", dir="/tmp"))


def _socket(folder: Path) -> Path:
    return folder / "api"
