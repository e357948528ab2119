"""What a caller sends forges no record of the log (threats row 36): in any text of any request, in
the header that names the caller, and in the name of the method.

tests/unit/observability/test_logging.py has the format by itself.
"""

import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.rpc.test_pipeline import log, register_with
from tests.rpc.wire import REQUESTS, SERVICE, Wire
from tests.support.http2 import DATA, END_HEADERS, END_STREAM, RawConnection, frame, header_block
from tests.support.http2 import split_headers as headers
from tests.support.replicas import Replicas, replicas_on
from watchword_client import auth_service_pb2 as pb

__all__ = ["log"]

MARK = "FORGED"
RECORD = f'{{"event": "{MARK}", "level": "info"}}'
TEXTS = {
    "line feed": f"x\n{RECORD}\n",
    "CR LF": f"x\r\n{RECORD}\r\n",
    "carriage return": f"x\r{RECORD}\r",
    "the end of a string": f'x", "event": "{MARK}',
    "ANSI": f"\x1b[2K\x1b[31m{MARK}\x1b]0;title\x07",
    "C1": f"\x9b31m{MARK}",
    "line separator": f"x\u2028{RECORD}\u2029{RECORD}\x85{RECORD}",
    "NUL and vertical tabulator": f"x\0{MARK}\x0b\x0c{RECORD}",
    "override": f"\u202e{MARK}\u2066",
    "a surrogate's escape": f'\\ud800\\"{MARK}',
}
CHECKS = ("ValidateSession", "BatchValidateSessions", "GetRoles")
EMPTY_MESSAGE = bytes(5)


@pytest.fixture(params=["gate", "no gate"])
async def server(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    """One server as a process, which logs everything that it can."""
    gate = str(request.param == "gate").lower()
    settings = {"LOG__LEVEL": "debug", "LOG__FORMAT": "json", "GATE__ENABLED": gate}
    async with replicas_on(database_url, count=1, **settings) as running:
        yield running


def paths(message: Descriptor) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The text fields of a message and of the messages in it."""
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (field,)
        elif field.message_type is not None and field.message_type.full_name.startswith(
            "watchword"
        ):
            yield from ((field, *path) for path in paths(field.message_type))


def filled(kind: type[Message], path: tuple[FieldDescriptor, ...], text: str) -> Message:
    """A request with this text in one field."""
    message = inner = kind()
    for field in path[:-1]:
        inner = getattr(inner, field.name)
    if path[-1].is_repeated:
        getattr(inner, path[-1].name).extend([text, text])
    else:
        setattr(inner, path[-1].name, text)
    return message


def raw_call(address: str, path: str, **more: str) -> None:
    """Calls by hand, on a connection of its own; whatever the end is, it has come."""
    with RawConnection(address) as connection:
        connection.send(headers(1, header_block(path, **more), flags=END_HEADERS))
        connection.send(frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        list(connection.frames_of(1))


def assert_whole(written: str) -> list[dict[str, object]]:
    """Each line is one record of the program's own, and nothing of what was sent is in any."""
    assert written.isascii()
    assert not [character for character in written if not character.isprintable()][
        written.count("\n") :
    ]
    records = [json.loads(line) for line in written.splitlines()]
    assert all({"event", "level", "timestamp"} <= record.keys() for record in records)
    assert MARK not in written
    return records


async def test_no_text_of_a_request_forges_a_record(server: Replicas) -> None:
    """CR, LF, ANSI, U+2028 and their kind in each text field of each request, one after the other:
    one record a call, nothing raw, and nothing of the text.

    Seen to fail with the request's text in the record, and with a record that is no JSON.
    """
    process = server.servers[0]
    calls = [
        (method, filled(kind, path, text))
        for method, kind in REQUESTS.items()
        for path in paths(kind.DESCRIPTOR)
        for text in TEXTS.values()
    ]
    assert len(calls) > 40 * len(TEXTS)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(process.ready["api"], options) as channel:
        wire = Wire(process.ready["service_key"], channel)
        answers = [await wire.call(method, request) for method, request in calls]
    assert {answer.code.name for answer in answers} <= {
        *("OK", "INVALID_ARGUMENT", "UNAUTHENTICATED", "NOT_FOUND"),
    }
    assert not [answer for answer in answers if MARK in answer.text]
    records = assert_whole(process.log())
    logged = [record for record in records if record["event"] == "call"]
    assert len({record["request_id"] for record in logged}) == len(logged)
    methods = Counter(record["method"] for record in logged)
    made = Counter(f"{SERVICE}/{method}" for method, _ in calls)
    assert methods <= made
    # The gate answers some checks by itself, and logs nothing.
    assert set(made - methods) <= {f"{SERVICE}/{method}" for method in CHECKS}


async def test_no_header_and_no_method_forges_a_record(server: Replicas) -> None:
    """The same texts in `authorization` and in the path, as they are and percent-encoded, by a
    client that keeps to no rule: at most one record a call, nothing raw, and nothing of the text.
    """
    process = server.servers[0]
    address, key = process.ready["api"], process.ready["service_key"]
    register = f"/{SERVICE}/Register"
    calls = 0
    for text in TEXTS.values():
        for authorization in (f"Bearer {text}", f"Bearer {key}{text}", text, quote(text)):
            raw_call(address, register, authorization=authorization)
            calls += 1
        for path in (f"{register}{text}", f"/{SERVICE}/{text}", f"/{text}/Register", quote(text)):
            for sent in (path, quote(path)):
                raw_call(address, sent, authorization=f"Bearer {key}")
                calls += 1
    records = assert_whole(process.log())
    logged = [record for record in records if record["event"] == "call"]
    assert 0 < len(logged) <= calls
    assert {record["method"] for record in logged} == {f"{SERVICE}/Register"}
    assert {record["code"] for record in logged} == {"PERMISSION_DENIED"}
    revoked = await server.clients[0].revoke("ww_none")
    assert revoked.revoked_count == 0


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_defect_with_such_a_text_is_one_record(
    wire: Wire, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """An exception whose message is the caller's choice is one line, traceback and all."""

    async def fail(*_: object) -> None:
        raise ValueError(text)

    register_with(monkeypatch, fail)
    answer = await wire.call(
        "Register", pb.RegisterRequest(full_name="A", username="ada", email="ada@example.com")
    )
    assert (answer.code, MARK in answer.text) == (grpc.StatusCode.INTERNAL, False)
    written = log.getvalue()
    assert written.isascii()
    (record,) = [json.loads(line) for line in written.splitlines()]
    assert (record["event"], record["code"]) == ("call", "INTERNAL")
    assert text.split("\n", maxsplit=1)[0].strip("\r") in record["exception"]
