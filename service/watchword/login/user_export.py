"""Every user with the roles held, line by line, for a file or for another installation."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from watchword.crypto import slot_of
from watchword.login.ports import Database, Tx
from watchword.login.user_admin import list_some_users
from watchword.login.user_lines import written
from watchword.roles.model import Assignment

USERS_AT_ONCE: Final = 1_000


async def export_users(
    database: Database,
    write: Callable[[bytes], object],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Writes the line of each user in the order of (slot, id) and returns how many there are.

    Page by page, each read by itself: no transaction is open while something is written, and who
    comes or goes meanwhile may be there or not. `progress` is told how many slots are done.
    """
    count = 0
    after: UUID | None = None
    while True:
        users = await list_some_users(
            database, state=None, role=None, limit=USERS_AT_ONCE, after=after
        )
        if not users:
            return count
        ids = [one.user.id for one in users]
        held = await database.run_statement(partial(_held, ids))
        for one in users:
            write(written(one.user, held.get(one.user.id, ())))
        count += len(users)
        after = ids[-1]
        progress(slot_of(after))


async def _held(user_ids: Sequence[UUID], tx: Tx) -> Mapping[UUID, Sequence[Assignment]]:
    return await tx.user_files.assignments_of(user_ids)
