"""What a call may spend on the database."""

import pytest

from watchword.transport.pipeline import database_budget_seconds


@pytest.mark.parametrize(
    ("time_left", "budget"),
    [
        (None, 2.0),
        (60.0, 2.0),
        (2.1, 2.0),
        (2.0, 1.9),
        (1.0, 0.9),
        (0.2, 0.1),
        (0.1, 0.0),
        (0.05, 0.0),
        (0.0, 0.0),
        (-1.0, 0.0),
    ],
)
def test_budget_is_the_time_left_less_the_way_back(time_left: float | None, budget: float) -> None:
    """At most 2 s, at most the time left less 100 ms, never negative; no deadline counts as 5 s."""
    assert database_budget_seconds(time_left) == pytest.approx(budget)
