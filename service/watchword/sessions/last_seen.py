"""When sessions were last seen, collected in memory until jobs/last_seen_writer.py stores it.

A check costs no write: of each session one time is kept, the latest, and it is stored when what is
stored already is older than a period. Whoever is told too early that a session is idle has to sign
in again; so the period is short beside the idle lifetime.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

PERIOD_MAX: Final = timedelta(minutes=10)
# What is stored may be two periods behind: a tenth of the idle lifetime.
PERIODS_IN_IDLE_LIFETIME: Final = 20
SESSIONS_MAX: Final = 65_536


def report_period(idle_lifetime: timedelta) -> timedelta:
    """Returns how seldom a session's last-seen is stored: 10 minutes, less for short lifetimes."""
    return min(PERIOD_MAX, idle_lifetime / PERIODS_IN_IDLE_LIFETIME)


class LastSeen:
    """What this process has seen and not stored yet, of SESSIONS_MAX sessions at most."""

    def __init__(self, idle_lifetime: timedelta) -> None:
        self.period = report_period(idle_lifetime)
        self._times: dict[UUID, datetime] = {}

    def note(self, session_id: UUID, *, stored: datetime, seen: datetime) -> bool:
        """Keeps that a session was seen if what is stored is a period older; whether it did."""
        return seen - stored >= self.period and self.add(session_id, seen)

    def add(self, session_id: UUID, seen: datetime) -> bool:
        """Keeps the later of two times; False when there is no room.

        That is safe: nothing was stored, so the session's next miss, a minute later if it is used,
        notes it again.
        """
        known = self._times.get(session_id)
        if known is None and len(self._times) >= SESSIONS_MAX:
            return False
        if known is None or known < seen:
            self._times[session_id] = seen
        return True

    def take(self) -> dict[UUID, datetime]:
        """Returns what has been collected, and begins anew."""
        taken, self._times = self._times, {}
        return taken

    def put_back(self, taken: Mapping[UUID, datetime]) -> None:
        """Keeps what could not be stored beside what has been seen since."""
        for session_id, seen in taken.items():
            self.add(session_id, seen)

    def __len__(self) -> int:
        return len(self._times)
