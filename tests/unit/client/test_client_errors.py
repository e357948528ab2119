"""What a caller's program gets to see of a failed call."""

from datetime import timedelta

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import watchword_client
from watchword.errors import Reason
from watchword.transport.errors import CODES, internal_status, status_of
from watchword_client import WatchwordError, errors
from watchword_client.errors import from_rpc_error

CODE_OF = {code.value[0]: code for code in grpc.StatusCode}


def rpc_error(
    code: grpc.StatusCode, *details: Message, raw: bytes | None = None, message: str = "words"
) -> grpc.aio.AioRpcError:
    """What grpc.aio raises for a status with these details."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    body = status.SerializeToString() if raw is None else raw
    trailers = [("x-other", "1")]
    if details or raw is not None:
        trailers.append(("grpc-status-details-bin", body))  # type: ignore[arg-type]  # -bin is bytes
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=message
    )


def info(reason: str, domain: str = "watchword.v1") -> error_details_pb2.ErrorInfo:
    """An ErrorInfo."""
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"scope": "login"})


CLASSES = {
    "REQUEST_INVALID": errors.RequestInvalid,
    "REQUEST_MALFORMED": errors.RequestInvalid,
    "OTP_INVALID": errors.OtpInvalid,
    "SESSION_INVALID": errors.SessionInvalid,
    "REAUTHENTICATION_NEEDED": errors.ReauthenticationNeeded,
    "USERNAME_TAKEN": errors.UsernameTaken,
    "EMAIL_TAKEN": errors.EmailTaken,
    "USER_NOT_FOUND": errors.UserNotFound,
    "ROLE_EXISTS": errors.RoleExists,
    "ROLE_NOT_FOUND": errors.RoleNotFound,
    "SERVICE_KEY_NOT_FOUND": errors.ServiceKeyNotFound,
    "CHALLENGE_CLOSED": errors.ChallengeClosed,
    "CALLER_CREDENTIAL_MISSING": errors.CallerRefused,
    "CALLER_CREDENTIAL_INVALID": errors.CallerRefused,
    "CALLER_SCOPE_MISSING": errors.CallerRefused,
    "RATE_LIMITED": errors.RateLimited,
    "OVERLOADED": errors.Overloaded,
    "STORAGE_UNAVAILABLE": errors.Unavailable,
    "INTERNAL": WatchwordError,
}


def test_every_reason_of_the_server_has_a_class() -> None:
    """A reason that the server learns is one that the client knows."""
    assert set(CLASSES) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_becomes_its_class(reason: Reason) -> None:
    """With code, reason, message and metadata."""
    error = from_rpc_error(rpc_error(CODES[reason], info(reason)))
    assert type(error) is CLASSES[reason]
    assert (error.code, error.reason, error.message) == (CODES[reason], reason, "words")
    assert error.metadata == {"scope": "login"}
    assert str(error) == f"{CODES[reason].name} {reason}: words"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] != 0])
@pytest.mark.parametrize(
    "details",
    [
        (),
        (info("SESSION_INVALID", domain="googleapis.com"),),
        (info("SESSION_INVALID", domain=""),),
        (info(""),),
        (info("SOMETHING_NEW"),),
        (info("ERROR_REASON_SESSION_INVALID"),),
        (error_details_pb2.RetryInfo(),),
    ],
)
def test_only_watchwords_own_word_signs_a_person_out(
    code: grpc.StatusCode, details: tuple[Message, ...]
) -> None:
    """What a proxy or gRPC itself answers, UNAUTHENTICATED too, never becomes SessionInvalid or
    OtpInvalid (the guard: _BY_CODE has no UNAUTHENTICATED).
    """
    error = from_rpc_error(rpc_error(code, *details))
    by_code = {
        grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
        grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
        grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    }
    assert type(error) is by_code.get(code, WatchwordError)
    assert error.code is code


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", b"\x0a"])
def test_broken_details_are_no_details(raw: bytes) -> None:
    """A proxy may have mangled them; the call has failed all the same, by its code."""
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAUTHENTICATED, raw=raw))
    assert type(error) is WatchwordError
    assert error.reason == ""
    assert str(error) == "UNAUTHENTICATED: words"


def test_every_violation_is_there() -> None:
    """In order; the text of the error is the server's, which names them."""
    bad_request = error_details_pb2.BadRequest(
        field_violations=[
            {"field": "email", "description": "is required"},
            {"field": "client.ip", "description": "must be an address"},
        ]
    )
    error = from_rpc_error(
        rpc_error(grpc.StatusCode.INVALID_ARGUMENT, bad_request, info("REQUEST_INVALID"))
    )
    assert error.violations == (
        errors.FieldViolation("email", "is required"),
        errors.FieldViolation("client.ip", "must be an address"),
    )
    assert str(error) == "INVALID_ARGUMENT REQUEST_INVALID: words"


def test_when_to_come_back() -> None:
    """RetryInfo becomes a timedelta."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromTimedelta(timedelta(seconds=7))
    error = from_rpc_error(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, info("OVERLOADED"), retry))
    assert error.retry_after == timedelta(seconds=7)


def test_the_servers_own_statuses_are_understood() -> None:
    """What transport/errors.py makes is what the client reads, INTERNAL with its request id."""
    for reason in Reason:
        status = internal_status("id-1")
        if reason is not Reason.INTERNAL:
            made = type("Made", (Exception,), {})
            made.reason, made.message = reason, "words"  # type: ignore[attr-defined]
            status = status_of(made())  # type: ignore[arg-type]  # has what status_of reads
        raw = status.SerializeToString()
        error = from_rpc_error(rpc_error(CODE_OF[status.code], raw=raw))
        assert type(error) is CLASSES[reason]
        if reason is Reason.INTERNAL:
            assert error.metadata == {"request_id": "id-1"}


def test_every_class_is_exported() -> None:
    """What can be raised can be caught by name."""
    for error_class in {*CLASSES.values(), WatchwordError}:
        assert error_class.__name__ in watchword_client.__all__
        assert issubclass(error_class, WatchwordError)
