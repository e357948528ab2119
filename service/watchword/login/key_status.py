"""Which keys of the ring something alive still needs, and which may therefore go.

A key is needed while a session has a good token that it signed, or a challenge a code.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from watchword.login.ports import Database, KeyUse, Tx
from watchword.login.slots import slot_batches


class Position(StrEnum):
    """What the ring does with a key."""

    SIGNS = "signs"
    VERIFIES = "verifies"
    NOT_IN_RING = "not in the ring"


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A key, and what is alive by it until `last_end_time` at the latest."""

    key_id: int
    position: Position
    sessions: int
    challenges: int
    last_end_time: datetime | None

    @property
    def in_use(self) -> bool:
        """Whether somebody would be refused without it."""
        return bool(self.sessions or self.challenges)

    @property
    def removable(self) -> bool:
        """Whether it may be taken out of the ring, once no server signs with it any more."""
        return self.position is Position.VERIFIES and not self.in_use


async def key_status(
    database: Database, ring: Sequence[int], *, idle_lifetime: timedelta
) -> list[KeyStatus]:
    """Returns the keys of a ring in its order, then those that are missing from it."""
    found: list[KeyUse] = []
    for slots in slot_batches():

        async def read(tx: Tx, slots: range = slots) -> Sequence[KeyUse]:
            return await tx.key_use.in_slots(slots, idle_lifetime=idle_lifetime)

        found += await database.run_statement(read)
    return status_of(ring, found)


def status_of(ring: Sequence[int], found: Iterable[KeyUse]) -> list[KeyStatus]:
    """Adds up what was found in slots, for each key."""
    by_key: dict[int, list[KeyUse]] = {key_id: [] for key_id in ring}
    for use in sorted(found, key=lambda use: use.key_id):
        by_key.setdefault(use.key_id, []).append(use)
    return [
        KeyStatus(
            key_id=key_id,
            position=_position(key_id, ring),
            sessions=sum(use.sessions for use in uses),
            challenges=sum(use.challenges for use in uses),
            last_end_time=max((use.last_end_time for use in uses), default=None),
        )
        for key_id, uses in by_key.items()
    ]


def _position(key_id: int, ring: Sequence[int]) -> Position:
    if key_id not in ring:
        return Position.NOT_IN_RING
    return Position.SIGNS if key_id == ring[0] else Position.VERIFIES
