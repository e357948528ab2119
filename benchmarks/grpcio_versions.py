"""Compares grpcio versions: server CPU per unary echo call, one interpreter (venv) each.

    python -m benchmarks.grpcio_versions --python VENV1/bin/python VENV2/bin/python ...

The client is the interpreter that runs this, the same for all. The versions take turns, every
other round backwards, and CPU time is compared, so that load beside them shifts all alike.
"""

import argparse
import base64
import os
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass

import grpc

from benchmarks.echo_server import METHOD, SERVICE
from benchmarks.load_calls import CallJob, CallResult
from benchmarks.processes import echo_server, load_calls
from benchmarks.table import spread, table

REQUEST_BYTES, RESPONSE_BYTES = 128, 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the echo server."""

    python: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one candidate, and what its server says it is."""

    label: str
    result: CallResult


def measure(candidate: Candidate, *, calls: int, concurrency: int) -> Sample:
    """Starts the server, calls it and stops it."""
    options = ("--response-bytes", str(RESPONSE_BYTES), *candidate.options)
    with echo_server(candidate.python, *options) as server:
        job = CallJob(
            target=f"127.0.0.1:{server['port']}",
            method=f"/{SERVICE}/{METHOD}",
            requests=[base64.b64encode(os.urandom(REQUEST_BYTES)).decode()],
            authorization="Bearer benchmark",
            server_pid=server["pid"],
            has_postgres=False,
            concurrency=concurrency,
            count=calls,
            warm_up=calls // 20,
            seconds_max=120.0,
        )
        result = load_calls(job)
    if result.calls < calls:
        print(f"note: only {result.calls} of {calls} calls in the time allowed")
    loop = "uvloop" if server["loop"] == "uvloop" else "asyncio"
    registered = "--registered" in candidate.options
    methods = f"{candidate.options[-1]} registered beside" if registered else "generic only"
    return Sample(f"{server['grpcio']}, {loop}, {methods}", result)


def candidates(options: argparse.Namespace) -> list[Candidate]:
    """Returns what is to be compared: each interpreter, and the variants that were asked for."""
    found = [Candidate(python, ()) for python in options.python]
    if options.registered:
        more = ("--registered", str(options.registered))
        found += [Candidate(python, more) for python in options.python]
    found += [Candidate(python, ("--uvloop",)) for python in options.uvloop]
    return found


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", required=True, help="interpreters with a grpcio")
    parser.add_argument(
        "--uvloop", nargs="*", default=[], help="interpreters to measure on uvloop too"
    )
    parser.add_argument("--registered", type=int, default=0, help="idle registered methods, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=20_000, help="calls of each run")
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()

    samples: dict[str, list[CallResult]] = defaultdict(list)
    order = candidates(options)
    for number in range(options.rounds):
        for candidate in order if number % 2 == 0 else reversed(order):
            sample = measure(candidate, calls=options.calls, concurrency=options.concurrency)
            samples[sample.label].append(sample.result)
            told = f"run {number + 1}: {sample.label}: {sample.result.server_us:.0f} µs"
            print(told, file=sys.stderr, flush=True)
    first = next(iter(samples.values()))
    base = statistics.median(run.server_us for run in first)
    rows = [
        [
            label,
            spread([run.server_us for run in runs]),
            f"{statistics.median(run.server_us for run in runs) / base:.2f}",
            spread([run.client_us for run in runs]),
            spread([run.calls_per_second for run in runs]),
        ]
        for label, runs in samples.items()
    ]
    print(
        f"{options.rounds} runs of {options.calls} calls at concurrency {options.concurrency}, "
        f"client grpcio {grpc.__version__}; median (min–max)\n"
    )
    head = ["server", "server CPU µs/call", "ratio", "client CPU µs/call", "calls/s"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
