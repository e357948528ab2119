"""The one error table, against the contract and against what google.rpc promises."""

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from watchword import errors
from watchword.errors import Reason, Violation, WatchwordError
from watchword.transport.errors import (
    CODES,
    DOMAIN,
    INTERNAL_MESSAGE,
    code_of,
    internal_status,
    status_of,
)
from watchword_client import error_reason_pb2

PROTO = Path(__file__).parents[3] / "proto" / "watchword" / "v1" / "error_reason.proto"
PREFIX = "ERROR_REASON_"


def comments() -> dict[str, str]:
    """The comment above each value of ErrorReason, on one line, by the name without prefix."""
    found, comment = {}, []
    for line in map(str.strip, PROTO.read_text().splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
            continue
        if value := re.match(rf"{PREFIX}(\w+) = \d+;", line):
            found[value[1]] = " ".join(comment)
        comment = []
    return found


COMMENTS = comments()


def every_error() -> list[WatchwordError]:
    """One of each class that names a reason."""
    made: list[WatchwordError] = []
    classes = [WatchwordError]
    for cls in classes:
        classes += cls.__subclasses__()
        if cls is errors.RequestInvalid:
            made.append(errors.RequestInvalid([Violation("email", "is required")]))
        elif cls is errors.CallerScopeMissing:
            made.append(errors.CallerScopeMissing("login", caller="gateway"))
        elif cls is errors.RateLimited:
            made.append(errors.RateLimited("mailbox", retry_after_seconds=7))
        elif hasattr(cls, "reason"):
            made.append(cls())
    return made


def details(status: status_pb2.Status, message: object) -> list[object]:
    """The details of one type."""
    found = []
    for detail in status.details:
        copy = type(message)()
        if detail.Unpack(copy):  # type: ignore[attr-defined]  # any message
            found.append(copy)
    return found


def test_reasons_are_the_values_of_the_contract() -> None:
    """Every Reason is a value of watchword.v1.ErrorReason and the reverse, UNSPECIFIED apart."""
    values = {name.removeprefix(PREFIX) for name, _ in error_reason_pb2.ErrorReason.items()}
    assert {*Reason} == values - {"UNSPECIFIED"}
    assert all(reason.name == reason.value for reason in Reason)


def test_every_reason_has_a_row() -> None:
    """A reason without a gRPC code fails here, not in production."""
    assert set(CODES) == set(Reason)


def test_unauthenticated_is_about_the_person_alone() -> None:
    """No failure of a caller, the database or the server signs anybody out."""
    signs_out = {
        reason for reason, code in CODES.items() if code is grpc.StatusCode.UNAUTHENTICATED
    }
    assert signs_out == {Reason.OTP_INVALID, Reason.SESSION_INVALID}
    assert {code for reason, code in CODES.items() if reason.startswith("CALLER_")} == {
        grpc.StatusCode.PERMISSION_DENIED
    }


@pytest.mark.parametrize("reason", Reason)
def test_the_contract_documents_each_reason(reason: Reason) -> None:
    """Its comment begins with the code of the table and holds a whole example."""
    comment = COMMENTS[reason]
    assert comment.startswith(f"{CODES[reason].name}. ")
    example = comment.partition("Example:")[2]
    assert f'"reason": "{reason}"' in example
    assert f'"domain": "{DOMAIN}"' in example


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_says_its_reason_and_a_fixed_sentence(error: WatchwordError) -> None:
    """One ErrorInfo with reason and domain, the table's code, the class's own sentence."""
    status = status_of(error)
    (info,) = details(status, error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain) == (error.reason, "watchword.v1")  # type: ignore[attr-defined]
    assert code_of(status) is CODES[error.reason]
    assert status.message == str(error)
    assert status.message.startswith(type(error).message)


def test_every_reason_but_internal_has_an_error() -> None:
    """A reason that nothing raises is a promise that nobody keeps."""
    assert {error.reason for error in every_error()} == set(Reason) - {Reason.INTERNAL}


def test_request_invalid_carries_every_violation_in_order() -> None:
    """BadRequest has each field with its sentence."""
    violations = [Violation("full_name", "is required"), Violation("client.ip", "must be ...")]
    (bad,) = details(status_of(errors.RequestInvalid(violations)), error_details_pb2.BadRequest())
    assert [(v.field, v.description) for v in bad.field_violations] == [  # type: ignore[attr-defined]
        ("full_name", "is required"),
        ("client.ip", "must be ..."),
    ]


def test_overloaded_says_when_to_come_back() -> None:
    """RESOURCE_EXHAUSTED carries RetryInfo."""
    (retry,) = details(
        status_of(errors.Overloaded(retry_after_seconds=7)), error_details_pb2.RetryInfo()
    )
    assert retry.retry_delay.seconds == 7  # type: ignore[attr-defined]


def test_a_limit_is_named_and_says_when_to_come_back() -> None:
    """RESOURCE_EXHAUSTED carries RetryInfo, the metadata which limit it is."""
    status = status_of(errors.RateLimited("client", retry_after_seconds=240))
    (info,) = details(status, error_details_pb2.ErrorInfo())
    (retry,) = details(status, error_details_pb2.RetryInfo())
    assert info.metadata == {"limit": "client"}  # type: ignore[attr-defined]
    assert retry.retry_delay.seconds == 240  # type: ignore[attr-defined]
    assert status.message == "a limit is reached: `client`; try again in 240 s"


def test_a_missing_scope_is_named() -> None:
    """The metadata of ErrorInfo says which scope the call needs."""
    (info,) = details(
        status_of(errors.CallerScopeMissing("login", caller="gateway")),
        error_details_pb2.ErrorInfo(),
    )
    assert info.metadata == {"scope": "login"}  # type: ignore[attr-defined]


def test_internal_says_nothing_but_the_request_id() -> None:
    """A defect leaves as one fixed sentence and the id under which the log has the rest."""
    status = internal_status("0190a0c2")
    (info,) = details(status, error_details_pb2.ErrorInfo())
    assert info.metadata == {"request_id": "0190a0c2"}  # type: ignore[attr-defined]
    assert (code_of(status), status.message) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)


def test_commit_outcome_unknown_leaves_as_storage_unavailable() -> None:
    """Programs act on the reason: neither OK nor a refusal may be concluded from it."""
    assert code_of(status_of(errors.CommitOutcomeUnknown())) is grpc.StatusCode.UNAVAILABLE
