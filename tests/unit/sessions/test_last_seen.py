"""What is kept of sessions that were seen: the latest time of each, and of a bounded number."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from watchword.sessions import last_seen as module
from watchword.sessions.last_seen import LastSeen, report_period

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
MINUTES_10 = timedelta(minutes=10)
NOW = datetime(2026, 11, 27, tzinfo=UTC)
ADA, EVE, BOB = (UUID(int=number) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("idle_lifetime", "expected"),
    [
        (7 * DAY, MINUTES_10),
        (timedelta(minutes=200), MINUTES_10),
        (timedelta(minutes=20), timedelta(minutes=1)),
        (SECOND, SECOND / 20),
    ],
)
def test_the_period_is_ten_minutes_or_less(idle_lifetime: timedelta, expected: timedelta) -> None:
    """Two of them, by which the stored time may be behind, are a tenth of the lifetime at most."""
    assert report_period(idle_lifetime) == expected
    assert LastSeen(idle_lifetime).period == expected


def test_a_session_is_noted_once_a_period() -> None:
    """Not while what is stored is younger (the guard: the comparison in `note`)."""
    seen = LastSeen(7 * DAY)
    assert not seen.note(ADA, stored=NOW - MINUTES_10 + SECOND, seen=NOW)
    assert seen.take() == {}
    assert seen.note(ADA, stored=NOW - MINUTES_10, seen=NOW)
    assert seen.take() == {ADA: NOW}
    assert seen.take() == {}


def test_the_latest_time_is_kept() -> None:
    """Whatever the order, and also when what could not be stored comes back (the guard: `known <
    seen`).
    """
    seen = LastSeen(7 * DAY)
    for time in (NOW, NOW + SECOND, NOW - SECOND):
        assert seen.add(ADA, time)
    taken = seen.take()
    assert taken == {ADA: NOW + SECOND}
    seen.add(ADA, NOW + 2 * SECOND)
    seen.put_back(taken | {EVE: NOW})
    assert seen.take() == {ADA: NOW + 2 * SECOND, EVE: NOW}


def test_a_full_collector_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more sessions than there is room for (the guard: SESSIONS_MAX), and no less known of those
    that are there; a miss that finds no room leaves it to the next.
    """
    assert module.SESSIONS_MAX == 65_536
    monkeypatch.setattr(module, "SESSIONS_MAX", 2)
    seen = LastSeen(7 * DAY)
    assert seen.add(ADA, NOW)
    assert seen.add(EVE, NOW)
    assert not seen.add(BOB, NOW)
    assert not seen.note(BOB, stored=NOW - DAY, seen=NOW)
    assert seen.add(EVE, NOW + SECOND)
    assert len(seen) == 2
    assert seen.take() == {ADA: NOW, EVE: NOW + SECOND}
    assert seen.add(BOB, NOW)
