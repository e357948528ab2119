"""`python -m benchmarks.soak [--minutes N]`: does anything grow while the service is busy?

People sign in, are validated and sign out at an even rate, about half of what the machine takes,
and sessions that stay are checked beside them, which the gate answers from its cache.
After a warm-up the server's memory may grow by at most 5 %, and its open files by no more than the
connections of its pool; when the load ends every one of these is idle. While something else has the
machine the server may say that it is overloaded, at most once in a hundred sign-ins. Exits with 1
when one is missed.
"""

import argparse
import asyncio
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.load_sign_ins import Codes
from benchmarks.machine import facts
from benchmarks.processes import ProcessFailed, watchword_server
from benchmarks.table import table
from watchword_client import AsyncClient, Overloaded, WatchwordError

SIGN_INS_PER_SECOND = 40
VALIDATIONS = 5
STAYING = 100
CHECKS_PER_SECOND = 200
OVERLOADED_MAX = 0.01
WARM_UP_SHARE = 0.25
# Some of the jobs run for the first time after a minute.
WARM_UP_SECONDS_MIN = 75.0
MINUTES_MIN = 2.0
GROWTH_MAX = 0.05
POOL_SIZE = 10
# Full of those who have signed in within seconds: what grows then is no cache.
CACHE_MIB = "1"
SAMPLES = 12
TIMEOUT_SECONDS = 20.0

# Ours are all idle, outside of a transaction.
IN_USE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'watchword' AND state IS DISTINCT FROM 'idle'
"""


@dataclass
class People:
    """Who signs in and is checked, and how often the server was overloaded for them."""

    client: AsyncClient
    codes: Codes
    overloaded: int = 0

    async def sign_in(self, name: str) -> str:
        """Registers somebody and signs in; returns the session's token."""
        answer = await self.client.register(
            full_name="Ada Lovelace", username=name, email=f"{name}@example.com", send_otp=True
        )
        code = await self.codes.mailed_code(answer.challenge.id)
        signed_in = await self.client.verify_otp(challenge_id=answer.challenge.id, code=code)
        return str(signed_in.session_token)

    async def come_and_go(self, name: str) -> None:
        """Signs in, is checked and signs out."""
        try:
            token = await self.sign_in(name)
            for _ in range(VALIDATIONS):
                await self.client.validate_session(token)
            await self.client.revoke(token)
        except Overloaded:
            self.overloaded += 1

    async def check_for_ever(self, tokens: list[str]) -> None:
        """Checks one after the other, at an even rate."""
        for token in itertools.cycle(tokens):
            due = time.monotonic() + 1 / CHECKS_PER_SECOND
            try:
                await self.client.validate_session(token)
            except Overloaded:
                self.overloaded += 1
            await asyncio.sleep(due - time.monotonic())


async def soak(ready: dict[str, Any], seconds: float) -> list[tuple[float, int, int]]:
    """Runs the load; returns samples of (seconds, resident KiB, open files)."""
    connection = await asyncpg.connect(ready["database_url"])
    client = AsyncClient(ready["api"], service_key=ready["service_key"], timeout=TIMEOUT_SECONDS)
    people = People(client, Codes(connection, ready))
    samples: list[tuple[float, int, int]] = []
    started = time.monotonic()

    async def sample() -> None:
        while True:
            await asyncio.sleep(seconds / SAMPLES)
            samples.append((time.monotonic() - started, *_size(ready["pid"])))

    sign_ins = int(seconds * SIGN_INS_PER_SECOND)
    try:
        staying = [await people.sign_in(f"staying{number}") for number in range(STAYING)]
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(sample()),
                group.create_task(people.check_for_ever(staying)),
            ]
            for number in range(sign_ins):
                await asyncio.sleep(started + number / SIGN_INS_PER_SECOND - time.monotonic())
                group.create_task(people.come_and_go(f"person{number}"))
            for task in beside:
                task.cancel()
        await asyncio.sleep(2)
        samples.append((time.monotonic() - started, *_size(ready["pid"])))
        in_use = await connection.fetchval(IN_USE)
        print(facts(await connection.fetchval("SHOW server_version")))
        print(
            f"overloaded {people.overloaded:,} times in {sign_ins:,} sign-ins and the checks beside"
        )
        if people.overloaded > OVERLOADED_MAX * sign_ins:
            sys.exit("missed: too many")
        if in_use:
            sys.exit(f"missed: {in_use} connections are still in use")
    finally:
        await client.close()
        await connection.close()
    return samples


def _size(pid: int) -> tuple[int, int]:
    """Returns the resident KiB and the number of open files of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    seconds = parser.parse_args().minutes * 60
    if seconds < MINUTES_MIN * 60:
        parser.error(f"the warm-up alone takes most of {MINUTES_MIN:g} minutes")
    problems: tuple[BaseException, ...] = ()
    try:
        with watchword_server(GATE__CACHE_MIB=CACHE_MIB) as ready:
            samples = asyncio.run(soak(ready, seconds))
    except* (ProcessFailed, WatchwordError) as group:
        problems = group.exceptions
    if problems:
        sys.exit(f"error: {problems[0]}")
    rows = [
        [f"{at:.0f} s", f"{resident / 1024:.1f}", str(files)] for at, resident, files in samples
    ]
    print("", table(["after", "resident MiB", "open files"], rows), sep="\n")
    warm_up = max(seconds * WARM_UP_SHARE, WARM_UP_SECONDS_MIN)
    warm = next((s for s in samples if s[0] >= warm_up), samples[-1])
    growth = samples[-1][1] / warm[1] - 1
    files = samples[-1][2] - warm[2]
    print(f"\nsince {warm[0]:.0f} s: resident {growth:+.1%}, open files {files:+d}")
    if growth > GROWTH_MAX or files > POOL_SIZE:
        sys.exit("missed: something grows")


if __name__ == "__main__":
    main()
