"""Known devices: those that have signed in to a subject before, in the manner of device cookies
(OWASP, "Slow Down Online Guessing Attacks with Device Cookies").

Such a device has counts of its own in place of every one that strangers share, so that whoever
spends those cannot lock it out. It has nothing else: no session, no right, no other answer.
"""

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from watchword.crypto import DeviceTimes, KeyRing, Secret, is_device_token
from watchword.login.context import LoginContext
from watchword.otp.model import KnownDevice, Purpose
from watchword.otp.policy import DEVICE_TOKEN_AHEAD_MAX, DEVICE_TOKEN_LIFETIME
from watchword.sessions.model import Session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LIFETIME_US = DEVICE_TOKEN_LIFETIME // _MICROSECOND
_AHEAD_MAX_US = DEVICE_TOKEN_AHEAD_MAX // _MICROSECOND


def known_device(keys: KeyRing, subject_key: bytes, token: Secret | None) -> KnownDevice | None:
    """Returns the device whose token this is; a token that is not right is as good as none."""
    times = None if token is None else keys.check_device_token(token, subject_key)
    if times is None or not _is_current(times):
        return None
    since = times.since_us.to_bytes(8, "big", signed=True)
    key = keys.limit_key("known_device", subject_key + since)
    return KnownDevice(key, since_us=times.since_us)


async def known_device_of(
    ctx: LoginContext, challenge_id: UUID, token: Secret | None
) -> KnownDevice | None:
    """Returns the same for a challenge, whose subject is looked up if the token has the form."""
    if token is None or not is_device_token(token):
        return None
    subject_key = await ctx.database.run_statement(
        lambda tx: tx.challenges.subject_of(challenge_id, purpose=Purpose.SIGN_IN)
    )
    return None if subject_key is None else known_device(ctx.keys, subject_key, token)


def next_token(
    keys: KeyRing, subject_key: bytes, device: KnownDevice | None, session: Session
) -> Secret:
    """Mints the token of the device that has just begun this session; a known one stays itself."""
    issued_us = (session.create_time - _EPOCH) // _MICROSECOND  # by the database
    since_us = issued_us if device is None else device.since_us
    return keys.mint_device_token(subject_key, DeviceTimes(since_us, issued_us))


def _is_current(times: DeviceTimes) -> bool:
    # The host's clock: only convenience hangs on it, and the database's would cost a statement.
    now_us = int(time.time() * 1_000_000)  # noqa: TID251  # says so above
    return -_AHEAD_MAX_US <= now_us - times.issued_us < _LIFETIME_US
