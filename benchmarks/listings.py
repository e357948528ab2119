"""`python -m benchmarks.listings [--users N] [--events N]`: what a late page of a listing costs.

ListUsers over 1,000,000 users and ListAuditEvents over 5,000,000 events, whole and by a filter: the
first page and the thousandth one (the last where there are fewer), of 100 each, by AdminService.
Prints the medians and their ratio, and exits with 1 when one is above 2.
"""

import argparse
import asyncio
import statistics
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.machine import facts
from benchmarks.processes import ProcessFailed, watchword_server
from benchmarks.table import table
from watchword_client import AsyncAdminClient, admin_service_pb2

USERS, EVENTS = 1_000_000, 5_000_000
PAGE, PAGES = 100, 1_000
SAMPLES = 30
RATIO_MAX = 2.0
TIMEOUT_SECONDS = 900.0
FILL_USERS = """
    INSERT INTO users (slot, id, full_name, username, email, state, auth_epoch, create_time,
                       update_time)
    SELECT n % 4096,
           ('01a00000-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
           'Somebody', 'user' || n, n || '@example.com',
           CASE WHEN n % 3 = 0 THEN 'disabled' ELSE 'active' END, 0, now(), now()
    FROM generate_series(1, $1::bigint) AS n
"""
FILL_EVENTS = """
    INSERT INTO audit_events (slot, at, id, action, outcome, actor, user_id, count)
    SELECT n % 4096, now() - make_interval(secs => n / 10.0),
           ('01a00000-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
           CASE WHEN n % 10 = 0 THEN 'revoke' ELSE 'sign_in' END, 'ok', 'gateway', NULL, 1
    FROM generate_series(1, $1::bigint) AS n
"""

Turn = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians in milliseconds of the first page and of page `number`."""

    name: str
    first: float
    late: float
    number: int

    @property
    def ratio(self) -> float:
        """How much longer the late one takes."""
        return self.late / self.first


async def measure(ready: dict[str, Any], *, users: int, events: int) -> tuple[list[Figure], str]:
    """Fills the tables and turns the pages; also returns PostgreSQL's version."""
    connection = await asyncpg.connect(ready["database_url"], command_timeout=TIMEOUT_SECONDS)
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(FILL_USERS, users)
        await connection.execute(FILL_EVENTS, events)
        await connection.execute("VACUUM (ANALYZE) users, audit_events")
        version: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    async with AsyncAdminClient(ready["admin"], service_key=ready["service_key"]) as admin:
        disabled = admin_service_pb2.USER_STATE_DISABLED
        turns: dict[str, Turn] = {
            "users": lambda at: admin.list_users(page_size=PAGE, page_token=at),
            "disabled users": lambda at: admin.list_users(
                page_size=PAGE, page_token=at, state=disabled
            ),
            "events": lambda at: admin.list_audit_events(page_size=PAGE, page_token=at),
            "events of an action": lambda at: admin.list_audit_events(
                page_size=PAGE, page_token=at, action="revoke"
            ),
        }
        return [await _figure(name, turn) for name, turn in turns.items()], version


async def _figure(name: str, turn: Turn) -> Figure:
    page_token, number = "", 1
    while number < PAGES:
        following = (await turn(page_token)).next_page_token
        if not following:
            break
        page_token, number = following, number + 1
    first, late = [], []
    # In turns, so that both have the same machine.
    for _ in range(SAMPLES):
        first.append(await _milliseconds(turn, ""))
        late.append(await _milliseconds(turn, page_token))
    return Figure(name, statistics.median(first), statistics.median(late), number)


async def _milliseconds(turn: Turn, page_token: str) -> float:
    began = time.perf_counter()
    await turn(page_token)
    return (time.perf_counter() - began) * 1_000


def main() -> None:
    """Measures and prints the table; exits with 1 when a ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--events", type=int, default=EVENTS)
    options = parser.parse_args()
    try:
        with watchword_server() as ready:
            figures, version = asyncio.run(
                measure(ready, users=options.users, events=options.events)
            )
    except ProcessFailed as error:
        sys.exit(str(error))
    rows = [
        (it.name, f"{it.first:.1f} ms", f"{it.number}", f"{it.late:.1f} ms", f"{it.ratio:.2f}")
        for it in figures
    ]
    sys.stdout.write(
        "\n".join(
            [
                table(("listing", "first page", "late page", "its time", "ratio"), rows),
                "",
                textwrap.fill(
                    f"{options.users:,} users and {options.events:,} events; a late page may take "
                    f"{RATIO_MAX} times as long. {facts(version)}",
                    100,
                ),
                "",
            ]
        )
    )
    if any(it.ratio > RATIO_MAX for it in figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
