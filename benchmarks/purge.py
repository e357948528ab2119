"""`python -m benchmarks.purge [--quick]`: what a purge costs those who sign in meanwhile.

One server process with its purger at work, and people who sign in all the time. The dead challenges
fall due in equal parts, one every so many seconds, so that times with and without a purge take
turns and whatever else the machine does meets both. Exits with 1 when the p99 of VerifyOtp during
purges is more than 1.2 times that between them, or when a row is gone that should be there.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.closed_loop import closed_loop, percentile
from benchmarks.load_sign_ins import TIMEOUT_SECONDS, Codes, SignInJob, SignInResult
from benchmarks.machine import facts
from benchmarks.processes import ProcessFailed, load, watchword_server
from benchmarks.table import table
from watchword_client import AsyncClient

RATIO_MAX = 1.2
# The least that may be set; the rows that are to stay are at most 45 minutes past their end.
RETENTION = "1h"
WARM_UP_SECONDS = 5.0
# From storing the dead challenges until the first of them fall due; and so long before that the
# sign-ins begin.
LEAD_SECONDS = 90.0
AHEAD_SECONDS = 20.0
END_SECONDS = 120.0

# $1 how many. They end from 45 minutes ago to 5 minutes ahead; each has its mail, sent.
FILL_LIVE = """
    INSERT INTO challenges (slot, id, purpose, subject_key, nonce, key_id, code_form, attempts,
                            attempts_by_email, user_id, create_time, expire_time, consume_time)
    SELECT n % 4096, gen_random_uuid(), 'live', sha256(n::text::bytea), '', 1, 6, 1, 0,
           gen_random_uuid(), t, t + interval '5 minutes', t
    FROM generate_series(1, $1::int) AS n,
         LATERAL (SELECT now() - n * interval '50 minutes' / $1 AS t) AS times
"""
# $1 how many, $2 in how many parts, $3 seconds until the first is due, $4 seconds between two.
FILL_DEAD = """
    INSERT INTO challenges (slot, id, purpose, subject_key, nonce, key_id, code_form, attempts,
                            attempts_by_email, user_id, create_time, expire_time, consume_time)
    SELECT n % 4096, gen_random_uuid(), 'dead', sha256(n::text::bytea), '', 1, 6, 1, 0,
           gen_random_uuid(), t, t, t
    FROM generate_series(0, $1::int - 1) AS n,
         LATERAL (SELECT now() - interval '1 hour'
                         + ($3 + $4 * (n * $2::int / $1)) * interval '1 second' AS t) AS times
"""
FILL_MAILS = """
    INSERT INTO outbox (slot, id, kind, challenge_id, state, attempts, create_time, next_time,
                        end_time)
    SELECT slot, gen_random_uuid(), 'otp', id, 'sent', 1, create_time, create_time, create_time
    FROM challenges
    WHERE purpose = $1
"""
COUNTS = """
    SELECT count(*) FILTER (WHERE purpose = 'live') AS live,
           count(*) FILTER (WHERE purpose = 'dead') AS dead,
           (SELECT count(*) FROM outbox o JOIN challenges c ON c.id = o.challenge_id
            WHERE c.purpose = 'live') AS mails,
           (SELECT count(*) FROM users) AS users,
           (SELECT count(*) FROM identifiers WHERE user_id IS NOT NULL) AS identifiers,
           (SELECT count(*) FROM sessions) AS sessions
    FROM challenges
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is stored, purged and signed in; `rounds` purges begin `period_seconds` apart."""

    live: int
    dead: int
    people: int
    concurrency: int
    rounds: int
    period_seconds: float


FULL = Size(live=800_000, dead=200_000, people=2_000, concurrency=4, rounds=6, period_seconds=36.0)
QUICK = Size(live=40_000, dead=10_000, people=100, concurrency=4, rounds=2, period_seconds=8.0)


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of the purger, on the clock of time.perf_counter."""

    began: float
    ended: float
    removed: int
    longest_batch_seconds: float


@dataclass(slots=True)
class Run:
    """When each VerifyOtp began and how long it took, and the purger's passes."""

    began: float = 0.0
    calls: list[tuple[float, float]] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)

    def during(self) -> list[float]:
        """The seconds of the calls that began during a pass."""
        return [seconds for at, seconds in self.calls if self._in_pass(at)]

    def between(self) -> list[float]:
        """The seconds of the others, without those of the warm-up."""
        warm = self.began + WARM_UP_SECONDS
        return [seconds for at, seconds in self.calls if at >= warm and not self._in_pass(at)]

    def _in_pass(self, at: float) -> bool:
        return any(one.began <= at <= one.ended for one in self.passes)


async def fill(connection: asyncpg.Connection, size: Size) -> float:
    """Stores the challenges; returns when the first dead ones fall due, by perf_counter."""
    _tell(f"storing {size.live:,} challenges that stay and {size.dead:,} that go")
    await connection.execute(FILL_LIVE, size.live)
    await connection.execute(FILL_MAILS, "live")
    await connection.execute("VACUUM (ANALYZE) challenges, outbox")
    due = time.perf_counter() + LEAD_SECONDS
    await connection.execute(FILL_DEAD, size.dead, size.rounds, LEAD_SECONDS, size.period_seconds)
    await connection.execute(FILL_MAILS, "dead")
    await connection.execute("ANALYZE challenges, outbox")
    await connection.execute("CHECKPOINT")
    return due


