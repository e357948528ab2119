"""Says whether this process can serve: schema right and database answering.

Ready once every migration of this program is applied; not any more when the probe failed twice in
a row. A sender that is down changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

PROBE_INTERVAL_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 1.0
FAILURES_MAX = 2

_log = structlog.get_logger(__name__)


class Probe(Protocol):
    """What readiness asks of the database; raises whatever goes wrong."""

    async def ping(self) -> None:
        """Returns when the database has answered."""

    async def missing_migrations(self) -> int:
        """Returns how many migrations of this program are not applied."""

    async def reconnect(self) -> None:
        """Has every connection made anew: those that hang may lead nowhere for ever."""


class Readiness:
    """Probes once a second and tells when the answer changes."""

    def __init__(self, probe: Probe, on_change: Callable[[bool], Awaitable[None]]) -> None:
        self._probe = probe
        self._on_change = on_change
        self._schema_is_right = False
        self._failures = 0
        self._last_problem: str | None = None
        self._ready: bool | None = None
        self.became_ready = asyncio.Event()

    async def run(self) -> None:
        """Probes for ever."""
        while True:
            await self._set(await self._is_ready())
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                problem = await self._check_schema()
        except Exception as error:
            self._failures += 1
            # The driver's own words: this is where an operator looks first.
            self._report(f"{type(error).__name__}: {error}")
            if isinstance(error, TimeoutError):
                await self._probe.reconnect()
            return bool(self._ready) and self._failures < FAILURES_MAX
        self._failures = 0
        self._report(problem)
        return problem is None

    async def _check_schema(self) -> str | None:
        """Returns what is missing; the schema is asked for until it is right, then only a ping."""
        if self._schema_is_right:
            await self._probe.ping()
            return None
        missing = await self._probe.missing_migrations()
        self._schema_is_right = missing == 0
        return (
            None if missing == 0 else f"{missing} migrations are missing; run `watchword migrate`"
        )

    def _report(self, problem: str | None) -> None:
        if problem is not None and problem != self._last_problem:
            _log.warning("database not ready", problem=problem)
        self._last_problem = problem

    async def _set(self, ready: bool) -> None:
        if ready == self._ready:
            return
        self._ready = ready
        _log.info("serving" if ready else "not serving")
        await self._on_change(ready)
        if ready:
            self.became_ready.set()
