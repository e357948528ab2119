"""`python -m benchmarks.restore [--users N] [--sessions N]`: what a restore of 1 GB takes (R15).

A temporary installation is filled, dumped by pg_dump and restored into an empty database by
pg_restore, two jobs each; then `watchword restore-fence` runs there. Prints the times and exits
with 1 when restore and fence together take longer than 60 s, or a session of the dump still lives.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.listings import FILL_EVENTS
from benchmarks.machine import facts
from benchmarks.made_sessions import make_sessions
from benchmarks.processes import ProcessFailed, watchword_command, watchword_server
from benchmarks.table import table
from watchword.dev.postgres_binaries import find_binaries
from watchword.dev.postgres_programs import run

USERS, SESSIONS, EVENTS = 400_000, 1_000_000, 2_000_000
WANTED_SECONDS = 60.0
JOBS = "2"
TIMEOUT_SECONDS = 900.0
RESTORED = "restored"
SIZE = "SELECT pg_database_size(current_database())"
LIVE = """
    SELECT count(*)
    FROM sessions s
    JOIN installation i ON i.id = 1
    WHERE s.installation_epoch >= i.epoch
"""


async def fill(ready: dict[str, Any], *, users: int, sessions: int, events: int) -> str:
    """Fills the tables; returns PostgreSQL's version."""
    with tempfile.TemporaryDirectory(prefix="watchword-bench-") as folder:
        version = await make_sessions(
            ready, users=users, sessions=sessions, file=Path(folder, "tokens")
        )
    connection = await asyncpg.connect(ready["database_url"], command_timeout=TIMEOUT_SECONDS)
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(FILL_EVENTS, events)
        await connection.execute(f"CREATE DATABASE {RESTORED}")
    finally:
        await connection.close()
    return version


async def ask(url: str, statement: str) -> int:
    """Asks a database for a number."""
    connection = await asyncpg.connect(url, command_timeout=TIMEOUT_SECONDS)
    try:
        number: int = await connection.fetchval(statement)
    finally:
        await connection.close()
    return number


def restored(ready: dict[str, Any]) -> dict[str, float]:
    """Dumps, restores and fences; the seconds of each."""
    source = ready["database_url"]
    parts = urlsplit(source)
    target = urlunsplit(parts._replace(path=f"/{RESTORED}"))
    binaries = find_binaries()
    took: dict[str, float] = {}

    def program(name: str, *arguments: str) -> None:
        began = time.monotonic()
        run([str(binaries.folder / name), *arguments], {}, TIMEOUT_SECONDS)
        took[name] = time.monotonic() - began

    with tempfile.TemporaryDirectory(prefix="watchword-bench-") as folder:
        dump = str(Path(folder, "dump"))
        program("pg_dump", "--format=directory", f"--jobs={JOBS}", f"--file={dump}", source)
        program("pg_restore", f"--jobs={JOBS}", "--no-owner", f"--dbname={target}", dump)
    before = asyncio.run(ask(target, LIVE))
    began = time.monotonic()
    watchword_command({"WATCHWORD_DATABASE__URL": target}, "restore-fence", "--yes")
    took["restore-fence"] = time.monotonic() - began
    if not before or asyncio.run(ask(target, LIVE)):
        raise ProcessFailed("a session of the dump is live after the fence, or none was before it")
    return took


def main() -> None:
    """Measures and prints the table; exits with 1 when it takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--events", type=int, default=EVENTS)
    options = parser.parse_args()
    try:
        with watchword_server() as ready:
            filled = fill(
                ready, users=options.users, sessions=options.sessions, events=options.events
            )
            version = asyncio.run(filled)
            size = asyncio.run(ask(ready["database_url"], SIZE))
            took = restored(ready)
    except (ProcessFailed, OSError) as error:
        sys.exit(str(error))
    total = took["pg_restore"] + took["restore-fence"]
    rows = [(name, f"{seconds:.1f} s") for name, seconds in took.items()]
    sys.stdout.write(
        f"{table(('step', 'took'), rows)}\n\n"
        f"{size / 1e9:.2f} GB; restore and fence {total:.1f} s of {WANTED_SECONDS:.0f}. "
        f"{facts(version)}\n"
    )
    if total > WANTED_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
