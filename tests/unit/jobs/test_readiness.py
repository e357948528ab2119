"""When a process calls itself ready: a state machine over the probe's answers.

The probe is scripted here; tests/storage and tests/e2e ask a real PostgreSQL.
"""

import asyncio

import pytest

from watchword.jobs import readiness
from watchword.jobs.readiness import Readiness


class Script:
    """A probe that answers by a script of letters, then waits for ever.

    `o` answers, `x` fails, `t` takes too long, `m` lacks a migration.
    """

    def __init__(self, script: str) -> None:
        self._answers = iter(script)
        self.done = asyncio.Event()
        self.asked: list[str] = []

    async def ping(self) -> None:
        self.asked.append("ping")
        await self._answer()

    async def missing_migrations(self) -> int:
        self.asked.append("schema")
        return await self._answer()

    async def reconnect(self) -> None:
        self.asked.append("reconnect")

    async def _answer(self) -> int:
        letter = next(self._answers, "")
        if letter == "x":
            raise OSError("connection refused")
        if letter == "t":
            await asyncio.sleep(60)
        if letter == "":
            self.done.set()
            await asyncio.Event().wait()
        return int(letter == "m")


async def changes_of(script: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bool], Script]:
    """Plays a script; returns what was announced, in order."""
    monkeypatch.setattr(readiness, "PROBE_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(readiness, "PROBE_TIMEOUT_SECONDS", 0.05)
    announced: list[bool] = []

    async def announce(ready: bool) -> None:
        announced.append(ready)

    probe = Script(script)
    machine = Readiness(probe, announce)
    task = asyncio.create_task(machine.run())
    async with asyncio.timeout(5):
        await probe.done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert machine.became_ready.is_set() is (True in announced)
    return announced, probe


@pytest.mark.parametrize(
    ("script", "announced"),
    [
        ("o", [True]),
        ("ooo", [True]),
        ("m", [False]),
        ("mmo", [False, True]),
        ("x", [False]),
        ("xo", [False, True]),
        ("xxxo", [False, True]),
        ("t", [False]),
        # One failure is an accident, two in a row are not.
        ("ox", [True]),
        ("oxo", [True]),
        ("oxoxox", [True]),
        ("oxx", [True, False]),
        ("oxxxx", [True, False]),
        ("oxxo", [True, False, True]),
        ("oxxoxo", [True, False, True]),
        ("oxxoxx", [True, False, True, False]),
        ("ott", [True, False]),
        ("oxt", [True, False]),
        ("txmxo", [False, True]),
    ],
)
async def test_what_is_announced(
    script: str, announced: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOT_SERVING until the schema is there, after two failures in a row, and only when it changes:
    a probe that takes too long is a failure like any other.
    """
    assert (await changes_of(script, monkeypatch))[0] == announced


async def test_the_schema_is_asked_for_until_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards a ping is enough, also when the database comes back."""
    _, probe = await changes_of("mxooxxo", monkeypatch)
    assert probe.asked == ["schema"] * 3 + ["ping"] * 5
