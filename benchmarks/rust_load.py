"""benchmarks/load at work: built, run on one core, and the servers to compare with on the other."""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cpu import child_named, family_seconds, process_seconds
from benchmarks.processes import ProcessFailed, serving

MANIFEST = Path(__file__).with_name("load") / "Cargo.toml"
TARGET = Path(__file__).parents[1] / "target" / "load"
PROGRAM = TARGET / "release" / "watchword-load"
REDIS_SECONDS = 10.0
# RESOURCE_EXHAUSTED: a server that halted sheds a few of the calls that wait.
SHED = "8"
SHED_SHARE_MAX = 0.01
# Beyond what the job itself may take.
SLACK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """One for the server under load, one for everything else."""

    server: int
    load: int

    @classmethod
    def take(cls) -> "Cores":
        """Chooses two and puts this process, and so whatever it starts, on the one of the load."""
        free = sorted(os.sched_getaffinity(0))
        if len(free) < 2:
            raise ProcessFailed("two cores are needed\nhint: give this process a second one")
        # The first and the last: neighbours can be two threads of one core.
        cores = cls(server=free[0], load=free[-1])
        os.sched_setaffinity(0, {cores.load})
        return cores

    def give_to_server(self, pid: int) -> None:
        """Moves all threads of a process; those that it starts later inherit the core."""
        moved: set[int] = set()
        # Again, as long as a thread that was not moved yet may have started another.
        while new := {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()} - moved:
            for thread in new:
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, {self.server})
            moved |= new


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A process under load; `call` is what the generator's job says of it (load/src/job.rs).

    `batch` is how many tokens each call carries.
    """

    pid: int
    target: str
    call: dict[str, Any]
    has_postgres: bool = False
    batch: int = 1


def grpc_call(ready: dict[str, Any], method: str, expect: object) -> dict[str, Any]:
    """Returns what a job says of calls by the caller of an installation (its ready file)."""
    authorization = f"Bearer {ready['service_key']}"
    return {"grpc": {"method": method, "authorization": authorization, "expect": expect}}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What one run measured: answers a second, their latencies, and CPU time a call.

    `tokens_rate` is the tokens of these answers; `calls` are all, `shed` those that were refused
    with RESOURCE_EXHAUSTED.
    """

    calls: int
    shed: int
    rate: float
    tokens_rate: float
    p50_us: float
    p99_us: float
    server_us: float
    postgres_us: float
    generator_us: float
    answer_bytes: float


def build() -> None:
    """Builds the generator for release; cargo says itself what it does."""
    command = ["cargo", "build", "--quiet", "--release", "--locked"]
    places = ["--manifest-path", str(MANIFEST), "--target-dir", str(TARGET)]
    if subprocess.run([*command, *places], check=False).returncode != 0:
        raise ProcessFailed("the load generator could not be built")


def run_load(
    server: Server,
    sessions: Path,
    concurrency: tuple[int, int],
    *,
    seconds: float,
    calls_max: int | None = None,
    draw: str = "uniform",
) -> LoadResult:
    """Runs a closed loop; `concurrency` is connections and calls in flight on each.

    Any wrong answer raises ProcessFailed, and so do more than 1 % shed or any other status.
    """
    connections, in_flight = concurrency
    postgres = child_named(server.pid, "postgres") if server.has_postgres else None

    def cpu() -> tuple[float, float, float]:
        database = 0.0 if postgres is None else family_seconds(postgres)
        # The one child that ends in between is the generator.
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return process_seconds(server.pid), database, ended.ru_utime + ended.ru_stime

    before = cpu()
    result = run_job(
        server,
        sessions,
        load={"closed": {"in_flight": in_flight}},
        connections=connections,
        seconds=seconds,
        calls_max=calls_max,
        draw=draw,
    )
    after = cpu()
    calls = result["calls"]
    shed = result["statuses"].pop(SHED, 0)
    if result["statuses"] != {"0": calls - shed} or shed > calls * SHED_SHARE_MAX:
        raise ProcessFailed(f"not OK: {result['statuses']} by grpc-status, and {shed} shed")
    used = [(b - a) / calls * 1e6 for a, b in zip(before, after, strict=True)]
    return LoadResult(
        calls=calls,
        shed=shed,
        rate=result["ok_rate"],
        tokens_rate=result["ok_rate"] * server.batch,
        p50_us=result["ok_us"]["p50"],
        p99_us=result["ok_us"]["p99"],
        server_us=used[0],
        postgres_us=used[1],
        generator_us=used[2],
        answer_bytes=result["answer_bytes"],
    )


def run_job(
    server: Server,
    sessions: Path,
    *,
    load: dict[str, Any],
    connections: int,
    seconds: float,
    timeout_seconds: float = 20.0,
    calls_max: int | None = None,
    draw: str | dict[str, float] = "uniform",
) -> dict[str, Any]:
    """Runs the generator and returns what it prints; any wrong answer raises ProcessFailed."""
    job = {
        "targets": [server.target],
        "sessions": str(sessions),
        "call": server.call,
        "load": load,
        "draw": draw,
        "connections": connections,
        "seconds": seconds,
        "timeout_seconds": timeout_seconds,
        "seed": 1,
        "batch": server.batch,
    }
    if calls_max is not None:
        job["calls_max"] = calls_max
    result: dict[str, Any] = json.loads(_ran(["run"], json.dumps(job), seconds))
    return result


@contextlib.contextmanager
def tonic_echo(answer_bytes: int) -> Iterator[dict[str, Any]]:
    """Runs the bare tonic server and yields its {pid, port}."""
    with serving([PROGRAM, "echo", str(answer_bytes)]) as facts:
        yield facts


@contextlib.contextmanager
def redis_server(keys: int) -> Iterator[Server | None]:
    """Runs Debian's Redis without persistence and fills it; None when it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="watchword-redis-") as folder:
        port = _free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            target = f"127.0.0.1:{port}"
            _ran(["fill-redis", target, str(keys)], "", REDIS_SECONDS)
            yield Server(pid=process.pid, target=target, call={"redis_get": {}})
        finally:
            process.terminate()
            process.wait()


def _ran(arguments: Sequence[str], stdin: str, seconds: float) -> str:
    done = subprocess.run(
        [PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds + SLACK_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ProcessFailed(f"the load generator failed:\n{done.stderr}")
    return done.stdout


def _free_port() -> int:
    """Gives a port that was free a moment ago: Redis cannot be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + REDIS_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise ProcessFailed("`redis-server` did not get ready") from None
            time.sleep(0.02)
        else:
            return
