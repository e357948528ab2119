"""One run under faults: a load that goes on, servers that end, and the figures of it (`pytest -s`).

WATCHWORD_TEST_FULL=1 asks for the full number of kills, WATCHWORD_FAULT_KILLS for another one.
"""

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from benchmarks.closed_loop import percentile
from tests.faults.caller import Caller
from tests.faults.checks import check, drained
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.postbox import Postbox
from tests.races.bursts import FULL
from tests.support.health import SERVING, health_of, status
from tests.support.processes import WatchwordProcess, watchword
from tests.support.running import installation_environment

# How long to let it run between two kills, so that each comes at another moment.
LIFE_SECONDS = (0.3, 0.9)
MOMENT_SECONDS = 3.0
ANSWER_SECONDS = 20.0


class Moment(Enum):
    """When to kill; the value of an answer's moment is its method."""

    MAIL_TAKEN = "a provider has taken a mail and not answered yet"
    CODE_PROMISED = "Register"
    SIGNED_IN = "VerifyOtp"
    SIGNED_OUT = "Revoke"
    ANY = "whatever goes on"


def moments(*, ordinary: int, full: int) -> list[Moment]:
    """Returns when to kill, as often as asked for."""
    count = int(os.environ.get("WATCHWORD_FAULT_KILLS", full)) if FULL else ordinary
    return list(itertools.islice(itertools.cycle(Moment), count))


class FaultRun:
    """The servers of one installation, one after the other, and what they have acknowledged."""

    def __init__(
        self, database_url: str, postbox: Postbox, ends: contextlib.AsyncExitStack
    ) -> None:
        self.ledger = Ledger()
        self.caller = Caller(self.ledger)
        self.load = Load(self.caller, postbox)
        self.postbox = postbox
        self.kills: list[datetime] = []
        self.recovery_seconds: list[float] = []
        self.servers: list[WatchwordProcess] = []
        # A full run outlasts the 5 minutes that codes live by default.
        settings = {**postbox.settings, "OTP__LIFETIME": "10m"}
        self._environment = installation_environment(database_url, Path(), **settings)
        self._ends = ends

    async def start_server(self) -> float:
        """Starts the next server; returns the seconds until its health was SERVING."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        server = await self._ends.enter_async_context(watchword("serve", env=self._environment))
        async with health_of(server.ready["api"]) as health:
            assert await status(health) == SERVING
        seconds = loop.time() - began
        self.servers.append(server)
        self.caller.client = await self._ends.enter_async_context(server.client())
        return seconds

    async def kill_server(self, moment: Moment) -> None:
        """Kills the server by SIGKILL."""
        process = self.servers[-1].process
        await self.at(moment, process.kill)
        await process.wait()

    async def at(self, moment: Moment, kill: Callable[[], None]) -> None:
        """Kills at a moment, within which nothing else happens in this process.

        A machine that is busy may not get there: then it kills all the same.
        """
        killed = asyncio.Event()

        def now() -> None:
            self.kills.append(datetime.now(UTC))
            kill()
            killed.set()

        match moment:
            case Moment.ANY:
                now()
            case Moment.MAIL_TAKEN:
                self.postbox.on_mail = now
            case _:
                self.ledger.on_answer = moment.value, now
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOMENT_SECONDS):
                await killed.wait()
        if not killed.is_set():
            self.postbox.on_mail = self.ledger.on_answer = None
            now()

    async def live(self) -> None:
        """Lets everything go on for a while."""
        await asyncio.sleep(random.uniform(*LIFE_SECONDS))

    async def seconds_to_answer(self) -> float:
        """Returns how long it takes from now until a call is answered."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(ANSWER_SECONDS):
            while self.ledger.last_answer_seconds <= began:
                await asyncio.sleep(0.005)
        return self.ledger.last_answer_seconds - began

    async def finish(self) -> None:
        """Waits for the mails and reads the ledger against everything there is."""
        server = self.servers[-1]
        await drained(self.ledger, server)
        await check(self.ledger, server, self.postbox)
        self.postbox.check(self.ledger, self.kills)
        assert server.process.returncode is None, server.log()

    def report(self, what: str) -> None:
        """Prints the figures."""
        ledger, mails = self.ledger, self.postbox.arrivals
        recovery = [percentile(self.recovery_seconds, each) for each in (50, 95, 100)]
        promised = [person for person in ledger.people if person.challenge_id]
        delays = [
            (mail.time - person.code_ask_time).total_seconds()
            for person in promised
            if (mail := self.postbox.first(person.email))
        ]
        copied = self.postbox.copied(self.kills)
        lines = [
            f"{what}: {len(self.kills)} kills",
            "  back after p50 {:.2f} s, p95 {:.2f} s, max {:.2f} s".format(*recovery),
            f"  codes asked {len(ledger.people)} in {self.load.seconds:.1f} s, "
            f"acknowledged {len(promised)}",
            f"  mails {len(mails)}, once more {copied.total()}, "
            f"by kill {sorted(copied.values(), reverse=True)}",
            f"  code to mail p50 {percentile(delays, 50):.2f} s, max {max(delays):.2f} s",
            f"  answered {dict(ledger.answered)}",
            f"  unknown {dict(ledger.unanswered)}",
            f"  broken {ledger.broken_claims()}",
        ]
        print(*lines, sep="\n")  # noqa: T201  # what a full run is for


@contextlib.asynccontextmanager
async def fault_run(database_url: str, postbox: Postbox) -> AsyncIterator[FaultRun]:
    """Starts the first server of an installation; every server ends with the block."""
    async with contextlib.AsyncExitStack() as ends:
        run = FaultRun(database_url, postbox, ends)
        await run.start_server()
        yield run
