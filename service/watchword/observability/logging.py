"""structlog to stderr: one line a record, JSON unless a person is watching, and nothing secret.

Redaction is by type: a value is shown when it is of a type that cannot hold a secret or is text
that our own code chose to log. Requests, responses, bytes and Secret never are.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from enum import StrEnum
from typing import Any, Literal, TextIO
from uuid import UUID

import structlog
from pydantic import Field

from watchword.settings import Section

Level = Literal["debug", "info", "warning", "error"]


class LogSettings(Section):
    """How the log looks."""

    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, JSON otherwise; always to stderr"
    )
    level: Level = Field("info", description="the least that is logged")


REDACTED = "[redacted]"
_SHOWN_TYPES = (str, bool, int, float, type(None))


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The processor that replaces every value of a type that could hold a secret."""
    return {key: value if key == "exc_info" else _shown(value) for key, value in event.items()}


def _escape_controls(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """For the terminal, which would obey them; JSON escapes them by itself."""
    return {
        key: ascii(value)[1:-1] if isinstance(value, str) and not value.isprintable() else value
        for key, value in event.items()
    }


def _shown(value: object) -> object:
    # Exactly these types: a subclass may print more than it looks like.
    if type(value) in _SHOWN_TYPES:
        return value
    if isinstance(value, UUID | StrEnum):  # the driver has a UUID of its own
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _shown(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [_shown(inner) for inner in value]
    return REDACTED


def configure_logging(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Sets up structlog, and sends the standard library's records the same way."""
    stream = stream if stream is not None else sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    # Tracebacks without local variables: those hold tokens and codes.
    ending: list[structlog.types.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [
            _escape_controls,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    level = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
