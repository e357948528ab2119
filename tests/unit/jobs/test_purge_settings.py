"""What may be set for the purger."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from watchword.jobs.purger import PurgeSettings
from watchword.otp.policy import OtpPolicy
from watchword.users.model import REGISTRATION_LIFETIME


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention", "59m"),
        ("retention", "3651d"),
        ("session_retention", "0s"),
        ("interval", "0s"),
        ("interval", "2d"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: str) -> None:
    """Dead rows are kept for an hour at least: no transaction that saw one alive lasts that long.

    A pass every moment would be load, and one in two days a backlog.
    """
    with pytest.raises(ValidationError, match=name):
        PurgeSettings.model_validate({name: value})


def test_the_least_retention_outlasts_every_code() -> None:
    """Nobody comes back with a code whose challenge was purged, however it is set."""
    least = PurgeSettings.model_validate({"retention": "1h"}).retention
    with pytest.raises(ValidationError):
        OtpPolicy(lifetime=least)
    assert least >= REGISTRATION_LIFETIME
    assert PurgeSettings().retention == timedelta(days=1)
