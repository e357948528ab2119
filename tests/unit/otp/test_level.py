"""Which form a new code has, and which level so many wrong codes ask for."""

from datetime import timedelta

import pytest

from watchword.otp.level import (
    CALM_TIME,
    Alarm,
    CodeLevel,
    Standing,
    code_form,
    reached_level,
)
from watchword.otp.policy import LONG_CODE_FORM, OtpPolicy

CALM, EIGHT, LONG = CodeLevel


@pytest.mark.parametrize("length", [6, 7, 8, 9, 10])
@pytest.mark.parametrize("known_device", [False, True])
@pytest.mark.parametrize("spent", [False, True])
@pytest.mark.parametrize("level", CodeLevel)
def test_the_form_of_a_new_code(
    level: CodeLevel, spent: bool, known_device: bool, length: int
) -> None:
    """13 when the budget is spent or the level is long, else 8 at least at the lower level; the
    level never makes the codes of a known device long.
    """
    form = code_form(
        OtpPolicy(code_length=length), Standing(spent, level), known_device=known_device
    )
    if spent or (level is LONG and not known_device):
        assert form == LONG_CODE_FORM
    elif level is CALM:
        assert form == length
    else:
        assert form == max(8, length)


@pytest.mark.parametrize(
    ("in_minute", "in_day", "expected"),
    [
        (0, 0, CALM),
        (59, 1_999, CALM),
        (60, 60, EIGHT),
        (0, 2_000, EIGHT),
        (599, 1_000_000, EIGHT),
        (600, 600, LONG),
    ],
)
def test_the_level_that_is_reached(in_minute: int, in_day: int, expected: CodeLevel) -> None:
    """60 in a minute or 2,000 in 24 hours, 600 in a minute; 6 calm hours."""
    assert reached_level(OtpPolicy(), in_minute=in_minute, in_day=in_day) is expected
    assert timedelta(hours=6) == CALM_TIME


def test_the_thresholds_are_settings() -> None:
    """Each of the three, from 1."""
    policy = OtpPolicy(eight_digits_per_minute=9, eight_digits_per_day=99, long_codes_per_minute=1)
    assert reached_level(policy, in_minute=1, in_day=0) is LONG
    policy = OtpPolicy(eight_digits_per_minute=9, eight_digits_per_day=99)
    assert reached_level(policy, in_minute=9, in_day=0) is EIGHT
    assert reached_level(policy, in_minute=8, in_day=99) is EIGHT
    with pytest.raises(ValueError, match="eight_digits_per_day"):
        OtpPolicy(eight_digits_per_day=0)


def test_the_level_that_holds() -> None:
    """The higher one that has not ended; at its end it holds no more."""
    hour, none = timedelta(hours=1), timedelta(0)
    assert Alarm(none, none, 0, 0).level is CALM
    assert Alarm(hour, -hour, 0, 0).level is EIGHT
    assert Alarm(hour, hour / 2, 0, 0).level is LONG
    assert Alarm(hour, hour / 2, 0, 0).left(LONG) == hour / 2
    assert Alarm(hour, hour / 2, 0, 0).left(EIGHT) == hour
