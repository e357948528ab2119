"""The one table from reasons to gRPC codes, and the google.rpc.Status that carries them.

tests/unit/transport shows that every Reason has a row and a value in the proto.
"""

from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from watchword.errors import (
    CallerScopeMissing,
    Overloaded,
    RateLimited,
    Reason,
    RequestInvalid,
    WatchwordError,
)

DOMAIN = "watchword.v1"
DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[Reason, grpc.StatusCode] = {
    Reason.REQUEST_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.REQUEST_MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.OTP_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    Reason.SESSION_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    Reason.USERNAME_TAKEN: grpc.StatusCode.ALREADY_EXISTS,
    Reason.EMAIL_TAKEN: grpc.StatusCode.ALREADY_EXISTS,
    Reason.USER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.CHALLENGE_CLOSED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.CALLER_CREDENTIAL_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    Reason.CALLER_CREDENTIAL_INVALID: grpc.StatusCode.PERMISSION_DENIED,
    Reason.CALLER_SCOPE_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.STORAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
    Reason.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.REAUTHENTICATION_NEEDED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.ROLE_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.ROLE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.SERVICE_KEY_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
}

INTERNAL_MESSAGE = "an internal error; the server's log has it under the request id"


def status_of(error: WatchwordError) -> status_pb2.Status:
    """Returns the status of an error, with the details that its reason promises."""
    details: list[Message] = [_error_info(error.reason, _metadata_of(error))]
    if isinstance(error, RequestInvalid):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, description=violation.description
                    )
                    for violation in error.violations
                ]
            )
        )
    if isinstance(error, RateLimited | Overloaded):
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after_seconds))
        details.append(retry_info)
    return _status(error.reason, str(error), details)


def internal_status(request_id: str) -> status_pb2.Status:
    """Returns the status of a defect: a fixed sentence, and where in the log to look."""
    info = _error_info(Reason.INTERNAL, {"request_id": request_id})
    return _status(Reason.INTERNAL, INTERNAL_MESSAGE, [info])


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """Returns grpc's own object for the status's number."""
    return _CODE_BY_NUMBER[status.code]


def _metadata_of(error: WatchwordError) -> dict[str, str]:
    if isinstance(error, RateLimited):
        return {"limit": error.limit}
    return {"scope": error.scope} if isinstance(error, CallerScopeMissing) else {}


def _error_info(reason: Reason, metadata: dict[str, str]) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _status(reason: Reason, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=CODES[reason].value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


_CODE_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
