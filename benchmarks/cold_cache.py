"""`python -m benchmarks.cold_cache`: how long a server that has just started misses sessions.

ValidateSession of 100,000 sessions that the server has never seen, drawn by Zipf's law (exponent 1)
in an open loop. PostgreSQL's own count of the sessions that were read says how many of the checks
were misses. Prints the share of hits over the time, and when it reached 90 %; and how many checks
were refused meanwhile, since more sessions were missing than the server reads (OVERLOADED).
"""

import asyncio
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.machine import facts
from benchmarks.made_sessions import make_sessions
from benchmarks.processes import ProcessFailed, watchword_server
from benchmarks.rust_load import SHED, Cores, Server, build, grpc_call, run_job
from benchmarks.session_checks import VALIDATE
from benchmarks.table import table

SESSIONS, USERS = 100_000, 10_000
EXPONENT = 1.0
RATE = 10_000.0
SECONDS = 30.0
WANTED = 0.9
# A backend tells its counts no more often than once a second.
SAMPLE_SECONDS = 2.0
READ = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'sessions'"


async def measure(
    server: Server, sessions: Path, database_url: str
) -> tuple[list[tuple[float, float]], int]:
    """Loads the server; returns times since the beginning and the share of hits up to each, and how
    many checks were refused, which count as hits.
    """
    connection = await asyncpg.connect(database_url)
    samples = []
    try:
        # Until what storing them has read is counted.
        await asyncio.sleep(3 * SAMPLE_SECONDS)
        read_before = await connection.fetchval(READ)
        began = before = time.monotonic()
        load = asyncio.create_task(asyncio.to_thread(_load, server, sessions))
        while not load.done():
            await asyncio.sleep(SAMPLE_SECONDS)
            read, now = await connection.fetchval(READ), time.monotonic()
            share = 1 - (read - read_before) / (RATE * (now - before))
            samples.append((now - began, share))
            read_before, before = read, now
        statuses = (await load)["statuses"]
    finally:
        await connection.close()
    if set(statuses) - {"0", SHED}:
        raise ProcessFailed(f"not OK: {statuses} by grpc-status")
    # The generator starts and ends within a sample.
    return samples[1:-1], statuses.get(SHED, 0)


def _load(server: Server, sessions: Path) -> dict[str, Any]:
    return run_job(
        server,
        sessions,
        load={"open": {"rate": RATE, "arrivals": "poisson"}},
        connections=16,
        seconds=SECONDS,
        draw={"zipf": EXPONENT},
    )


def main() -> None:
    """Measures and prints the table."""
    try:
        build()
        cores = Cores.take()
        with watchword_server() as ready, tempfile.TemporaryDirectory() as folder:
            sessions = Path(folder, "sessions")
            version = asyncio.run(
                make_sessions(ready, users=USERS, sessions=SESSIONS, file=sessions)
            )
            call = grpc_call(ready, VALIDATE, "user")
            server = Server(pid=ready["pid"], target=ready["api"], call=call)
            cores.give_to_server(server.pid)
            samples, refused = asyncio.run(measure(server, sessions, ready["database_url"]))
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    print(textwrap.fill(f"{facts(version)}. {RATE:,.0f} checks/s of {SESSIONS:,} sessions.", 100))
    rows = [[f"{at:.0f}", f"{share:.1%}"] for at, share in samples]
    print("", table(["after s", "hits"], rows), "", sep="\n")
    reached = next((at for at, share in samples if share >= WANTED), None)
    when = "never" if reached is None else f"after {reached:.0f} s"
    print(f"{WANTED:.0%} hits: {when}; refused: {refused:,} of {RATE * SECONDS:,.0f}")


if __name__ == "__main__":
    main()
