"""Which tokens make a device known, and what stays the same of it from sign-in to sign-in."""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from watchword.crypto import DeviceTimes, KeyRing, Secret
from watchword.login.devices import known_device, next_token
from watchword.sessions.model import Session

KEYS = KeyRing([(1, b"\x01" * 32)], b"\x03" * 32)
ADA, EVE = b"\x07" * 32, b"\x08" * 32
DAY, HOUR, MARGIN = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def token(*, ago: timedelta = timedelta(0), since: int = 1, subject_key: bytes = ADA) -> Secret:
    """A token that was issued so long ago by this machine's clock."""
    issued_us = time.time_ns() // 1000 - ago // timedelta(microseconds=1)
    return KEYS.mint_device_token(subject_key, DeviceTimes(since, issued_us))


def session(begun: datetime) -> Session:
    """A session that began then."""
    return Session(UUID(int=1), UUID(int=2), begun, begun, begun + 30 * DAY)


@pytest.mark.parametrize(
    ("ago", "known"),
    [
        (timedelta(0), True),
        (180 * DAY - MARGIN, True),
        (180 * DAY, False),
        (500 * DAY, False),
        (MARGIN - HOUR, True),
        (-HOUR - MARGIN, False),
    ],
)
def test_a_token_counts_for_180_days(ago: timedelta, known: bool) -> None:
    """Nor may it come from more than an hour ahead.

    Seen to fail with either end taken out of `_is_current`.
    """
    assert (known_device(KEYS, ADA, token(ago=ago)) is not None) == known


def test_what_is_no_token_of_the_subject_is_as_good_as_none() -> None:
    """No token, another subject's, and text of any kind."""
    assert known_device(KEYS, ADA, None) is None
    assert known_device(KEYS, ADA, token(subject_key=EVE)) is None
    for text in ("", "wwd_", token().reveal()[:-1], "x" * 256):
        assert known_device(KEYS, ADA, Secret(text)) is None


def test_devices_are_told_apart() -> None:
    """Another first sign-in or another subject is another device; none shows its key."""
    devices = [
        known_device(KEYS, subject_key, token(since=since, subject_key=subject_key))
        for subject_key in (ADA, EVE)
        for since in (1, 2)
    ]
    assert len({device.key for device in devices if device is not None}) == 4
    assert "key" not in repr(devices)


def test_a_device_stays_itself() -> None:
    """The token of a later sign-in is a new one of the same device, so no count starts again.

    Seen to fail with `since` of the new session in every token.
    """
    begun = datetime.now(UTC).replace(microsecond=123_456)
    first = next_token(KEYS, ADA, None, session(begun))
    device = known_device(KEYS, ADA, first)
    assert device is not None
    assert device.since_us == int(begun.timestamp()) * 1_000_000 + 123_456
    later = next_token(KEYS, ADA, device, session(begun + MARGIN))
    assert later != first
    assert known_device(KEYS, ADA, later) == device
