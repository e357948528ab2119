"""What every call goes through, whatever is sent and whatever goes wrong inside (threats rows 37,
39 and 47): an answer at once, never UNKNOWN, and a server that goes on.
"""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import NoReturn

import asyncpg
import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rpc.wire import REQUESTS, SERVICE, Answer, Wire, count, wire_to
from tests.support.running import RunningApp, running_app
from watchword import _core
from watchword.crypto import new_id
from watchword.observability.logging import LogSettings, configure_logging
from watchword.transport.errors import INTERNAL_MESSAGE
from watchword_client import auth_service_pb2 as pb

REGISTER = pb.RegisterRequest(full_name="Ada", username="ada", email="ada@example.com")
# Groups inside of groups, an unknown field: more of them than any decoder should follow.
NESTED = b"\xfb\x01" * 20_000
MALFORMED = {
    "truncated length": b"\x0a\x05ab",
    "truncated tag": b"\xff",
    "truncated varint": b"\x0a\x80",
    "endless varint": b"\x08" + b"\xff" * 20,
    "field number 0": b"\x00\x01",
    "wire type 7": b"\x0f",
    "group that does not end": b"\x0b",
    "end of no group": b"\x0c",
    "deep nesting": NESTED,
    "invalid UTF-8": b"\x0a\x02\xff\xfe",
    "overlong UTF-8": b"\x0a\x02\xc0\xaf",
    "surrogate in UTF-8": b"\x0a\x03\xed\xa0\x80",
    "length beyond the body": b"\x0a\xff\xff\xff\xff\x07",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}
FINE = {"INVALID_ARGUMENT", "UNAUTHENTICATED", "NOT_FOUND", "FAILED_PRECONDITION", "OK"}


