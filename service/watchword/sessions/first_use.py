"""Which refreshed secrets came into use, until jobs/first_use_writer.py stores it.

The secret before such a one ends half a minute after that; until it is stored both are good.
"""

from typing import Final
from uuid import UUID

SESSIONS_MAX: Final = 8_192


class FirstUses:
    """The verifiers of present secrets that were seen, of SESSIONS_MAX sessions at most."""

    def __init__(self) -> None:
        self._verifiers: dict[UUID, bytes] = {}

    def add(self, session_id: UUID, verifier: bytes) -> bool:
        """Keeps that a session's present secret is in use; False when there is no room.

        That is safe: nothing was stored, so the next read of the session finds the same.
        """
        if len(self._verifiers) >= SESSIONS_MAX and session_id not in self._verifiers:
            return False
        self._verifiers[session_id] = verifier
        return True

    def take(self) -> tuple[UUID, bytes] | None:
        """Takes one; None if there is none."""
        return self._verifiers.popitem() if self._verifiers else None

    def __len__(self) -> int:
        return len(self._verifiers)
