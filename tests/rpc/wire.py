"""Calls by raw bytes and any metadata, the whole of their answers, and what is in the database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from tests.support.running import RunningApp
from watchword.callers.model import Scope
from watchword.storage.installation import InstallationStore
from watchword.storage.outbox import OutboxStore
from watchword.storage.probe import PING
from watchword.storage.service_keys import ServiceKeyStore
from watchword.storage.sessions import SessionStore
from watchword_client import admin_service_pb2
from watchword_client import auth_service_pb2 as pb

SERVICE = "watchword.v1.AuthService"
TIMEOUT_SECONDS = 10.0

REQUESTS: dict[str, type[Message]] = {
    "Register": pb.RegisterRequest,
    "SendOtp": pb.SendOtpRequest,
    "VerifyOtp": pb.VerifyOtpRequest,
    "ValidateSession": pb.ValidateSessionRequest,
    "BatchValidateSessions": pb.BatchValidateSessionsRequest,
    "RefreshSession": pb.RefreshSessionRequest,
    "Revoke": pb.RevokeRequest,
    "ListSessions": pb.ListSessionsRequest,
    "StartEmailChange": pb.StartEmailChangeRequest,
    "ConfirmEmailChange": pb.ConfirmEmailChangeRequest,
    "GetRoles": pb.GetRolesRequest,
}

ADMIN_SERVICE = "watchword.v1.AdminService"
ADMIN_REQUESTS: dict[str, type[Message]] = {
    method.name: GetMessageClass(method.input_type)
    for method in admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].methods
}

# What the background jobs send. Compared whole: `SELECT 1` is also a part of other statements.
_JOBS = (
    PING,
    InstallationStore.ALARM.strip(),
    OutboxStore.CANDIDATES.strip(),
    OutboxStore.LEASE_CODE.strip(),
    OutboxStore.LEASE_EMAIL_CHANGED.strip(),
    OutboxStore.NEW_ADDRESS.strip(),
    OutboxStore.OLD_ADDRESS.strip(),
    OutboxStore.USER_RECIPIENT.strip(),
    OutboxStore.REGISTRATION_RECIPIENT.strip(),
    OutboxStore.MARK_SENT.strip(),
    OutboxStore.DROP.strip(),
    OutboxStore.RETRY_LATER.strip(),
    SessionStore.NOTE_SEEN.strip(),
    ServiceKeyStore.NOTE_USED.strip(),
)


@dataclass(frozen=True)
class Answer:
    """What a call was answered; `status` and `info` are empty where gRPC itself answered."""

    code: grpc.StatusCode
    message: str = ""
    body: bytes = b""
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def status(self) -> status_pb2.Status:
        """The google.rpc.Status of the trailers."""
        for key, value in self.trailers:
            if key == "grpc-status-details-bin":
                assert isinstance(value, bytes)
                return status_pb2.Status.FromString(value)
        return status_pb2.Status()

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        """The one ErrorInfo."""
        return self._detail(error_details_pb2.ErrorInfo())

    @property
    def reason(self) -> str:
        """The reason, once its domain is Watchword's."""
        return self.info.reason if self.info.domain == "watchword.v1" else ""

    @property
    def fields(self) -> list[str]:
        """The fields that BadRequest names, in its order."""
        bad_request = self._detail(error_details_pb2.BadRequest())
        return [violation.field for violation in bad_request.field_violations]

    @property
    def retry_after(self) -> float | None:
        """The seconds of RetryInfo, if there is one."""
        info: error_details_pb2.RetryInfo = self._detail(error_details_pb2.RetryInfo())
        return info.retry_delay.ToTimedelta().total_seconds() or None

    @property
    def text(self) -> str:
        """Everything that the caller can read of it."""
        details = [bytes(detail.value).decode("utf-8", "replace") for detail in self.status.details]
        return "\n".join([self.message, self.status.message, *details])

    def _detail(self, message: Any) -> Any:
        found = [detail for detail in self.status.details if detail.Is(message.DESCRIPTOR)]
        assert len(found) <= 1, "a detail stands twice"
        for detail in found:
            detail.Unpack(message)
        return message


class Wire:
    """One channel to a server, with no more manners than a test gives it."""

    def __init__(self, key: str, channel: grpc.aio.Channel, service: str = SERVICE) -> None:
        self.key = key
        self._channel = channel
        self._service = service

    async def call(
        self,
        method: str,
        request: Message | bytes,
        *,
        metadata: Sequence[tuple[str, str]] | None = None,
        service: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """Calls with these bytes and exactly this metadata; the key of every scope when None."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        if metadata is None:
            metadata = [("authorization", f"Bearer {self.key}")]
        try:
            answered = await self.start(method, body, metadata, service=service, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return Answer(
                code=error.code(),
                message=error.details() or "",
                trailers=tuple(error.trailing_metadata() or ()),
            )
        return Answer(code=grpc.StatusCode.OK, body=answered)

    def start(
        self,
        method: str,
        body: bytes,
        metadata: Sequence[tuple[str, str]],
        *,
        service: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        """Begins a call and returns it."""
        return self._channel.unary_unary(f"/{service or self._service}/{method}")(
            body, metadata=tuple(metadata), timeout=timeout
        )


@asynccontextmanager
async def wire_to(app: RunningApp) -> AsyncIterator[Wire]:
    """A wire to a running app, with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(app.app.api_address, options) as channel:
        yield Wire(app.service_key(*Scope), channel)


@asynccontextmanager
async def admin_wire_to(app: RunningApp) -> AsyncIterator[Wire]:
    """The same to its AdminService."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(app.app.admin_address, options) as channel:
        yield Wire(app.service_key(*Scope), channel, ADMIN_SERVICE)


async def settled(app: RunningApp) -> None:
    """Returns once the dispatcher has nothing to do."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await app.sql("SELECT 1 FROM outbox WHERE state = 'pending'"):
            await asyncio.sleep(0.01)


async def mail_states(app: RunningApp, challenge_id: str) -> list[str]:
    """Returns the states of a challenge's mails, the oldest first."""
    rows = await app.sql(
        "SELECT state FROM outbox WHERE challenge_id = $1 ORDER BY create_time", challenge_id
    )
    return [row["state"] for row in rows]


async def contents(app: RunningApp) -> dict[str, list[str]]:
    """Returns every row of every table as text; the dispatcher must be idle."""
    connection = await asyncpg.connect(app.database_url)
    try:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        return {
            table: [row[0] for row in await connection.fetch(f'SELECT t::text FROM "{table}" t')]
            for (table,) in tables
        }
    finally:
        await connection.close()


def sent(app: RunningApp) -> list[str]:
    """Returns the statements of calls since `app.statements.clear()`, without the jobs' own."""
    return [text for text in app.statements.seen if text not in _JOBS]


async def count(app: RunningApp, table: str) -> int:
    """Returns how many rows a table has."""
    counted: int = (await app.sql(f'SELECT count(*) FROM "{table}"'))[0][0]
    return counted


def wrong(code: str) -> str:
    """Returns another code of the same form."""
    return code[:-1] + str((int(code[-1]) + 1) % 10)
