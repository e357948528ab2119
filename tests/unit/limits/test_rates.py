"""Rates: how they are written, and that no window of the period ever holds more than they say."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.limits.model import COUNT_MAX, Rate, Window, parse_rate
from watchword.limits.policy import LimitsPolicy, windows

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DEFAULTS = [Rate(1, 60 * SECOND), Rate(5, HOUR), Rate(10, DAY), Rate(30, HOUR), Rate(60, HOUR)]

counts = st.integers(1, 200)
periods = st.integers(1, 10_000).map(lambda seconds: seconds * SECOND)
gaps_us = st.lists(
    st.one_of(st.just(0), st.integers(0, 10**6), st.integers(0, 10**10)), max_size=300
)


def admitted(window: Window, arrivals_us: Iterable[int]) -> Iterator[int]:
    """Yields the times at which the algorithm of storage/limits.py takes a unit."""
    tat_us = 0
    for now_us in arrivals_us:
        if tat_us <= now_us + window.slack_us:
            tat_us = max(tat_us, now_us) + window.step_us
            yield now_us


def greedy(window: Window, units: int) -> Iterator[int]:
    """Yields the earliest times at which so many units are taken one after the other."""
    now_us = tat_us = 10**15
    for _ in range(units):
        now_us = max(now_us, tat_us - window.slack_us)
        tat_us = max(tat_us, now_us) + window.step_us
        yield now_us


def most_in_a_window(times_us: list[int], period: timedelta) -> int:
    """Returns the largest number of times in any half-open window of the period."""
    period_us = period // MICROSECOND
    first = most = 0
    for last, time_us in enumerate(times_us):
        while times_us[first] <= time_us - period_us:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(counts, periods, gaps_us)
def test_no_window_holds_more_than_the_rate_says(
    count: int, period: timedelta, gaps: list[int]
) -> None:
    """Whoever comes whenever: at most N in any window.

    Seen to fail with a burst of N and an interval of period / N, the usual choice.
    """
    now_us, arrivals = 10**15, []
    for gap_us in gaps:
        now_us += gap_us
        arrivals += [now_us] * 3
    taken = list(admitted(Rate(count, period).window(), arrivals))
    assert most_in_a_window(taken, period) <= count


@given(counts, periods)
def test_the_greediest_get_what_the_rate_says(count: int, period: timedelta) -> None:
    """Who asks at the earliest moments gets N in a period, or N - 1 for the rounding, not more."""
    taken = list(greedy(Rate(count, period).window(), 3 * count + 3))
    assert count - 1 <= most_in_a_window(taken, period) <= count


@pytest.mark.parametrize("rate", DEFAULTS, ids=str)
def test_the_defaults_give_all_that_they_say(rate: Rate) -> None:
    """None of them loses one to the rounding."""
    taken = list(greedy(rate.window(), 3 * rate.count))
    assert most_in_a_window(taken, rate.period) == rate.count


def test_a_burst_is_half_of_the_count() -> None:
    """ceil(N / 2) at one moment, and the next after period / (N - B + 1)."""
    window = Rate(5, HOUR).window()
    assert window == Window(step_us=20 * 60 * 10**6, slack_us=40 * 60 * 10**6)
    assert list(admitted(window, [10**15] * 9)) == [10**15] * 3
    assert Rate(1, 60 * SECOND).window() == Window(step_us=60 * 10**6, slack_us=0)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1/60s", Rate(1, 60 * SECOND)),
        ("5/1h", Rate(5, HOUR)),
        ("1000000/30d", Rate(COUNT_MAX, 30 * DAY)),
        ("off", None),
    ],
)
def test_rates_are_read(text: str, rate: Rate | None) -> None:
    """`N/period`, or `off`."""
    assert parse_rate(text) == rate
    if rate is not None:
        assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "/1h", "5/", "5/h", "0/1h", "-1/1h", "1.5/1h", "5/1h ", "5 / 1h", "5/1h5/1h"),
        *("5/0s", "5/31d", "5/999999999d", "1000001/1h", "99999999/1h", "OFF", "٥/1h", "5/1w"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """A sentence says what would be accepted."""
    with pytest.raises(ValueError, match="`off`"):
        parse_rate(text)


def test_the_defaults_are_those_of_the_design() -> None:
    """Three windows of a mailbox in one row; `off` leaves its window out."""
    policy = LimitsPolicy()
    mailbox = (policy.mailbox_minute, policy.mailbox_hour, policy.mailbox_day)
    assert mailbox == ("1/60s", "5/1h", "10/1d")
    assert windows(*mailbox) == tuple(rate.window() for rate in DEFAULTS[:3])
    assert windows("1/60s", "off", "10/1d") == (DEFAULTS[0].window(), DEFAULTS[2].window())
    assert windows("off") == ()
