"""`python -m benchmarks.overload [--quick]`: what is left of the service when too much is asked.

GetRoles by user id, which Python answers with two statements. A closed loop finds the peak; then an
open loop asks for five times as much, then one for half of the peak. Exits with 1 when less than
80 % of the peak is answered under overload, when the refusals' p99 is above 50 ms, when an answer
takes more than four times as long (p99), or when half the load is not answered in full.
"""

import argparse
import asyncio
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from benchmarks.made_sessions import make_sessions
from benchmarks.processes import ProcessFailed, watchword_server
from benchmarks.rust_load import SHED, Cores, Server, build, grpc_call, run_job
from benchmarks.table import table

SESSIONS, USERS = 10_000, 1_000
CONNECTIONS, PEAK_IN_FLIGHT = 64, 1
ROLES = "/watchword.v1.AuthService/GetRoles"
OVERLOAD = 5.0
GOODPUT_MIN = 0.8
REFUSED_P99_MS_MAX = 50.0
ADMITTED_P99_RATIO_MAX = 4.0
RECOVERY_SECONDS = 5.0
# As a client that waits no longer than a person would.
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One load and the generator's result of it."""

    name: str
    asked: float | None
    result: dict[str, Any]

    @property
    def goodput(self) -> float:
        """Answers a second."""
        rate: float = self.result["ok_rate"]
        return rate

    def ms(self, kind: str, quantile: str) -> float | None:
        """A quantile of `ok_us`, `refused_us` or `send_lag_us` in milliseconds."""
        latencies = self.result[kind]
        return None if latencies is None else latencies[quantile] / 1000

    def cells(self, peak: float) -> list[str]:
        """A row of the table."""
        statuses = dict(self.result["statuses"])
        ok, shed = statuses.pop("0", 0), statuses.pop(SHED, 0)
        times = [self.ms("ok_us", "p99"), self.ms("refused_us", "p99")]
        return [
            self.name,
            "" if self.asked is None else f"{self.asked:,.0f}",
            f"{self.goodput:,.0f}",
            f"{self.goodput / peak:.2f}",
            f"{ok:,}",
            f"{shed:,}",
            ", ".join(f"{status}: {count:,}" for status, count in statuses.items()) or "0",
            *("" if time is None else f"{time:,.1f}" for time in times),
            "" if self.asked is None else f"{self.ms('send_lag_us', 'p99') or 0:,.1f}",
        ]


HEAD = ["load", "asked/s", "answered/s", "of the peak", "OK", "RESOURCE_EXHAUSTED", "others"]
HEAD += ["OK p99 ms", "refused p99 ms", "generator late p99 ms"]


def measure(server: Server, sessions: Path, seconds: float) -> list[Phase]:
    """Runs the phases: warm-up, peak, overload, half of the peak after a pause."""

    def run(name: str, load: dict[str, Any], seconds: float) -> Phase:
        print(f"{name} ...", file=sys.stderr, flush=True)
        result = run_job(
            server,
            sessions,
            load=load,
            connections=CONNECTIONS,
            seconds=seconds,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        return Phase(name, load.get("open", {}).get("rate"), result)

    def open_loop(rate: float) -> dict[str, Any]:
        return {"open": {"rate": rate, "arrivals": "poisson"}}

    closed = {"closed": {"in_flight": PEAK_IN_FLIGHT}}
    run("warm-up", closed, seconds / 4)
    peak = run("peak, closed loop", closed, seconds)
    over = run("overload", open_loop(OVERLOAD * peak.goodput), seconds)
    # What was asked is over by then, whether or not it was answered.
    after = run("half of the peak", open_loop(0.5 * peak.goodput), seconds)
    return [peak, over, after]


def missed(phases: list[Phase]) -> list[str]:
    """Says which bounds were not kept."""
    peak, over, after = phases
    found = []
    if over.goodput < GOODPUT_MIN * peak.goodput:
        found.append(f"goodput is {over.goodput / peak.goodput:.2f} of the peak")
    refused = over.ms("refused_us", "p99")
    if refused is not None and refused > REFUSED_P99_MS_MAX:
        found.append(f"a refusal takes {refused:.0f} ms (p99)")
    admitted, usual = over.ms("ok_us", "p99"), peak.ms("ok_us", "p99")
    if admitted and usual and admitted > ADMITTED_P99_RATIO_MAX * usual:
        found.append(f"an answer takes {admitted / usual:.1f} times as long (p99)")
    if set(after.result["statuses"]) != {"0"}:
        found.append(f"not all is answered afterwards: {after.result['statuses']}")
    return found


def main() -> None:
    """Measures, prints the tables and says by the exit code whether the bounds are kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 s each: does it work?")
    seconds = 2.0 if parser.parse_args().quick else 15.0
    try:
        build()
        cores = Cores.take()
        with (
            watchword_server() as ready,
            tempfile.TemporaryDirectory() as folder,
        ):
            sessions, users = Path(folder, "sessions"), Path(folder, "users")
            made = make_sessions(ready, users=USERS, sessions=SESSIONS, file=sessions)
            print(textwrap.fill(f"{facts(asyncio.run(made))}. {seconds:g} s each.", 100))
            ids = [line.split()[1] for line in sessions.read_text().splitlines()]
            users.write_text("".join(f"{id} {id}\n" for id in ids))
            call = grpc_call(ready, ROLES, "roles")
            server = Server(pid=ready["pid"], target=ready["api"], call=call)
            cores.give_to_server(server.pid)
            phases = measure(server, users, seconds)
            rows = [phase.cells(phases[0].goodput) for phase in phases]
            print("", f"GetRoles, {CONNECTIONS} connections:", "", table(HEAD, rows), sep="\n")
            found = missed(phases)
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    if found:
        sys.exit("missed: " + "; ".join(found))


if __name__ == "__main__":
    main()
