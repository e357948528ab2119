"""A bug as a change of Watchword's text, and the files and tests that several of them name."""

from dataclasses import dataclass

ATTEMPTS_PY = "storage/attempts.py"
VERIFY_PY = "login/verify_otp.py"


@dataclass(frozen=True, slots=True)
class Change:
    """A piece of text of a file below service/watchword, and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug by name, and the tests each of which has to fail with it."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
