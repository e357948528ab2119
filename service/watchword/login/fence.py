"""The fence after a restore: whatever a backup has brought back to life is dead again.

A restored database is older than what people and callers have seen: sessions that were revoked
since are live in it, and codes that were used are not. Nobody can tell them from the others, so all
end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from watchword.login import auditing, changes
from watchword.login.ports import Database, Tx
from watchword.login.slots import slot_batches


@dataclass(frozen=True, slots=True)
class Fenced:
    """How many codes no longer verify, and how many service keys wait to be confirmed."""

    challenges: int
    service_keys: int


async def restore_fence(
    database: Database, *, progress: Callable[[int], None] = lambda _: None
) -> Fenced:
    """Ends every session and every live challenge, and has stored service keys wait to be
    confirmed; `progress` is told how many slots are done.

    May be run again, after an error for example, and while the service runs: what was signed in
    since the restore ends, too.
    """
    # Sessions and keys first, at once: every cache is emptied with it.
    suspended = await database.run_tx(_end_sessions_and_keys)
    challenges = 0
    for slots in slot_batches():

        async def statements(tx: Tx, slots: range = slots) -> int:
            return sum([await tx.fence.end_challenges(slot) for slot in slots])

        challenges += await database.run_tx(statements)
        progress(slots.stop)
    await database.run_tx(lambda tx: tx.audit.put(auditing.fenced(challenges=challenges)))
    await confirm_cluster(database)
    return Fenced(challenges, suspended)


async def confirm_cluster(database: Database) -> bool:
    """Has `doctor` take this cluster and its history for the right one; False if it can't be told.

    By itself it is for a fail-over that has lost nothing.
    """
    return await database.run_statement(lambda tx: tx.fence.confirm_cluster())


async def _end_sessions_and_keys(tx: Tx) -> int:
    await tx.fence.raise_epoch()
    suspended = await tx.service_keys.suspend_all()
    await tx.changes.put(changes.installation_changed())
    return suspended