def register_with(
    monkeypatch: pytest.MonkeyPatch, use_case: Callable[..., Awaitable[object]]
) -> None:
    """Puts another use case behind Register."""
    monkeypatch.setattr("watchword.transport.auth_service.register", use_case)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, as JSON lines."""
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", level="info"), stream=stream)
    yield stream
    configure_logging(LogSettings(format="json", level="warning"))


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_body_that_is_no_message_is_malformed(shared_wire: Wire, method: str) -> None:
    """Whatever cannot be decoded is INVALID_ARGUMENT REQUEST_MALFORMED (the guard: the handler is
    registered without a deserialiser; grpc.aio's own would answer UNKNOWN).
    """
    for case, body in MALFORMED.items():
        answer = await shared_wire.call(method, body, timeout=5)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, case
        assert answer.reason == "REQUEST_MALFORMED", case


@pytest.mark.parametrize("method", REQUESTS)
async def test_fields_of_another_wire_type_are_unknown_fields(
    shared_wire: Wire, method: str
) -> None:
    """A number where a text belongs is skipped, and then the field is missing."""
    answer = await shared_wire.call(method, b"\x08\x01\x15\x00\x00\x00\x00\x19" + b"\x00" * 8)
    assert (answer.code, answer.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_INVALID",
    )


async def test_random_bodies_are_answered_in_kind(shared_wire: Wire) -> None:
    """300 random bodies and 300 cut or flipped real ones: a reason each, never UNKNOWN, no hang.

    The full size is 10 minutes of fuzzing.
    """
    loop = asyncio.get_running_loop()
    bodies: list[tuple[str, bytes]] = []
    real = REGISTER.SerializeToString()

    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        method=st.sampled_from(sorted(REQUESTS)),
        body=st.binary(max_size=200),
        cut=st.integers(0, len(real)),
        flip=st.integers(0, len(real) * 8 - 1),
    )
    def collect(method: str, body: bytes, cut: int, flip: int) -> None:
        flipped = bytearray(real[:cut])
        if flip // 8 < cut:
            flipped[flip // 8] ^= 1 << flip % 8
        bodies.extend([(method, body), (method, bytes(flipped))])

    collect()
    assert loop.is_running()
    for start in range(0, len(bodies), 50):
        answers = await asyncio.gather(
            *(shared_wire.call(method, body) for method, body in bodies[start : start + 50])
        )
        for (method, body), answer in zip(bodies[start:], answers, strict=False):
            assert answer.code.name in FINE | {"ALREADY_EXISTS"}, (method, body)
            assert answer.code is grpc.StatusCode.OK or answer.reason, (method, body)


async def test_unknown_fields_are_ignored(shared_app: RunningApp, shared_wire: Wire) -> None:
    """Fields of a later version change nothing and are stored nowhere."""
    request = pb.RegisterRequest(full_name="Eve", username="eve.later", email="eve@example.com")
    unknown = b"\xa2\x06\x07NEVER-1\xa8\x06\x01"
    answer = await shared_wire.call("Register", request.SerializeToString() + unknown)
    assert answer.code is grpc.StatusCode.OK
    stored = await shared_app.sql(
        "SELECT r::text FROM registrations r WHERE username = 'eve.later'"
    )
    assert len(stored) == 1
    assert "NEVER" not in stored[0][0]


async def raise_defect(*_: object) -> NoReturn:
    """Fails like a bug."""
    raise ZeroDivisionError("the secret is hunter2")


async def raise_panic(*_: object) -> NoReturn:
    """Panics in Rust, as a bug of the core would."""
    _core.panic_for_test()


async def raise_stray_cancel(*_: object) -> NoReturn:
    """Lets a CancelledError out that nobody asked for."""
    raise asyncio.CancelledError


async def raise_deep(*_: object) -> NoReturn:
    """Fails with a group, as a TaskGroup does."""
    raise BaseExceptionGroup("group", [ValueError("inner"), asyncio.CancelledError()])


@pytest.mark.parametrize(
    ("defect", "trace"),
    [
        (raise_defect, "ZeroDivisionError"),
        (raise_panic, "PanicException"),
        (raise_stray_cancel, "CancelledError"),
        (raise_deep, "ValueError: inner"),
    ],
)
async def test_a_defect_answers_internal_at_once(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    defect: Callable[..., Awaitable[object]],
    trace: str,
) -> None:
    """An exception, a Rust panic or a stray cancel inside a handler is INTERNAL with a fixed
    sentence and a request id, the log has the traceback under that id, and the next call is served
    (the guard: `except BaseException` in Pipeline._answer).
    """
    register_with(monkeypatch, defect)
    answer = await wire.call("Register", REGISTER, timeout=3)
    assert answer.code is grpc.StatusCode.INTERNAL
    assert (answer.reason, answer.message) == ("INTERNAL", INTERNAL_MESSAGE)
    assert "hunter2" not in answer.text
    request_id = answer.info.metadata["request_id"]
    records = [json.loads(line) for line in log.getvalue().splitlines()]
    (record,) = [record for record in records if record.get("request_id") == request_id]
    assert (record["level"], record["code"]) == ("error", "INTERNAL")
    assert trace in record["exception"]
    assert "Traceback" in record["exception"]
    monkeypatch.undo()
    assert (await wire.call("Register", REGISTER)).code is grpc.StatusCode.OK


async def test_a_client_that_hangs_up_ends_its_handler(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel by the client reaches the handler as CancelledError and is no defect."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(*_: object) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    register_with(monkeypatch, wait_for_ever)
    call = wire.start(
        "Register", REGISTER.SerializeToString(), [("authorization", f"Bearer {wire.key}")]
    )
    async with asyncio.timeout(5):
        await began.wait()
        call.cancel()
        await ended.wait()
    monkeypatch.undo()
    assert (await wire.call("Register", REGISTER)).code is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("service", "method"),
    [
        (SERVICE, "Unregister"),
        (SERVICE, "register"),
        (SERVICE, "RefreshSessions"),
        ("watchword.v1.AdminService", "CreateUser"),
        ("watchword.v2.AuthService", "Register"),
    ],
)
async def test_an_unknown_method_is_unimplemented(
    shared_wire: Wire, service: str, method: str
) -> None:
    """gRPC answers by itself, without ErrorInfo, with and without a caller."""
    for metadata in (None, []):
        answer = await shared_wire.call(method, b"", service=service, metadata=metadata)
        assert answer.code is grpc.StatusCode.UNIMPLEMENTED
        assert answer.reason == ""


@pytest.mark.parametrize("method", REQUESTS)
async def test_a_body_over_64_kib_is_refused(shared_wire: Wire, method: str) -> None:
    """64 KiB and one byte never reach the pipeline; exactly 64 KiB do."""
    unknown = b"\xa2\x06\xfd\xff\x03"  # field 100 with 65,533 bytes
    over = await shared_wire.call(method, unknown + b"x" * 65_533)
    assert over.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    exactly = b"\xa2\x06\xfb\xff\x03" + b"x" * 65_531
    assert len(exactly) == 65_536
    assert (await shared_wire.call(method, exactly)).reason == "REQUEST_INVALID"
    one_more = b"\xa2\x06\xfc\xff\x03" + b"x" * 65_532
    assert len(one_more) == 65_537
    assert (await shared_wire.call(method, one_more)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_over_8_kib_is_refused(shared_wire: Wire) -> None:
    """A call with too many headers is refused by gRPC; the connection's next call is served."""
    authorization = ("authorization", f"Bearer {shared_wire.key}")
    for extra in ([("x-big", "x" * 9_000)], [(f"x-{n}", "x" * 90) for n in range(100)]):
        answer = await shared_wire.call("Revoke", b"", metadata=[authorization, *extra])
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert answer.reason == ""
    answer = await shared_wire.call("Revoke", b"", metadata=[authorization, ("x-ok", "x" * 4_000)])
    assert answer.reason == "REQUEST_INVALID"


async def _timed(call: Awaitable[Answer]) -> tuple[Answer, float]:
    clock = asyncio.get_running_loop().time
    started = clock()
    return await call, clock() - started


async def test_a_locked_row_does_not_hold_a_call_beyond_its_time(
    app: RunningApp, wire: Wire
) -> None:
    """Waiting for another's lock ends as UNAVAILABLE after the time left less 100 ms, at most 2 s,
    and the attempt was not counted (the guard: asyncio.timeout around the method).
    """
    challenge_id = (await app.register()).challenge.id
    request = pb.VerifyOtpRequest(challenge_id=challenge_id, code="000000")
    await app.mails.wait_for("ada@example.com")
    other = await asyncpg.connect(app.database_url)
    async with other.transaction():
        await other.execute("SELECT id FROM challenges FOR UPDATE")
        (short, short_seconds), (long, long_seconds) = await asyncio.gather(
            _timed(wire.call("VerifyOtp", request, timeout=1.5)),
            _timed(wire.call("VerifyOtp", request, timeout=30.0)),
        )
    await other.close()
    for answer in (short, long):
        assert answer.code is grpc.StatusCode.UNAVAILABLE
        assert answer.reason == "STORAGE_UNAVAILABLE"
    assert 1.2 < short_seconds < 1.9  # 0.4 s for a busy machine
    assert 1.7 < long_seconds < 3.0
    assert (await app.sql("SELECT attempts FROM challenges"))[0][0] == 0


async def test_a_deadline_that_is_too_near_is_unavailable_not_a_guess(
    app: RunningApp, wire: Wire
) -> None:
    """With less than 100 ms left nothing is asked of the database and nothing is decided."""
    answer = await wire.call(
        "ValidateSession",
        pb.ValidateSessionRequest(session_token=app.keys.mint_session(1).token.reveal()),
        timeout=0.09,
    )
    assert answer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_more_calls_than_connections_all_answer(database_url: str) -> None:
    """40 calls at once on 2 connections: every one is OK, so no call wants a second connection
    while it holds one. The full size is the load test.
    """
    async with running_app(database_url, DATABASE__POOL_SIZE="2") as app, wire_to(app) as wire:
        requests = [
            pb.RegisterRequest(
                full_name="Ada", username=f"ada{n}", email=f"ada{n}@example.com", send_otp=True
            )
            for n in range(40)
        ]
        answers = await asyncio.gather(*(wire.call("Register", request) for request in requests))
        assert [answer.code for answer in answers] == [grpc.StatusCode.OK] * 40
        assert await count(app, "registrations") == 40


async def test_every_call_is_logged_once_without_its_fields(
    app: RunningApp, wire: Wire, log: io.StringIO
) -> None:
    """One record a call, with request id, caller, method, code and time, and nothing of what was
    sent: neither address nor name nor the service key (threats row 24).
    """
    await wire.call("Register", REGISTER)
    await wire.call("VerifyOtp", pb.VerifyOtpRequest(challenge_id=str(new_id(1)), code="314159"))
    await wire.call("Register", pb.RegisterRequest(full_name="Ada\r\nINJECTED", username="x"))
    await wire.call("Revoke", b"\xff")
    await wire.call("Revoke", b"", metadata=[("authorization", "Bearer wwk_CANARY")])
    calls = [json.loads(line) for line in log.getvalue().splitlines()]
    calls = [record for record in calls if record["event"] == "call"]
    assert [record["code"] for record in calls] == [
        "OK",
        "UNAUTHENTICATED",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "PERMISSION_DENIED",
    ]
    assert len({record["request_id"] for record in calls}) == 5
    assert [record["caller"] for record in calls] == ["tests"] * 4 + [None]
    for secret in ("ada@example.com", "Ada", "314159", "INJECTED", "CANARY", wire.key):
        assert secret not in log.getvalue()
