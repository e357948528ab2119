"""How long a failed mail waits."""

from datetime import timedelta

import pytest

from watchword.jobs.mail_dispatcher import (
    LEASE_LIFETIME,
    RETRY_MAX_SECONDS,
    SEND_TIMEOUT_SECONDS,
    _retry_delay,
)
from watchword.senders.failover import PROVIDER_TIMEOUT_SECONDS


@pytest.mark.parametrize(
    ("attempts", "ceiling"), [(1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (10_000, 30.0)]
)
def test_the_wait_doubles_with_jitter(attempts: int, ceiling: float) -> None:
    """Half of it is by chance, so that mails which failed together do not come back together."""
    delays = [_retry_delay(attempts).total_seconds() for _ in range(200)]
    assert ceiling / 2 <= min(delays) < max(delays) <= ceiling
    assert max(delays) <= RETRY_MAX_SECONDS
    assert len(set(delays)) > 100


@pytest.mark.parametrize("seconds", [5, 300])
def test_what_a_provider_asked_for_is_the_least(seconds: int) -> None:
    """Never sooner, and still not all at the same moment."""
    asked = timedelta(seconds=seconds)
    delays = [_retry_delay(2, asked) for _ in range(200)]
    assert asked <= min(delays) < max(delays) <= asked + timedelta(seconds=1)
    assert len(set(delays)) > 100


def test_a_short_request_does_not_shorten_the_wait() -> None:
    """A provider that says 0 again and again is asked less and less all the same."""
    assert _retry_delay(6, timedelta(0)) >= timedelta(seconds=15)


def test_the_lease_outlasts_two_providers_that_hang() -> None:
    """Or another dispatcher would send the mail meanwhile."""
    assert 2 * PROVIDER_TIMEOUT_SECONDS < SEND_TIMEOUT_SECONDS < LEASE_LIFETIME.total_seconds()
