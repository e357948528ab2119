"""The fence after a restore: whatever a backup has brought back to life is dead again.

A restored database is older than what people and callers have seen: sessions that were revoked
since are live in it, and codes that were used are not. Nobody can tell them from the others, so all
end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from watchword.crypto import SLOTS
from watchword.login import auditing, changes
from watchword.login.ports import Database, Tx

# In one transaction: enough to be quick, few enough not to hold a sign-in up.
SLOTS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Fenced:
    """How many users have to sign in again, and how many codes no longer verify."""

    users: int
    challenges: int


async def restore_fence(
    database: Database, *, progress: Callable[[int], None] = lambda _: None
) -> Fenced:
    """Ends every session and every live challenge; `progress` is told how many slots are done.

    May be run again, after an error for example, and while the service runs: what was signed in
    since the restore ends, too.
    """
    users = challenges = 0
    for first in range(0, SLOTS, SLOTS_AT_ONCE):
        slots = range(first, first + SLOTS_AT_ONCE)

        async def statements(tx: Tx, slots: range = slots) -> Fenced:
            ended = sum([await tx.fence.end_challenges(slot) for slot in slots])
            return Fenced(sum([await tx.fence.raise_epochs(slot) for slot in slots]), ended)

        done = await database.run_tx(statements)
        users, challenges = users + done.users, challenges + done.challenges
        progress(slots.stop)
    fenced = Fenced(users, challenges)
    await database.run_tx(lambda tx: _told(tx, fenced))
    await confirm_cluster(database)
    return fenced


async def confirm_cluster(database: Database) -> bool:
    """Has `doctor` take this cluster and its history for the right one; False if it can't be told.

    By itself it is for a fail-over that has lost nothing.
    """
    return await database.run_statement(lambda tx: tx.fence.confirm_cluster())


async def _told(tx: Tx, fenced: Fenced) -> None:
    """Empties every cache: what is in one was read before."""
    await tx.audit.put(auditing.fenced(users=fenced.users))
    await tx.changes.put(changes.installation_changed())
