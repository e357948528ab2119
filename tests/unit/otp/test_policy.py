"""The numbers that bound guessing."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from watchword.otp.model import IssuedChallenge
from watchword.otp.policy import (
    ATTEMPTS_BY_EMAIL_MAX,
    DAY,
    FAILURE_BUDGET,
    MONTH,
    NEWEST_BY_EMAIL,
    FailureBudget,
    OtpPolicy,
)


def test_the_defaults_are_the_documented_ones() -> None:
    """6 digits, 5 minutes, 5 attempts by id, 3 by e-mail over the newest 3."""
    policy = OtpPolicy()
    assert (policy.code_length, policy.lifetime, policy.attempts_max) == (
        6,
        timedelta(minutes=5),
        5,
    )
    assert (ATTEMPTS_BY_EMAIL_MAX, NEWEST_BY_EMAIL) == (3, 3)


def test_the_failure_budget_is_the_documented_one() -> None:
    """10 in 24 hours, 50 in 30 days, 100 in a row, as NIST SP 800-63B-4, 3.2.2 allows at most."""
    assert FailureBudget(in_day=10, in_month=50, in_a_row=100) == FAILURE_BUDGET
    assert (timedelta(hours=24), timedelta(days=30)) == (DAY, MONTH)


@pytest.mark.parametrize(
    "setting",
    [
        {"code_length": "5"},
        {"code_length": "11"},
        {"code_length": "13"},
        {"lifetime": "601s"},
        {"lifetime": "11m"},
        {"lifetime": "29s"},
        {"attempts_max": "0"},
        {"attempts_max": "11"},
    ],
)
def test_no_setting_leaves_the_bounds(setting: dict[str, str]) -> None:
    """6 to 10 digits, at most 10 minutes (NIST SP 800-63B-4, 3.1.3.2), 1 to 10 attempts."""
    with pytest.raises(ValueError, match=next(iter(setting))):
        OtpPolicy.model_validate(setting)


def test_resend_time_is_a_minute_after_this_mail() -> None:
    """Counted from the mail that was just asked for, not from the challenge's beginning."""
    asked = datetime(2026, 1, 1, tzinfo=UTC)
    issued = IssuedChallenge(
        id=UUID(int=1), code_form=6, expire_time=asked + timedelta(minutes=5), asked_time=asked
    )
    assert issued.resend_time == asked + timedelta(seconds=60)
