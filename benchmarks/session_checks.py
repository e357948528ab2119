"""`python -m benchmarks.session_checks [--quick] [--write]`: what a session check costs.

ValidateSession of many live sessions, alone and in batches, beside bare servers in the same run:
grpc.aio, tonic and, when `redis-server` is installed, Redis `GET`; and a call that the gate passes
on beside the same without the gate. The server under load has one core, the generator and
PostgreSQL the other. Exits with 1 when a target is missed. README.md says how to read the figures.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.echo_server import METHOD, SERVICE
from benchmarks.machine import facts
from benchmarks.made_sessions import make_sessions
from benchmarks.processes import ProcessFailed, echo_server, watchword_server
from benchmarks.rust_load import (
    Cores,
    LoadResult,
    Server,
    build,
    grpc_call,
    redis_server,
    run_load,
    tonic_echo,
)
from benchmarks.table import spread, table

VALIDATE = "/watchword.v1.AuthService/ValidateSession"
BATCH, BATCH_SIZE = "/watchword.v1.AuthService/BatchValidateSessions", 64
# Of a token that was not minted here it asks no database: what is left is the call.
PASSED_ON = "/watchword.v1.AuthService/Revoke"
ECHO = f"/{SERVICE}/{METHOD}"
README = Path(__file__).with_name("README.md")
REDIS, REDIS_LOAD = "Redis GET of 200 bytes", (32, 1)
BEGIN, END = "<!-- session checks: begin -->", "<!-- session checks: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is stored and run."""

    users: int
    sessions: int
    runs: int
    seconds: float
    warm_up_seconds: float
    settle_seconds: float


FULL = Size(
    users=10_000, sessions=100_000, runs=3, seconds=8.0, warm_up_seconds=120.0, settle_seconds=30.0
)
QUICK = Size(
    users=100, sessions=1_000, runs=1, seconds=1.5, warm_up_seconds=3.0, settle_seconds=1.0
)


@dataclass(slots=True)
class Row:
    """One kind of load, and its results, one per run."""

    name: str
    server: Server
    concurrency: tuple[int, int]
    sessions: Path
    results: list[LoadResult] = field(default_factory=list)

    def label(self) -> str:
        """The name with the connections and the calls in flight on each."""
        return f"{self.name}, {self.concurrency[0]} x {self.concurrency[1]}"

    def cells(self) -> list[str]:
        """The medians, the rate with its range."""
        return [
            self.label(),
            spread([one.rate for one in self.results]),
            *(
                f"{statistics.median(values):,.{digits}f}"
                for values, digits in (
                    ([one.p50_us for one in self.results], 0),
                    ([one.p99_us for one in self.results], 0),
                    ([one.server_us for one in self.results], 1),
                    ([one.postgres_us for one in self.results], 1),
                    ([one.generator_us for one in self.results], 1),
                )
            ),
        ]


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of ValidateSession to another row of the same run, and its bound."""

    name: str
    of: str
    to: str
    read: Callable[[LoadResult], float]
    bound: float
    at_least: bool

    def ratios(self, rows: dict[str, Row]) -> list[float]:
        """One per run; none when the other row was skipped."""
        if self.to not in rows:
            return []
        pairs = zip(rows[self.of].results, rows[self.to].results, strict=True)
        return [self.read(one) / self.read(other) for one, other in pairs]

    def met(self, rows: dict[str, Row]) -> bool | None:
        """Whether the median keeps the bound; None when the other row was skipped."""
        ratios = self.ratios(rows)
        if not ratios:
            return None
        median = statistics.median(ratios)
        return median >= self.bound if self.at_least else median <= self.bound

    def cells(self, rows: dict[str, Row]) -> list[str]:
        """The name, the ratio with its range, the bound and the word for it."""
        word = {True: "met", False: "missed", None: "skipped"}[self.met(rows)]
        ratios = self.ratios(rows)
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:g}"
        return [self.name, spread(ratios, 3) if ratios else "", bound, word]


TARGETS = (
    Target("calls/s to grpc.aio echo", "check", "aio", lambda r: r.rate, 10.0, at_least=True),
    Target("calls/s to Redis GET", "check", "redis", lambda r: r.rate, 0.7, at_least=True),
    Target("calls/s to tonic echo", "check", "tonic", lambda r: r.rate, 0.75, at_least=True),
    Target(
        "tokens/s of batches to single",
        "batch",
        "check",
        lambda r: r.tokens_rate,
        5.0,
        at_least=True,
    ),
    Target(
        "CPU passed on to without gate",
        "passed on",
        "direct",
        lambda r: r.server_us,
        1.3,
        at_least=False,
    ),
    Target("CPU to tonic echo", "check", "tonic", lambda r: r.server_us, 1.5, at_least=False),
    Target(
        "p50 to tonic echo, 1 x 1", "check 1", "tonic 1", lambda r: r.p50_us, 1.2, at_least=False
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows by their keys, and what they are of."""

    rows: dict[str, Row]
    postgres_version: str
    answer_bytes: int


