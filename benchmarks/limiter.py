"""`python -m benchmarks.limiter [--quick]`: what a unit of a limit costs.

On one hot key and on 100,000 keys, from as many connections as a server's pool has: the limiter,
the bare `INSERT ... ON CONFLICT DO UPDATE` of one row, and, where `redis-server` is installed, the
same algorithm as a script in Redis. Each round measures all of them one after the other, so that
whatever else the machine does meets each; PostgreSQL and Redis both write without waiting for the
disk.
"""

import argparse
import asyncio
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from benchmarks.closed_loop import closed_loop, percentile
from benchmarks.machine import facts
from benchmarks.table import spread, table
from tests.support.postgres import DatabaseServer
from watchword.errors import Overloaded
from watchword.limits.model import Bucket, LimitKind, Rate
from watchword.storage.migrate import migrate
from watchword.storage.pool import DatabaseSettings, Pool
from watchword.storage.transactions import PgDatabase

CONNECTIONS = 10
# Room for everybody: what is measured is a unit that is taken.
RATE = Rate(1_000_000, timedelta(seconds=1))
REDIS_TIMEOUT_SECONDS = 10.0

BARE_TABLE = "CREATE TABLE bare (key bytea PRIMARY KEY, count bigint NOT NULL)"
BARE = """
    INSERT INTO bare AS b (key, count) VALUES ($1, 1)
    ON CONFLICT (key) DO UPDATE SET count = b.count + 1
    RETURNING count
"""
# The algorithm of storage/limits.py for one window; KEYS[1], step and slack in microseconds.
GCRA = b"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, slack = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = tonumber(redis.call('GET', KEYS[1]) or 0)
if tat > now + slack then return 0 end
tat = math.max(tat, now) + step
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
return 1
"""

Take = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Size:
    """How many keys the wide case has, and how often what is measured."""

    keys: int
    units: int
    rounds: int


FULL = Size(keys=100_000, units=3_000, rounds=5)
QUICK = Size(keys=1_000, units=500, rounds=1)


@asynccontextmanager
async def postgres_takers() -> AsyncIterator[tuple[dict[str, Take], str]]:
    """The limiter and the bare statement on a PostgreSQL of their own, and its version."""
    with DatabaseServer() as server:
        url = await server.create_database("limiter")
        await migrate(url)
        async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as bare:
            await bare.execute(BARE_TABLE)
            version = await bare.fetchval("SELECT current_setting('server_version')")
            pool = Pool(DatabaseSettings(url=SecretStr(url), pool_size=CONNECTIONS))
            await pool.open()
            database = PgDatabase(pool)

            async def limiter(key: bytes) -> None:
                bucket = Bucket(LimitKind.CLIENT, key, (RATE.window(),))
                try:
                    assert not await database.run_statement(lambda tx: tx.limits.take([bucket]))
                except Overloaded:
                    print("a unit was refused after 100 ms", file=sys.stderr)

            async def statement(key: bytes) -> None:
                async with bare.acquire() as connection:
                    await connection.fetchval(BARE, key)

            try:
                yield {"limiter": limiter, "bare upsert": statement}, version
            finally:
                await pool.close()


class Redis:
    """One connection to Redis, which runs the script; RESP 2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sha = hashlib.sha1(GCRA).hexdigest().encode()

    async def load(self) -> None:
        """Gives the server the script."""
        assert (await self._ask(b"SCRIPT", b"LOAD", GCRA)).startswith(b"$40")
        assert await self._reader.readline() == self._sha + b"\r\n"

    async def take(self, key: bytes) -> None:
        """Takes one unit."""
        window = RATE.window()
        numbers = (str(window.step_us).encode(), str(window.slack_us).encode())
        assert await self._ask(b"EVALSHA", self._sha, b"1", key, *numbers) == b":1\r\n"

    async def _ask(self, *words: bytes) -> bytes:
        parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(it), it) for it in words)]
        self._writer.write(b"".join(parts))
        return await self._reader.readline()

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def redis_takers(program: str) -> AsyncIterator[dict[str, Take]]:
    """The script on a Redis of its own, appending to its file as PostgreSQL writes its log."""
    with tempfile.TemporaryDirectory(prefix="watchword-redis-") as folder:
        socket = Path(folder, "socket")
        options = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "no"]
        process = await asyncio.create_subprocess_exec(
            program, *options, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_SECONDS):
                while not socket.exists():
                    await asyncio.sleep(0.05)
            async with AsyncExitStack() as stack:
                idle = asyncio.Queue[Redis]()
                for _ in range(CONNECTIONS):
                    connection = Redis(*await asyncio.open_unix_connection(str(socket)))
                    stack.callback(connection.close)
                    await connection.load()
                    idle.put_nowait(connection)

                async def take(key: bytes) -> None:
                    connection = await idle.get()
                    await connection.take(key)
                    idle.put_nowait(connection)

                yield {"Redis script": take}
        finally:
            process.terminate()
            await process.wait()


async def measure(takers: dict[str, Take], size: Size) -> list[list[str]]:
    """Returns the rows of the report: what, units a second, ratio to the bare upsert, p99."""
    rows = []
    keys = [hashlib.sha256(str(number).encode()).digest() for number in range(size.keys)]
    for case, chosen in (("one key", keys[:1]), (f"{size.keys:,} keys", keys)):
        rates: dict[str, list[float]] = {name: [] for name in takers}
        p99s: dict[str, list[float]] = {name: [] for name in takers}
        for _ in range(size.rounds):
            for name, take in takers.items():
                operation = partial(_timed, take, chosen)
                outcome = await closed_loop(
                    operation, concurrency=CONNECTIONS, count=size.units, seconds_max=60.0
                )
                rates[name].append(len(outcome.latencies_seconds) / outcome.elapsed_seconds)
                p99s[name].append(1000 * percentile(outcome.latencies_seconds, 99))
        for name in takers:
            ratios = [a / b for a, b in zip(rates[name], rates["bare upsert"], strict=True)]
            cells = [spread(rates[name]), spread(ratios, 2), spread(p99s[name], 1)]
            rows.append([f"{case}: {name}", *cells])
    return rows


async def _timed(take: Take, keys: Sequence[bytes], number: int) -> float:
    started = time.perf_counter()
    # A prime stride: neighbours in time are none in the table.
    await take(keys[number * 7919 % len(keys)])
    return time.perf_counter() - started


async def run(size: Size) -> None:
    """Measures and reports."""
    async with AsyncExitStack() as stack:
        takers, version = await stack.enter_async_context(postgres_takers())
        program = shutil.which("redis-server")
        if program is None:
            print("Redis is left out: `redis-server` was not found", file=sys.stderr)
            print("hint: on Debian: apt-get install redis-server", file=sys.stderr)
        else:
            takers |= await stack.enter_async_context(redis_takers(program))
        rows = await measure(takers, size)
    print(facts(version), end="\n\n")
    print(table(["what", "units/s", "ratio to the bare upsert", "p99 ms"], rows))


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limiter", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small one: does it work?")
    asyncio.run(run(QUICK if parser.parse_args().quick else FULL))


if __name__ == "__main__":
    main()
