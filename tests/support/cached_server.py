"""A server of a process of its own that answers session checks from its cache, and calls to it."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tests.support.processes import WatchwordProcess, watchword
from tests.support.running import installation_environment
from watchword_client import auth_service_pb2 as pb

SERVICE = "watchword.v1.AuthService"
TIMEOUT_SECONDS = 20.0
PAUSE_SECONDS = 0.01
# A channel of its own for each: gRPC shares connections of one process otherwise.
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class CachedServer:
    """The process, a live session, and a connection for calls that nobody disturbs."""

    process: WatchwordProcess
    token: str
    user_id: str
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.process.ready["api"])

    @property
    def authorization(self) -> str:
        """The credential of a caller that may do everything."""
        return f"Bearer {self.process.ready['service_key']}"

    async def check(self, *, timeout: float = TIMEOUT_SECONDS) -> None:
        """Checks the session, which the cache knows, and looks at the answer."""
        request = pb.ValidateSessionRequest(session_token=self.token)
        answer = await self.call("ValidateSession", request.SerializeToString(), timeout=timeout)
        found = pb.ValidateSessionResponse.FromString(answer)
        assert found.session.user_id == found.user.id == self.user_id

    async def pass_on(self, *, timeout: float = TIMEOUT_SECONDS) -> None:
        """Makes a call that is passed on to Python and asks the database."""
        request = pb.GetRolesRequest(user_id=self.user_id)
        await self.call("GetRoles", request.SerializeToString(), timeout=timeout)

    def call(
        self, method: str, body: bytes, *, timeout: float = TIMEOUT_SECONDS
    ) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        """Begins a call with any body."""
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(
            body, metadata=(("authorization", self.authorization),), timeout=timeout
        )

    def resident_kib(self) -> int:
        """The memory that the process has in RAM."""
        status = Path(f"/proc/{self.process.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1])

    def descriptors(self) -> int:
        """How many files and sockets the process has open."""
        return len(list(Path(f"/proc/{self.process.process.pid}/fd").iterdir()))


@contextlib.asynccontextmanager
async def cached_server(
    database_url: str, *, program: Sequence[str] = (), **settings: str
) -> AsyncIterator[CachedServer]:
    """Runs the server on a migrated database; settings like GATE__THREADS come over the defaults.

    `program` replaces the installed command.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-cached-") as folder:
        env = installation_environment(
            database_url, Path(folder), **{"GATE__CACHE_MIB": "16", **settings}
        )
        async with watchword("serve", env=env, program=program) as process:
            async with process.client() as client:
                registered = await client.register(
                    full_name="Ada Lovelace",
                    username="ada",
                    email="ada@example.com",
                    send_otp=True,
                )
                code = await process.mails.code_for("ada@example.com")
                signed_in = await client.verify_otp(challenge_id=registered.challenge.id, code=code)
            async with grpc.aio.insecure_channel(
                process.ready["api"], options=OWN_CONNECTION
            ) as channel:
                yield CachedServer(process, signed_in.session_token, signed_in.user.id, channel)


@dataclass
class Others:
    """What a client that does nothing wrong has seen, and what the server took meanwhile."""

    checks: list[float] = field(default_factory=list)
    passed_on: list[float] = field(default_factory=list)
    resident_kib: int = 0

    def slowest_ms(self, share: float = 0.99) -> tuple[float, float]:
        """The quantile of the checks' and of the passed-on calls' milliseconds."""
        checks, passed_on = [
            sorted(times)[int(len(times) * share)] * 1000 for times in (self.checks, self.passed_on)
        ]
        return round(checks, 1), round(passed_on, 1)


@contextlib.asynccontextmanager
async def others(server: CachedServer) -> AsyncIterator[Others]:
    """Calls by turns as long as the block lasts; a call that fails fails the test."""
    seen = Others()
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            for times, method in ((seen.checks, server.check), (seen.passed_on, server.pass_on)):
                began = time.monotonic()
                await method()
                times.append(time.monotonic() - began)
            seen.resident_kib = max(seen.resident_kib, server.resident_kib())
            await asyncio.sleep(PAUSE_SECONDS)

    calling = asyncio.create_task(call())
    try:
        yield seen
    finally:
        stop.set()
        await calling
    assert server.process.process.returncode is None, server.process.log()