def measure(
    size: Size, ready: dict[str, Any], direct: dict[str, Any], cores: Cores, folder: Path
) -> Measured:
    """Makes the sessions, validates each once, then loads every server in turn.

    `direct` is a server without the gate.
    """
    sessions = folder / "sessions"
    _tell(f"storing {size.sessions:,} sessions of {size.users:,} users")
    made = make_sessions(ready, users=size.users, sessions=size.sessions, file=sessions)
    version = asyncio.run(made)
    check = _grpc(ready, ready["pid"], ready["api"], VALIDATE, "user")
    cores.give_to_server(check.pid)
    _tell("validating each session once")
    warm = run_load(
        check,
        sessions,
        (16, 16),
        seconds=size.warm_up_seconds,
        calls_max=size.sessions,
        draw="sequence",
    )
    if warm.calls < size.sessions:
        _tell(f"validated only {warm.calls:,} within {size.warm_up_seconds:g} s")
    answer_bytes = round(warm.answer_bytes)
    forged = folder / "forged"
    forged.write_text(_forged(sessions.read_text()))
    with _all_rows(size, ready, check, sessions, answer_bytes) as rows:
        for key, name, server in (
            ("passed on", "", ready),
            ("direct", " without the gate", direct),
        ):
            revoke = _grpc(server, server["pid"], server["api"], PASSED_ON, {"bytes": 0})
            rows[key] = Row(f"Revoke{name}, nothing to revoke", revoke, (16, 4), forged)
        for row in rows.values():
            cores.give_to_server(row.server.pid)
        for number, row in _turns(size, rows):
            _tell(f"run {number + 1} of {size.runs}: {row.label()}")
            if row.server.has_postgres:
                # While others were loaded, all that was known has become too old.
                run_load(check, sessions, (16, 16), seconds=size.settle_seconds)
            run_load(row.server, row.sessions, row.concurrency, seconds=size.seconds / 8)
            result = run_load(row.server, row.sessions, row.concurrency, seconds=size.seconds)
            row.results.append(result)
    return Measured(rows, version, answer_bytes)


@contextmanager
def _all_rows(
    size: Size, ready: dict[str, Any], check: Server, sessions: Path, answer_bytes: int
) -> Iterator[dict[str, Row]]:
    """Starts the servers to compare with; all rows but that of a Redis that is not installed."""
    with (
        echo_server(sys.executable, "--response-bytes", str(answer_bytes)) as aio_facts,
        tonic_echo(answer_bytes) as tonic_facts,
        redis_server(size.sessions) as redis,
    ):
        aio, tonic = [
            _grpc(ready, it["pid"], f"127.0.0.1:{it['port']}", ECHO, {"bytes": answer_bytes})
            for it in (aio_facts, tonic_facts)
        ]
        batch = replace(_grpc(ready, ready["pid"], ready["api"], BATCH, "users"), batch=BATCH_SIZE)
        # What is compared stands together: the machine's other guests come and go.
        rows = {
            "batch": Row(f"BatchValidateSessions of {BATCH_SIZE}", batch, (16, 1), sessions),
            "check": Row("ValidateSession", check, (16, 16), sessions),
        }
        if redis is not None:
            rows["redis"] = Row(REDIS, redis, REDIS_LOAD, sessions)
        rows |= {
            "tonic": Row("bare tonic echo", tonic, (16, 16), sessions),
            "aio": Row("bare grpc.aio echo", aio, (16, 16), sessions),
            "check 1": Row("ValidateSession", check, (1, 1), sessions),
            "tonic 1": Row("bare tonic echo", tonic, (1, 1), sessions),
        }
        yield rows


