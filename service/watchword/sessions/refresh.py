"""Which secret of a session was presented, and what a refresh makes of it: no I/O.

The rule is that of refresh tokens whose reuse is found out (RFC 9700, section 4.14.2), but for a
client that lost an answer: the secret before the present one stays good until the present one was
seen in use, and half a minute longer.
"""

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from watchword.crypto import verifier_matches
from watchword.sessions.model import Secrets

# How long the secret before the present one is good after the first use of the present one.
OVERLAP: Final = timedelta(seconds=30)


class Presented(Enum):
    """Whose verifier was presented."""

    PRESENT = "present"
    # Of the secret before, which is still good.
    PREVIOUS = "previous"
    # Of no secret that is good: an older one, or another.
    NEITHER = "neither"


def judge(secrets: Secrets, verifier: bytes, *, at: datetime) -> Presented:
    """Says which secret has this verifier at a time of the database; compares in constant time."""
    if verifier_matches(verifier, secrets.verifier):
        return Presented.PRESENT
    end = secrets.previous_end_time
    good = secrets.previous is not None and (end is None or at < end)
    if good and secrets.previous is not None and verifier_matches(verifier, secrets.previous):
        return Presented.PREVIOUS
    return Presented.NEITHER


def is_first_use(secrets: Secrets, presented: Presented) -> bool:
    """Whether the present secret is in use and the one before does not end yet."""
    waits = secrets.previous is not None and secrets.previous_end_time is None
    return waits and presented is Presented.PRESENT
