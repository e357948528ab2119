"""`python -m benchmarks [--quick]`: sign-ins, and ValidateSession against a bare echo server.

Run from the repository root. Everything is started here, listens on loopback or a unix socket, and
is gone afterwards.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load_calls import CallResult
from benchmarks.load_sign_ins import SignInResult
from benchmarks.machine import facts
from benchmarks.measurements import FULL, QUICK, Measurements, Row
from benchmarks.processes import ProcessFailed, watchword_server
from benchmarks.table import spread, table


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: its values of each run, and how their median is written."""

    name: str
    values: Callable[[Row], Sequence[float]]
    digits: int
    with_range: bool = False

    def cell(self, row: Row) -> str:
        values = self.values(row)
        if self.with_range and len(values) > 1:
            return spread(values, self.digits)
        return f"{statistics.median(values):,.{self.digits}f}"


def _of_sign_ins(read: Callable[[SignInResult], float]) -> Callable[[Row], Sequence[float]]:
    return lambda row: [read(result) for result in row.sign_ins]


def _of_validations(read: Callable[[CallResult], float]) -> Callable[[Row], Sequence[float]]:
    return lambda row: [read(result) for result in row.validations]


def _of_echoes(read: Callable[[CallResult], float]) -> Callable[[Row], Sequence[float]]:
    return lambda row: [read(result) for result in row.echoes]


def _ratio(read: Callable[[CallResult], float]) -> Callable[[Row], Sequence[float]]:
    """Of the two loads of one run: what slowed one down slowed the other down as well."""
    return lambda row: [
        read(validation) / read(echo)
        for validation, echo in zip(row.validations, row.echoes, strict=True)
    ]


LINES = (
    Line("sign-ins/s", _of_sign_ins(lambda r: r.sign_ins_per_second), 0, with_range=True),
    Line("- p50 ms", _of_sign_ins(lambda r: r.p50_ms), 1),
    Line("- p99 ms", _of_sign_ins(lambda r: r.p99_ms), 1),
    Line("- wait for the mail, p50 ms", _of_sign_ins(lambda r: r.mail_p50_ms), 1),
    Line("- mails sent", _of_sign_ins(lambda r: r.mails), 2),
    Line("- server CPU ms", _of_sign_ins(lambda r: r.server_ms), 2),
    Line("- PostgreSQL CPU ms", _of_sign_ins(lambda r: r.postgres_ms), 2),
    Line("ValidateSession/s", _of_validations(lambda r: r.calls_per_second), 0, with_range=True),
    Line("- p50 ms", _of_validations(lambda r: r.p50_ms), 2),
    Line("- p99 ms", _of_validations(lambda r: r.p99_ms), 2),
    Line("- server CPU µs", _of_validations(lambda r: r.server_us), 0),
    Line("- PostgreSQL CPU µs", _of_validations(lambda r: r.postgres_us), 0),
    Line("echo/s", _of_echoes(lambda r: r.calls_per_second), 0, with_range=True),
    Line("- p50 ms", _of_echoes(lambda r: r.p50_ms), 2),
    Line("- p99 ms", _of_echoes(lambda r: r.p99_ms), 2),
    Line("- server CPU µs", _of_echoes(lambda r: r.server_us), 0),
    Line("- client CPU µs", _of_echoes(lambda r: r.client_us), 0),
    Line("RATIO of calls/s", _ratio(lambda r: r.calls_per_second), 2, with_range=True),
    Line("RATIO of server CPU", _ratio(lambda r: r.server_us), 2, with_range=True),
)


def report(measured: Measurements, runs: int) -> str:
    """Returns the facts, the table and how to read it."""
    rows = [[line.name, *map(line.cell, measured.rows.values())] for line in LINES]
    head = ["", *(f"{concurrency} at once" for concurrency in measured.rows)]
    return "\n".join(
        [
            facts(measured.postgres_version),
            f"median of {runs} runs (min–max); ValidateSession and echo carry "
            f"{measured.request_bytes} bytes there and {measured.response_bytes} back",
            "",
            table(head, rows),
            "",
            "RATIO is ValidateSession to echo. The ratios count, not the absolute times: those are",
            "this machine's, with load generator, server and PostgreSQL on the same cores.",
        ]
    )


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run: does it work?")
    size = QUICK if parser.parse_args().quick else FULL
    try:
        with watchword_server() as ready:
            measured = Measurements(size, ready)
            measured.run()
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    print(report(measured, size.runs))


if __name__ == "__main__":
    main()
