"""What a check answers, and how one is run so that its end hurts nothing else."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

# More than any check takes by its own limits, which know better words.
CHECK_TIMEOUT_SECONDS: Final = 15.0


class Level(StrEnum):
    """How a finding is meant: in order, to be thought over, to be mended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `hint` says what to do and is empty where nothing is to be done."""

    level: Level
    message: str
    hint: str = ""
    check: str = ""


Check = Callable[[], Awaitable[Sequence[Finding]]]


def ok(message: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, message)


def warning(message: str, hint: str) -> Finding:
    """It works, and may not be what is wanted."""
    return Finding(Level.WARNING, message, hint)


def failure(message: str, hint: str) -> Finding:
    """It does not work, or loses what was promised."""
    return Finding(Level.FAILURE, message, hint)


async def run_check(name: str, check: Check) -> list[Finding]:
    """Runs one check within its time; whatever it raises is its own failure."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            findings = await check()
    except TimeoutError:
        findings = [failure("took too long", "what it asks hangs; ask it by hand")]
    except Exception as error:
        # The kind and the place alone: the words may hold a secret.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        findings = [
            failure(
                f"the check itself failed: {type(error).__name__} at {place}",
                "report it, with the version of Watchword",
            )
        ]
    return [Finding(one.level, _line(one.message), _line(one.hint), check=name) for one in findings]


def _line(text: str) -> str:
    """One line that a terminal does not obey: a server's words may be in it."""
    line = " ".join(text.split())
    return line if line.isprintable() else ascii(line)[1:-1]
