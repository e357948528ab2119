"""What is measured on one running server, in which order."""

import base64
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.echo_server import METHOD, SERVICE
from benchmarks.load_calls import CallJob, CallResult
from benchmarks.load_sign_ins import SignInJob, SignInResult
from benchmarks.processes import echo_server, load, load_calls, watchword_command
from watchword_client._gen.watchword.v1 import auth_service_pb2 as pb

VALIDATE = "/watchword.v1.AuthService/ValidateSession"
ECHO = f"/{SERVICE}/{METHOD}"
ROLE, PERMISSIONS = "editor", ("article:read", "article:write")
# Their sessions are validated. Few: each role is given by a process of its own.
ROLE_HOLDERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is run; every load ends at its count or its seconds, whichever comes first."""

    runs: int
    concurrencies: tuple[int, ...] = (1, 8, 32)
    people: int
    calls: int
    seconds_max: float


FULL = Size(runs=3, people=300, calls=6_000, seconds_max=20.0)
QUICK = Size(runs=1, people=40, calls=500, seconds_max=3.0)


@dataclass(slots=True)
class Row:
    """The results at one concurrency, one of each kind per run."""

    sign_ins: list[SignInResult] = field(default_factory=list)
    validations: list[CallResult] = field(default_factory=list)
    echoes: list[CallResult] = field(default_factory=list)


class Measurements:
    """Loads the server whose ready file was read, and an echo server of its own beside."""

    def __init__(self, size: Size, ready: dict[str, Any]) -> None:
        self._size = size
        self._ready = ready
        self.rows = {concurrency: Row() for concurrency in size.concurrencies}
        self.postgres_version = ""
        self.request_bytes = self.response_bytes = 0

    def run(self) -> None:
        """Measures everything: in turn, and every other run backwards."""
        requests = self._prepare()
        with echo_server(sys.executable, "--response-bytes", str(self.response_bytes)) as echo:
            for number, concurrency in self._turns():
                _tell(f"run {number + 1} of {self._size.runs} at concurrency {concurrency}")
                row = self.rows[concurrency]
                row.sign_ins.append(self._sign_in(concurrency, register=False))
                target, pid = f"127.0.0.1:{echo['port']}", echo["pid"]
                calls = [
                    (row.validations, self._job(VALIDATE, requests, concurrency)),
                    (row.echoes, self._job(ECHO, requests, concurrency, target, pid)),
                ]
                for results, job in calls if number % 2 == 0 else reversed(calls):
                    results.append(load_calls(job))

    def _prepare(self) -> list[bytes]:
        """Registers people, which warms the server up; returns requests for ValidateSession."""
        _tell(f"registering {self._size.people} people")
        registered = self._sign_in(8, register=True)
        self.postgres_version = registered.postgres_version
        environment = self._ready["env"]
        permissions = [word for name in PERMISSIONS for word in ("--permission", name)]
        watchword_command(environment, "roles", "create", ROLE, *permissions)
        for number in range(ROLE_HOLDERS):
            watchword_command(environment, "roles", "assign", f"person{number}", ROLE)
        requests = [
            pb.ValidateSessionRequest(session_token=token).SerializeToString()
            for token in registered.tokens
        ]
        self.request_bytes = len(requests[0])
        self.response_bytes = load_calls(self._job(VALIDATE, requests, 1)).response_bytes
        return requests

    def _turns(self) -> Iterator[tuple[int, int]]:
        for number in range(self._size.runs):
            for concurrency in self._size.concurrencies[:: 1 if number % 2 == 0 else -1]:
                yield number, concurrency

    def _sign_in(self, concurrency: int, *, register: bool) -> SignInResult:
        job = SignInJob(
            ready=self._ready,
            register=register,
            tokens=ROLE_HOLDERS,
            concurrency=concurrency,
            count=self._size.people,
            # Everybody has to be registered before anybody signs in.
            seconds_max=60.0 if register else self._size.seconds_max,
        )
        return SignInResult(**load("load_sign_ins", asdict(job)))

    def _job(
        self,
        method: str,
        requests: list[bytes],
        concurrency: int,
        target: str | None = None,
        pid: int | None = None,
    ) -> CallJob:
        return CallJob(
            target=target or self._ready["api"],
            method=method,
            requests=[base64.b64encode(request).decode() for request in requests],
            authorization=f"Bearer {self._ready['service_key']}",
            server_pid=pid or self._ready["pid"],
            has_postgres=target is None,
            concurrency=concurrency,
            count=self._size.calls,
            warm_up=self._size.calls // 20,
            seconds_max=self._size.seconds_max,
        )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
