"""`python -m benchmarks.overload [--quick]`: what is left of the service when too much is asked.

GetRoles by user id, which Python answers with two statements. A closed loop finds the peak; then an
open loop asks for five times as much, then one for half of the peak; all that in turn, several
times. Exits with 1 when, by the medians, less than 80 % of the peak is answered under overload, the
refusals' p99 is above 50 ms or an answer takes more than four times as long (p99), and when half
the load is not answered in full each time.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
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
TURNS = 5
# As a client that waits no longer than a person would.
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One load and the generator's result of it."""

    asked: float
    result: dict[str, Any]

    @property
    def goodput(self) -> float:
        """Answers a second."""
        rate: float = self.result["ok_rate"]
        return rate

    def p99_ms(self, kind: str) -> float:
        """The p99 of `ok_us`, `refused_us` or `send_lag_us` in milliseconds, 0 without any."""
        latencies = self.result[kind]
        return 0.0 if latencies is None else latencies["p99"] / 1000


@dataclass(frozen=True, slots=True)
class Turn:
    """The peak, and how much is left of it under more than that and under less."""

    peak: Phase
    over: Phase
    half: Phase

    @property
    def share(self) -> float:
        """Answers a second under overload, of the peak's."""
        return self.over.goodput / self.peak.goodput

    @property
    def slower(self) -> float:
        """How many times as long an answer takes under overload (p99)."""
        return self.over.p99_ms("ok_us") / self.peak.p99_ms("ok_us")


HEAD = ["load", "asked/s", "answered/s", "OK", "RESOURCE_EXHAUSTED", "others"]
HEAD += ["OK p99 ms", "refused p99 ms", "generator late p99 ms"]


def row(name: str, phases: Sequence[Phase]) -> list[str]:
    """The medians of a load, and the sums of its answers."""
    statuses: Counter[str] = Counter()
    for phase in phases:
        statuses.update(phase.result["statuses"])
    ok, shed = statuses.pop("0", 0), statuses.pop(SHED, 0)

    def median(figure: Callable[[Phase], float], form: str) -> str:
        return format(statistics.median(map(figure, phases)), form)

    def p99_ms(kind: str) -> str:
        return median(lambda phase: phase.p99_ms(kind), ",.1f")

    return [
        name,
        median(lambda it: it.asked, ",.0f"),
        median(lambda it: it.goodput, ",.0f"),
        f"{ok:,}",
        f"{shed:,}",
        ", ".join(f"{status}: {count:,}" for status, count in statuses.items()) or "0",
        *(p99_ms(kind) for kind in ("ok_us", "refused_us", "send_lag_us")),
    ]


def measure(server: Server, sessions: Path, seconds: float) -> list[Turn]:
    """Runs all turns, each load of them for so many seconds, after a warm-up."""

    def run(load: dict[str, Any], seconds: float) -> dict[str, Any]:
        return run_job(
            server,
            sessions,
            load=load,
            connections=CONNECTIONS,
            seconds=seconds,
            timeout_seconds=TIMEOUT_SECONDS,
        )

    def closed() -> Phase:
        result = run({"closed": {"in_flight": PEAK_IN_FLIGHT}}, seconds)
        return Phase(result["ok_rate"], result)

    def open_loop(rate: float) -> Phase:
        # What is asked is over before the next load, whether or not it is answered.
        return Phase(rate, run({"open": {"rate": rate, "arrivals": "poisson"}}, seconds))

    closed()
    turns = []
    for number in range(TURNS):
        print(f"turn {number + 1} of {TURNS} ...", file=sys.stderr, flush=True)
        peak = closed()
        turns.append(Turn(peak, open_loop(OVERLOAD * peak.goodput), open_loop(0.5 * peak.goodput)))
    return turns


def missed(turns: Sequence[Turn]) -> list[str]:
    """Says which bounds were not kept."""
    found = []
    share = statistics.median(turn.share for turn in turns)
    if share < GOODPUT_MIN:
        found.append(f"goodput is {share:.2f} of the peak")
    refused = statistics.median(turn.over.p99_ms("refused_us") for turn in turns)
    if refused > REFUSED_P99_MS_MAX:
        found.append(f"a refusal takes {refused:.0f} ms (p99)")
    slower = statistics.median(turn.slower for turn in turns)
    if slower > ADMITTED_P99_RATIO_MAX:
        found.append(f"an answer takes {slower:.1f} times as long (p99)")
    others = [statuses for turn in turns if set(statuses := turn.half.result["statuses"]) != {"0"}]
    if others:
        found.append(f"not all is answered afterwards: {others}")
    return found


def main() -> None:
    """Measures, prints the tables and says by the exit code whether the bounds are kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 s each: does it work?")
    seconds = 1.0 if parser.parse_args().quick else 6.0
    try:
        build()
        cores = Cores.take()
        with (
            watchword_server() as ready,
            tempfile.TemporaryDirectory() as folder,
        ):
            sessions, users = Path(folder, "sessions"), Path(folder, "users")
            made = make_sessions(ready, users=USERS, sessions=SESSIONS, file=sessions)
            print(
                textwrap.fill(f"{facts(asyncio.run(made))}. {TURNS} turns of {seconds:g} s each.")
            )
            ids = [line.split()[1] for line in sessions.read_text().splitlines()]
            users.write_text("".join(f"{id} {id}\n" for id in ids))
            call = grpc_call(ready, ROLES, "roles")
            server = Server(pid=ready["pid"], target=ready["api"], call=call)
            cores.give_to_server(server.pid)
            turns = measure(server, users, seconds)
            rows = [
                row("peak, closed loop", [turn.peak for turn in turns]),
                row("overload", [turn.over for turn in turns]),
                row("half of the peak", [turn.half for turn in turns]),
            ]
            print("", f"GetRoles, {CONNECTIONS} connections:", "", table(HEAD, rows), sep="\n")
            low, *_, high = shares = sorted(turn.share for turn in turns)
            share = f"{statistics.median(shares):.2f} ({low:.2f} to {high:.2f})"
            print(f"\nGoodput under overload, of the peak of its turn: {share}.")
            found = missed(turns)
    except ProcessFailed as error:
        sys.exit(f"error: {error}")
    if found:
        sys.exit("missed: " + "; ".join(found))


if __name__ == "__main__":
    main()
