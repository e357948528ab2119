"""The load generator for one unary method: a process that reads a job and prints a result.

It sends bytes and decodes nothing, so that every server is called by the same code at the same
cost. Job and result are JSON, on stdin and stdout.
"""

import asyncio
import base64
import json
import sys
import time
from dataclasses import asdict, dataclass

import grpc

from benchmarks.closed_loop import Outcome, closed_loop, percentile
from benchmarks.cpu import child_named, family_seconds, process_seconds

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallJob:
    """What to call how often; the requests (base64) are sent in turn."""

    target: str
    method: str
    requests: list[str]
    authorization: str
    server_pid: int
    has_postgres: bool
    concurrency: int
    count: int
    warm_up: int
    seconds_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What one run measured; CPU is microseconds a call, of each process by itself."""

    calls: int
    calls_per_second: float
    p50_ms: float
    p99_ms: float
    server_us: float
    postgres_us: float
    client_us: float
    response_bytes: int


async def run(job: CallJob) -> CallResult:
    """Calls; every answer but OK ends the run with its error."""
    requests = [base64.b64decode(request) for request in job.requests]
    metadata = (("authorization", job.authorization),)
    postgres = child_named(job.server_pid, "postgres") if job.has_postgres else None
    answer = b""

    async with grpc.aio.insecure_channel(job.target) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(job.method)

        async def call(number: int) -> float:
            nonlocal answer
            started = time.perf_counter()
            request = requests[number % len(requests)]
            answer = await method(request, timeout=TIMEOUT_SECONDS, metadata=metadata)
            return time.perf_counter() - started

        def cpu() -> tuple[float, float, float]:
            database = 0.0 if postgres is None else family_seconds(postgres)
            return process_seconds(job.server_pid), database, time.process_time()

        async def calls_of(count: int) -> Outcome:
            return await closed_loop(
                call, concurrency=job.concurrency, count=count, seconds_max=job.seconds_max
            )

        await calls_of(job.warm_up)
        before = cpu()
        outcome = await calls_of(job.count)
        after = cpu()

    calls = len(outcome.latencies_seconds)
    used = [(b - a) / calls * 1e6 for a, b in zip(before, after, strict=True)]
    return CallResult(
        calls=calls,
        calls_per_second=calls / outcome.elapsed_seconds,
        p50_ms=percentile(outcome.latencies_seconds, 50) * 1000,
        p99_ms=percentile(outcome.latencies_seconds, 99) * 1000,
        server_us=used[0],
        postgres_us=used[1],
        client_us=used[2],
        response_bytes=len(answer),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(CallJob(**json.load(sys.stdin)))))))
