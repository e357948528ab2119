"""`python -m benchmarks.many_sessions`: what a hit costs when the cache knows a million sessions.

ValidateSession of 1,000 sessions of 100 users and of 1,000,000 sessions of 100,000 users, drawn
evenly, each of them known when the load begins (gate_server.py). The gate has one core, the
generator the other. Exits with 1 when a hit of the many takes more than 1.5 times the CPU time of a
hit of the few.
"""

import argparse
import math
import statistics
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from benchmarks.processes import ProcessFailed, serving
from benchmarks.rust_load import Cores, LoadResult, Server, build, grpc_call, run_load
from benchmarks.session_checks import VALIDATE
from benchmarks.table import spread, table

FEW, MANY = (1_000, 100), (1_000_000, 100_000)
RATIO_MAX = 1.5
RUNS, SECONDS, WARM_UP_SECONDS = 3, 5.0, 1.0
# What the cache has read is good for a minute: so long may reading and load take together.
MAX_AGE_SECONDS, FILL_SECONDS = 61.0, 50.0
LOAD = (16, 16)


@dataclass(slots=True)
class Known:
    """A gate that knows so many sessions, and what its runs measured."""

    sessions: int
    ready: dict[str, Any]
    file: Path
    results: list[LoadResult] = field(default_factory=list)
    read_until: float = -math.inf

    def see_all(self) -> None:
        """Lets the gate read every session and see it in use: of a token that is new it makes the
        MAC, once.
        """
        self._read_all()
        self._load(FILL_SECONDS, calls_max=self.sessions, draw="sequence")
        self.read_until = time.monotonic()

    def measure(self) -> None:
        """Lets the gate read every session, and loads it with hits alone."""
        self._read_all()
        self._load(WARM_UP_SECONDS)
        before = self._reads()
        result = self._load(SECONDS)
        if missed := self._reads() - before:
            raise ProcessFailed(f"{missed:,} of {result.calls:,} checks were no hits")
        self.results.append(result)

    def _read_all(self) -> None:
        # What was read before is to be read again, not to become too old under the load.
        time.sleep(max(0.0, self.read_until + MAX_AGE_SECONDS - time.monotonic()))
        began = time.monotonic()
        calls = self._load(FILL_SECONDS, calls_max=self.sessions, draw="sequence").calls
        self.read_until = time.monotonic()
        if calls < self.sessions:
            took = self.read_until - began
            raise ProcessFailed(f"only {calls:,} sessions were read in {took:.0f} s")

    def _load(self, seconds: float, **options: Any) -> LoadResult:
        call = grpc_call(self.ready, VALIDATE, "user")
        server = Server(pid=self.ready["pid"], target=self.ready["api"], call=call)
        return run_load(server, self.file, LOAD, seconds=seconds, **options)

    def _reads(self) -> int:
        return int(Path(self.ready["reads"]).read_text())

    def cells(self) -> list[str]:
        """The number, the CPU time of a hit and the calls a second."""
        hit, rate = [one.server_us for one in self.results], [one.rate for one in self.results]
        return [f"{self.sessions:,}", spread(hit, 2), spread(rate)]


def measure(sizes: list[tuple[int, int]], runs: int) -> list[Known]:
    """Measures gates that know so many sessions of so many users, in turn."""
    build()
    cores = Cores.take()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gates = []
        for sessions, users in sizes:
            file = folder / f"sessions-{sessions}"
            program = [sys.executable, "-m", "benchmarks.gate_server"]
            ready = stack.enter_context(serving([*program, str(sessions), str(users), file]))
            cores.give_to_server(ready["pid"])
            gates.append(Known(sessions, ready, file))
        for gate in gates:
            gate.see_all()
        for run in range(runs):
            for gate in gates:
                print(f"run {run + 1} of {runs}: {gate.sessions:,}", file=sys.stderr, flush=True)
                gate.measure()
        return gates


def main() -> None:
    """Measures, prints the table, and says by the exit code whether the bound is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_sessions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 once: does it work?")
    quick = parser.parse_args().quick
    try:
        few, many = measure([FEW, (100_000, 10_000) if quick else MANY], 1 if quick else RUNS)
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    pairs = zip(many.results, few.results, strict=True)
    ratios = [one.server_us / other.server_us for one, other in pairs]
    print(
        textwrap.fill(f"{facts()}. Median of {len(ratios)} runs of {SECONDS:g} s (min–max).", 100)
    )
    head = ["sessions", "server CPU µs a hit", "calls/s"]
    print("", table(head, [few.cells(), many.cells()]), "", sep="\n")
    print(f"many to few: {spread(ratios, 2)}, at most {RATIO_MAX:g}")
    if statistics.median(ratios) > RATIO_MAX:
        sys.exit("missed")


if __name__ == "__main__":
    main()