def _grpc(ready: dict[str, Any], pid: int, target: str, method: str, expect: object) -> Server:
    """A server of gRPC; all get the same requests with the same credentials."""
    call = grpc_call(ready, method, expect)
    return Server(pid=pid, target=target, call=call, has_postgres=method in (VALIDATE, BATCH))


def _forged(lines: str) -> str:
    """The same tokens with another tag."""
    parts = [line.split() for line in lines.splitlines()]
    return "".join(
        f"{token[:-5]}{'B' if token[-5] == 'A' else 'A'}{token[-4:]} {user}\n"
        for token, user in parts
    )


def _turns(size: Size, rows: dict[str, Row]) -> Iterator[tuple[int, Row]]:
    """Every other run backwards, so that a machine that slows down does so for all."""
    for number in range(size.runs):
        for row in list(rows.values())[:: 1 if number % 2 == 0 else -1]:
            yield number, row


def report(measured: Measured, size: Size) -> str:
    """Returns the facts and the two tables."""
    rows = measured.rows
    lines = [row.cells() for row in rows.values()]
    if "redis" not in rows:
        lines.append([f"{REDIS}, {REDIS_LOAD[0]} x {REDIS_LOAD[1]}", "skipped", "", "", "", "", ""])
    cpu = [f"{whose} CPU µs" for whose in ("server", "PostgreSQL", "generator")]
    head = ["connections x in flight", "calls/s", "p50 µs", "p99 µs", *cpu]
    about = (
        f"{facts(measured.postgres_version)}. Load average at the end: {os.getloadavg()[0]:.1f}. "
        f"{size.sessions:,} sessions of {size.users:,} users, answers of {measured.answer_bytes} "
        f"bytes; median of {size.runs} runs of {size.seconds:g} s (min–max)."
    )
    return "\n".join(
        [
            textwrap.fill(about, 100),
            "",
            table(head, lines),
            "",
            *_shed(rows),
            table(
                ["ratio of ValidateSession", "median", "target", "result"],
                [target.cells(rows) for target in TARGETS],
            ),
        ]
    )


def _shed(rows: dict[str, Row]) -> Iterator[str]:
    for row in rows.values():
        calls = sum(one.calls for one in row.results)
        shed = sum(one.shed for one in row.results)
        if shed:
            yield f"{row.label()}: {shed:,} of {calls:,} calls were shed (RESOURCE_EXHAUSTED)."
            yield ""


def write(text: str) -> None:
    """Puts the report between the markers of README.md."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ProcessFailed(f"{README.name} has no `{BEGIN}` and `{END}`")
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    """Measures, prints the tables and says by the exit code whether all targets are met."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.session_checks", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="one short run: does it work?")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    try:
        build()
        cores = Cores.take()
        with (
            watchword_server() as ready,
            watchword_server(GATE__ENABLED="false") as direct,
            tempfile.TemporaryDirectory() as folder,
        ):
            measured = measure(size, ready, direct, cores, Path(folder))
        text = report(measured, size)
        print(text)
        if options.write:
            write(text)
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    if "redis" not in measured.rows:
        _tell("`redis-server` was not found\nhint: on Debian: apt-get install redis-server")
    if any(target.met(measured.rows) is False for target in TARGETS):
        sys.exit(1)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
