"""One line a record, whatever is in it, and nothing secret (threats rows 24 and 36)."""

import io
import json
import logging
from collections.abc import Iterator
from enum import StrEnum
from uuid import UUID

import asyncpg.pgproto.pgproto
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from watchword.crypto import CodeSource, Secret
from watchword.observability.logging import REDACTED, LogSettings, configure_logging, redact
from watchword_client import auth_service_pb2 as pb

CANARY = "CANARY-4711"
INJECTION = (
    "x\r\n"
    '{"event": "forged"}\n'
    "\x1b[31mred\x1b[0m\x1b]0;title\x07"
    "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\x00\u202e"
)


class Colour(StrEnum):
    """An enum of our own code."""

    RED = "red"


class Loud(str):
    """A text that prints more than it looks like."""

    __slots__ = ()

    def __str__(self) -> str:
        return CANARY

    __repr__ = __str__


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The log, as JSON, from debug on."""
    written = io.StringIO()
    configure_logging(LogSettings(format="json", level="debug"), stream=written)
    yield written
    configure_logging(LogSettings(format="json", level="warning"))


def records(stream: io.StringIO) -> list[dict[str, object]]:
    """Every record; a line that is no JSON object fails."""
    made = []
    for line in stream.getvalue().split("\n")[:-1]:
        record = json.loads(line)
        assert isinstance(record, dict)
        made.append(record)
    return made


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        (7, 7),
        (0.5, 0.5),
        (True, True),
        (None, None),
        (UUID(int=7), str(UUID(int=7))),
        (asyncpg.pgproto.pgproto.UUID(bytes(16)), str(UUID(int=0))),
        (Colour.RED, "red"),
        (["a", 1, None], ["a", 1, None]),
        (("a", (1,)), ["a", [1]]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        ([], []),
    ],
)
def test_what_cannot_hold_a_secret_is_shown(value: object, shown: object) -> None:
    """Plain text and numbers, ids, our enums, and collections of them."""
    assert redact(None, "", {"value": value}) == {"value": shown}


@pytest.mark.parametrize(
    "value",
    [
        Secret(CANARY),
        SecretStr(CANARY),
        CANARY.encode(),
        bytearray(CANARY.encode()),
        memoryview(CANARY.encode()),
        pb.VerifyOtpResponse(session_token=CANARY),
        pb.RegisterRequest(email=CANARY),
        ValueError(CANARY),
        CodeSource(1, CANARY, UUID(int=1), b"", b""),
        Loud(CANARY),
        {CANARY},
        frozenset({CANARY}),
        LogSettings(),
        lambda: CANARY,
        object(),
        iter([CANARY]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_hold_a_secret_is_not(value: object, stream: io.StringIO) -> None:
    """By type, at any depth: Secret, bytes, messages, exceptions, sets, and every class that nobody
    thought of (the guard: `_shown` lets only known types through).
    """
    assert redact(None, "", {"value": value})["value"] == REDACTED
    nested = redact(None, "", {"value": {"a": [value, (value,)]}})["value"]
    assert nested == {"a": [REDACTED, [REDACTED]]}
    structlog.get_logger("test").warning("event", value=value, list=[value])
    assert CANARY not in stream.getvalue()
    assert records(stream)[0]["value"] == REDACTED


def test_a_secret_as_a_key_is_not_shown(stream: io.StringIO) -> None:
    """Keys become text the same careful way."""
    source = {SecretStr(CANARY): 1}
    structlog.get_logger("test").warning("event", value=source)
    assert CANARY not in stream.getvalue()


def test_a_text_cannot_forge_a_record(stream: io.StringIO) -> None:
    """CR, LF, ANSI, U+2028 and their kind in every place: one line each, and they come back as they
    were (the guard: JSON that is ASCII).
    """
    log = structlog.get_logger("test")
    log.warning(INJECTION, **{"value": INJECTION, INJECTION: 1, "list": [INJECTION]})
    logging.getLogger("library").warning("%s", INJECTION)
    try:
        raise ValueError(INJECTION)
    except ValueError:
        log.exception("failed")
    first, second, third = records(stream)
    assert first["event"] == first["value"] == second["event"] == INJECTION
    assert third["event"] == "failed"
    written = stream.getvalue()
    assert written.isascii()
    assert not any(character in written for character in "\r\x1b\x07\x00\x0b\x0c\x1c")
    assert len(written.splitlines()) == 3


def test_a_terminal_is_sent_no_control_characters() -> None:
    """The console format escapes what a terminal would obey (the guard: `_escape_controls`)."""
    stream = io.StringIO()
    configure_logging(LogSettings(format="console"), stream=stream)
    structlog.get_logger().warning("refused", detail="\x1b[2J")
    logging.getLogger("library").warning("gone\r\nforged\x1b[2J")
    assert stream.getvalue().count("\n") == 2
    assert "\x1b[2J" not in stream.getvalue()
    assert "gone" in stream.getvalue()


@settings(deadline=None)
@given(st.text())
def test_any_text_is_one_line(text: str) -> None:
    """Whatever characters there are."""
    written = io.StringIO()
    configure_logging(LogSettings(format="json"), stream=written)
    structlog.get_logger("test").warning("event", value=text)
    assert len(written.getvalue().splitlines()) == 1
    assert json.loads(written.getvalue())["value"] == text


def test_a_traceback_has_no_local_variables(stream: io.StringIO) -> None:
    """Locals hold tokens and codes; the traceback says where, not with what."""
    token = CANARY
    try:
        raise LookupError(str(len(token)))
    except LookupError as error:
        structlog.get_logger("test").error("failed", exc_info=error)
    (record,) = records(stream)
    assert "LookupError: 11" in str(record["exception"])
    assert "Traceback" in str(record["exception"])
    assert CANARY not in stream.getvalue()


def test_a_record_of_a_library_looks_the_same(stream: io.StringIO) -> None:
    """The standard library's records have level and time, and their extras are not shown."""
    logging.getLogger("library").error("words", extra={"body": CANARY.encode()})
    structlog.get_logger("test").error("words")
    theirs, ours = records(stream)
    assert set(theirs) == set(ours) == {"event", "level", "timestamp"}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_the_level_is_a_setting(level: str, expected: list[str]) -> None:
    """For our own records and for a library's."""
    written = io.StringIO()
    settings = LogSettings.model_validate({"format": "json", "level": level})
    configure_logging(settings, stream=written)
    for log in (structlog.get_logger("test"), logging.getLogger("library")):
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
    assert [record["event"] for record in records(written)] == expected * 2


def test_auto_is_json_where_nobody_watches() -> None:
    """A terminal gets the console format, a file or a pipe JSON."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        configure_logging(LogSettings(format="auto"), stream=stream)
        structlog.get_logger("test").warning("event", code=Secret(CANARY))
        assert CANARY not in stream.getvalue()
    assert json.loads(pipe.getvalue())["event"] == "event"
    with pytest.raises(json.JSONDecodeError):
        json.loads(terminal.getvalue())
