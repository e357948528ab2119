"""The first gate: what it remembers, and that it forgets rather than refuse for too long."""

from datetime import timedelta

import pytest

from watchword.limits import gate
from watchword.limits.gate import FirstGate
from watchword.limits.model import Bucket, LimitKind, Shortage


def bucket(number: int) -> Bucket:
    """A bucket of its own."""
    return Bucket(LimitKind.CLIENT, number.to_bytes(32, "big"), ())


def shortage(number: int, seconds: float) -> Shortage:
    """It has no room for so long."""
    return Shortage(bucket(number), timedelta(seconds=seconds))


class Clock:
    """The gate's clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr(FirstGate, "now", staticmethod(lambda: self.seconds))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of this test."""
    return Clock(monkeypatch)


def test_a_refusal_is_repeated_until_its_end(clock: Clock) -> None:
    """The wait shrinks, counted from before the database was asked; then it is let through."""
    first = FirstGate()
    first.remember([shortage(1, 10)], asked=999.0)
    assert first.shortages([bucket(1), bucket(2)]) == [shortage(1, 9)]
    clock.seconds = 1008.0
    assert first.shortages([bucket(1)]) == [shortage(1, 1)]
    clock.seconds = 1009.0
    assert first.shortages([bucket(1)]) == []


def test_a_shortage_that_is_over_refuses_nobody(clock: Clock) -> None:
    """A bucket that drained before its wait was read is let through."""
    first = FirstGate()
    first.remember([shortage(1, 0)], asked=1000.0)
    assert first.shortages([bucket(1)]) == []


@pytest.mark.usefixtures("clock")
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest refusals are forgotten; the database knows them still."""
    monkeypatch.setattr(gate, "ENTRIES_MAX", 3)
    first = FirstGate()
    for number in (1, 2, 3, 1, 4):
        first.remember([shortage(number, 60)], asked=1000.0)
    kept = [number for number in range(1, 5) if first.shortages([bucket(number)])]
    assert kept == [1, 3, 4]
