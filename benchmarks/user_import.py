"""`python -m benchmarks.user_import [--users N] [--quick]`: what `watchword users import` takes.

A file of users, every other one with a role, is imported into a temporary installation, imported
again (all are there already) and exported. Beside it the same users are copied, by COPY from
memory, into an empty table of the shape of `users` with its indexes, in the same PostgreSQL. COPY
stores one row for each user and checks nothing; an import checks each line and stores the user, two
identifiers, an audit event, and for half of them a role with another event.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.machine import facts
from benchmarks.processes import ProcessFailed, watchword_command, watchword_server
from benchmarks.table import spread, table
from watchword.crypto import new_user_id, slot_of
from watchword.login.user_lines import UserLine, lines_of, parsed, written
from watchword.roles.model import Assignment
from watchword.users.model import User, UserState

USERS = 100_000
QUICK = 2_000
COPIES = 3
ROLE = "imported"

COPIED = "CREATE TABLE copied (LIKE users INCLUDING ALL)"
EMPTIED = "TRUNCATE copied"
COLUMNS = (
    *("slot", "id", "full_name", "username", "email", "locale", "state"),
    *("auth_epoch", "create_time", "update_time"),
)
COUNTS = """
    SELECT (SELECT count(*) FROM users WHERE email LIKE '%@import.example') AS users,
           (SELECT count(*) FROM identifiers WHERE value LIKE '%@import.example') AS addresses,
           (SELECT count(*) FROM user_roles WHERE role = 'imported') AS roles,
           (SELECT count(*) FROM copied) AS copied
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of each part, and the version of PostgreSQL."""

    imported: float
    again: float
    exported: float
    parsed: float
    copied: list[float]
    postgres_version: str


def write_file(path: Path, users: int) -> None:
    """Writes the lines to import, in no order of their ids."""
    role = Assignment(ROLE, datetime(2026, 1, 1, tzinfo=UTC), None, None, None)
    with path.open("wb") as file:
        for number in range(users):
            user = User(
                id=new_user_id(),
                username=f"user{number}",
                full_name=f"Number {number} of Many",
                email=f"user{number}@import.example",
                locale="de",
                state=UserState.ACTIVE,
                auth_epoch=0,
            )
            file.write(written(user, [role] * (number % 2)))


async def copy(url: str, path: Path, users: int) -> tuple[list[float], str]:
    """Copies the users some times; how long each took, and the version of PostgreSQL."""
    connection = await asyncpg.connect(url, command_timeout=300)
    try:
        await connection.execute(COPIED)
        present = await connection.fetchval("SELECT now()")
        with path.open("rb") as file:
            rows = [_row(parsed(line), present) for _, line in lines_of(file)]
        taken = []
        for _ in range(COPIES):
            await connection.execute(EMPTIED)
            began = time.perf_counter()
            await connection.copy_records_to_table("copied", records=rows, columns=COLUMNS)
            taken.append(time.perf_counter() - began)
        found = dict(await connection.fetchrow(COUNTS) or ())
        expected = {"users": users, "addresses": users, "roles": users // 2, "copied": users}
        if found != expected:
            raise ProcessFailed(f"stored are {found}, and not {expected}")
        version: str = await connection.fetchval("SHOW server_version")
        return taken, version.partition(" ")[0]
    finally:
        await connection.close()


def _row(line: UserLine, present: datetime) -> tuple[object, ...]:
    profile = (line.full_name, line.username, line.email.address, line.locale, line.state)
    return (slot_of(line.id), line.id, *profile, 0, present, present)


def measure(ready: dict[str, Any], users: int) -> Figures:
    """Runs each part once, COPY thrice, all on one database."""
    environment = {"WATCHWORD_DATABASE__URL": ready["database_url"]}
    with tempfile.TemporaryDirectory(prefix="watchword-bench-") as folder:
        lines, exported = Path(folder, "lines"), Path(folder, "exported")
        write_file(lines, users)
        watchword_command(environment, "roles", "create", ROLE)

        def told(what: str, expected: str, *arguments: str) -> float:
            _tell(what)
            began = time.perf_counter()
            output = watchword_command(environment, "users", *arguments)
            taken = time.perf_counter() - began
            if output != expected:
                raise ProcessFailed(f"`users {arguments[0]}` said {output!r}")
            return taken

        text = "imported {}, already there {}, refused 0\n"
        first = told("importing", text.format(users, 0), "import", str(lines))
        again = told("importing again", text.format(0, users), "import", str(lines))
        export = told("exporting", "", "export", str(exported))
        _tell("reading the lines alone, and copying")
        with lines.open("rb") as file:
            alone = _timed(lambda: [parsed(line) for _, line in lines_of(file)])
        copied, version = asyncio.run(copy(ready["database_url"], lines, users))
        return Figures(first, again, export, alone, copied, version)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(figures: Figures, users: int) -> None:
    """Prints the rates, and how many times as long as COPY each takes."""

    def row(name: str, *taken: float) -> list[str]:
        return [
            name,
            spread(taken, 2) if len(taken) > 1 else f"{taken[0]:,.2f}",
            spread([users / seconds for seconds in taken])
            if len(taken) > 1
            else f"{users / taken[0]:,.0f}",
            f"{taken[0] / sorted(figures.copied)[COPIES // 2]:.1f}" if len(taken) == 1 else "1.0",
        ]

    rows = [
        row("import", figures.imported),
        row("import, all are there", figures.again),
        row("export", figures.exported),
        row("the lines read, nothing stored", figures.parsed),
        row("COPY of the users alone", *figures.copied),
    ]
    print(table([f"{users:,} users", "seconds", "users/s", "times COPY"], rows))


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.user_import", description=__doc__)
    parser.add_argument("--users", type=int, default=USERS, metavar="N", help="how many")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} of them: does it work?")
    arguments = parser.parse_args()
    users = QUICK if arguments.quick else arguments.users
    try:
        with watchword_server() as ready:
            figures = measure(ready, users)
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    print(facts(figures.postgres_version) + f". Load average at the end: {os.getloadavg()[0]:.1f}.")
    print()
    report(figures, users)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