async def measure(ready: dict[str, Any], size: Size) -> tuple[Run, dict[str, int], dict[str, int]]:
    """Fills, signs in until every part has been due for a period; returns the counts as well."""
    connection = await asyncpg.connect(ready["database_url"], command_timeout=300)
    client = AsyncClient(ready["api"], service_key=ready["service_key"], timeout=TIMEOUT_SECONDS)
    run = Run()
    try:
        codes = Codes(connection, ready)
        due = await fill(connection, size)
        before = dict(await connection.fetchrow(COUNTS) or ())
        if time.perf_counter() + AHEAD_SECONDS > due:
            raise ProcessFailed("storing took too long: the first challenges are due already")
        await asyncio.sleep(due - AHEAD_SECONDS - time.perf_counter())
        _tell("signing in")
        run.began = time.perf_counter()

        async def sign_in(number: int) -> float:
            email = f"person{number % size.people}@example.com"
            challenge_id = (await client.send_otp(email=email)).challenge.id
            code = await codes.mailed_code(challenge_id)
            started = time.perf_counter()
            await client.verify_otp(challenge_id=challenge_id, code=code)
            seconds = time.perf_counter() - started
            run.calls.append((started, seconds))
            return seconds

        async with _watching(Path(ready["log"]), run):
            await closed_loop(
                sign_in,
                concurrency=size.concurrency,
                count=sys.maxsize,
                seconds_max=due + size.rounds * size.period_seconds - run.began,
            )
            # A pass counts once it is logged.
            async with asyncio.timeout(END_SECONDS):
                while sum(one.removed for one in run.passes) < size.dead:
                    await asyncio.sleep(0.1)
        after = dict(await connection.fetchrow(COUNTS) or ())
        before["sessions"] += len(run.calls)
        return run, before, after
    finally:
        await client.close()
        await connection.close()


@asynccontextmanager
async def _watching(log: Path, run: Run) -> AsyncIterator[None]:
    """Adds the passes that the server logs to the run until the block ends."""
    task = asyncio.create_task(_watch(log, run))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(log: Path, run: Run) -> None:
    with log.open() as lines:
        rest = ""
        while True:
            rest += lines.read()
            *whole, rest = rest.split("\n")
            for line in whole:
                record = json.loads(line) if line.startswith("{") else {}
                if record.get("event") == "purged":
                    ended = time.perf_counter()
                    began, removed = ended - record["seconds"], record.get("challenges", 0)
                    run.passes.append(Pass(began, ended, removed, record["longest_batch_seconds"]))
                    _tell(f"purged {removed:,} in {record['seconds']:.1f} s")
            await asyncio.sleep(0.01)


def report(run: Run, size: Size, before: dict[str, int], after: dict[str, int]) -> bool:
    """Prints what was found; whether that is good."""
    during, between = run.during(), run.between()
    if not during or not between:
        print("error: no calls during purges, or none between them")
        return False

    def row(name: str, seconds: list[float]) -> list[str]:
        return [
            name,
            f"{len(seconds):,}",
            *(f"{percentile(seconds, percent) * 1000:.1f}" for percent in (50, 95, 99)),
            f"{max(seconds) * 1000:.1f}",
        ]

    head = ["VerifyOtp", "calls", "p50 ms", "p95 ms", "p99 ms", "max ms"]
    print(table(head, [row("between purges", between), row("during purges", during)]))
    ratio = percentile(during, 99) / percentile(between, 99)
    print(f"\nRATIO of p99: {ratio:.2f} (at most {RATIO_MAX})")
    removed = sum(one.removed for one in run.passes)
    seconds = sum(one.ended - one.began for one in run.passes)
    longest = max(one.longest_batch_seconds for one in run.passes)
    print(
        f"purged {removed:,} challenges with their mails in {len(run.passes)} passes, "
        f"{seconds:.0f} s; longest batch {longest * 1000:.0f} ms"
    )
    lost = {kind: before[kind] - after[kind] for kind in before if kind != "dead"}
    print("live rows lost: " + ", ".join(f"{count} {kind}" for kind, count in lost.items()))
    print(f"dead challenges left: {after['dead']:,} of {size.dead:,}")
    return ratio <= RATIO_MAX and not any(lost.values()) and after["dead"] == 0


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.purge", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small one: does it work?")
    size = QUICK if parser.parse_args().quick else FULL
    settings = {"PURGE__INTERVAL": "1s", "PURGE__RETENTION": RETENTION, "LOG__LEVEL": "info"}
    try:
        with watchword_server(**settings) as ready:
            _tell(f"registering {size.people:,} people")
            job = SignInJob(
                ready=ready,
                register=True,
                tokens=0,
                concurrency=8,
                count=size.people,
                seconds_max=120.0,
            )
            registered = SignInResult(**load("load_sign_ins", asdict(job)))
            run, before, after = asyncio.run(measure(ready, size))
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    print(facts(registered.postgres_version), end="\n\n")
    if not report(run, size, before, after):
        sys.exit(1)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
