"""What every call goes through: caller and scope, decode, validate, deadline, call, encode, log.

One wrapper around each method, registered without (de)serialisers, and no grpc.aio interceptor:
a body that cannot be decoded would pass outside of those as UNKNOWN, and a BaseException (a Rust
panic is one) would end without any answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from watchword.audit.model import UNKNOWN_CALLER, Action, Event, Outcome
from watchword.audit.refusals import Refusals
from watchword.callers.model import Scope
from watchword.callers.registry import CallerRegistry
from watchword.crypto import new_id
from watchword.errors import (
    CallerError,
    Reason,
    RequestMalformed,
    StorageUnavailable,
    WatchwordError,
)
from watchword.transport.errors import CODES, DETAILS_KEY, code_of, internal_status, status_of

# A call without a deadline of its own gets this one.
DEFAULT_DEADLINE_SECONDS = 5.0
# What a call may spend on the database: the rest is for the way back.
DATABASE_BUDGET_SECONDS = 2.0
# What works through many rows, a transaction at a time.
BULK_SECONDS = 600.0
ANSWER_MARGIN_SECONDS = 0.1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its name, the scopes of which it demands one, its request type, and what it does.

    `call` gets the request and the name of the caller. A `bulk` one may use its whole deadline.
    """

    name: str
    scopes: Sequence[Scope]
    request: type[Message]
    call: Callable[[Any, str], Awaitable[Message]]
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call brings: the encoded request, `authorization` headers, seconds left or None."""

    body: bytes
    authorization: Sequence[str | bytes]
    time_left: float | None


# Answers with the encoded response or a status, whatever happens.
Handler = Callable[[Asked], Awaitable[bytes | status_pb2.Status]]


class Pipeline:
    """Makes handlers out of methods."""

    def __init__(self, callers: CallerRegistry, refusals: Refusals) -> None:
        self._callers = callers
        self._refusals = refusals

    def handler(self, service: str, method: Method) -> Handler:
        """Returns what answers a method's calls; only a call that is cancelled raises."""
        full_name = f"{service}/{method.name}"

        def handler(asked: Asked) -> Awaitable[bytes | status_pb2.Status]:
            return self._answer(_Call(full_name, str(new_id(0))), method, asked)

        return handler

    async def _answer(
        self,
        call: "_Call",
        method: Method,
        asked: Asked,
    ) -> bytes | status_pb2.Status:
        """Returns the encoded response or the status, whatever happens; logs it once."""
        try:
            call.caller = caller = self._authenticate(method, asked.authorization)
            request = _decode(method, asked.body)
            most = BULK_SECONDS if method.bulk else DATABASE_BUDGET_SECONDS
            async with asyncio.timeout(database_budget_seconds(asked.time_left, most)):
                response = await method.call(request, caller)
            encoded = response.SerializeToString()
        except WatchwordError as error:
            if isinstance(error, CallerError):
                call.caller = error.caller
            call.log(CODES[error.reason], reason=error.reason, detail=str(error))
            return status_of(error)
        except TimeoutError:
            call.log(CODES[Reason.STORAGE_UNAVAILABLE], reason=Reason.STORAGE_UNAVAILABLE)
            return status_of(StorageUnavailable())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and was_cancelled():
                call.log(grpc.StatusCode.CANCELLED)
                raise
            call.log_defect(error)
            return internal_status(call.request_id)
        call.log(grpc.StatusCode.OK)
        return encoded

    def _authenticate(self, method: Method, authorization: Sequence[str | bytes]) -> str:
        try:
            return self._callers.authenticate(authorization, scopes=method.scopes).name
        except CallerError as error:
            self._refusals.note(
                Event(
                    id=new_id(0),
                    action=Action.CALL,
                    outcome=Outcome[error.reason.name],
                    actor=error.caller or UNKNOWN_CALLER,
                )
            )
            raise


def generic_handler(service: str, handlers: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
    """Returns grpc.aio's handler of a whole service, which gets and gives bytes; by methods' names.

    Generic: grpcio 1.84 and later do work per registered method at every accept.
    """
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(_of_grpc_aio(handler))
            for name, handler in handlers.items()
        },
    )


def _of_grpc_aio(
    handler: Handler,
) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]:
    async def handle(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        authorization = [
            value for key, value in context.invocation_metadata() or () if key == "authorization"
        ]
        answer = await handler(Asked(body, authorization, context.time_remaining()))
        if isinstance(answer, bytes):
            return answer
        details = ((DETAILS_KEY, answer.SerializeToString()),)
        await context.abort(code_of(answer), answer.message, trailing_metadata=details)

    return handle


def _decode(method: Method, body: bytes) -> Message:
    try:
        return method.request.FromString(body)
    except DecodeError:
        raise RequestMalformed from None


def database_budget_seconds(
    time_left: float | None, most: float = DATABASE_BUDGET_SECONDS
) -> float:
    """Returns what a call may spend on the database; None is a call without a deadline."""
    if time_left is None:
        time_left = DEFAULT_DEADLINE_SECONDS
    return max(0.0, min(time_left - ANSWER_MARGIN_SECONDS, most))


def was_cancelled() -> bool:
    """Whether somebody ended this task; a stray CancelledError is a defect."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Call:
    """What the log says of one call: no field of the request and nothing of the answer."""

    def __init__(self, method: str, request_id: str) -> None:
        self.request_id = request_id
        self.caller: str | None = None
        self._method = method
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()

    def log(self, code: grpc.StatusCode, **more: object) -> None:
        # Whoever is refused by a limit is no concern of the operator's, however often they come.
        concerns = code in _OPERATORS_CONCERN and more.get("reason") is not Reason.RATE_LIMITED
        level = _log.warning if concerns else _log.info
        level("call", **self._fields(code), **more)

    def log_defect(self, error: BaseException) -> None:
        _log.error("call", **self._fields(grpc.StatusCode.INTERNAL), exc_info=error)

    def _fields(self, code: grpc.StatusCode) -> dict[str, object]:
        return {
            "request_id": self.request_id,
            "caller": self.caller,
            "method": self._method,
            "code": code.name,
            "duration_ms": round((self._clock() - self._started) * 1000, 2),
        }


_OPERATORS_CONCERN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
