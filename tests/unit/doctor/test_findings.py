"""How a check is run: named, bounded, and hurting no other."""

import asyncio
from collections.abc import Sequence

import pytest

from watchword.doctor import findings
from watchword.doctor.findings import Finding, Level, ok, run_check, warning


async def test_a_finding_gets_the_name_of_its_check() -> None:
    """In order, whatever their level."""

    async def check() -> Sequence[Finding]:
        return [ok("fine"), warning("odd", "look")]

    assert await run_check("thing", check) == [
        Finding(Level.OK, "fine", "", "thing"),
        Finding(Level.WARNING, "odd", "look", "thing"),
    ]


async def test_a_crash_is_a_failure_of_that_check() -> None:
    """Kind and place are told, the words are not: they may hold a secret (the guard: run_check)."""

    async def check() -> Sequence[Finding]:
        raise KeyError("CANARY")

    (found,) = await run_check("thing", check)
    assert found.level is Level.FAILURE
    assert found.message.startswith("the check itself failed: KeyError at test_findings.py:")
    assert "CANARY" not in str(found)


async def test_a_check_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a failure, after the longest time that one may take (the guard: asyncio.timeout)."""
    monkeypatch.setattr(findings, "CHECK_TIMEOUT_SECONDS", 0.05)

    async def check() -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []

    async with asyncio.timeout(5):
        (found,) = await run_check("thing", check)
    assert (found.level, found.message) == (Level.FAILURE, "took too long")


async def test_a_finding_is_one_line_that_no_terminal_obeys() -> None:
    """A server's words may be in it (the guard: findings._line)."""

    async def check() -> Sequence[Finding]:
        return [warning("a\nb\tc", "\x1b[31mred")]

    (found,) = await run_check("thing", check)
    assert (found.message, found.hint) == ("a b c", "\\x1b[31mred")
