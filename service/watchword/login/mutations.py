"""One way for every change by an operator or a caller: what is done, its audit event and the change
that caches are told of are one transaction, whose outcome is looked up when its COMMIT was lost.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from watchword.audit.model import Event
from watchword.changes.model import Change
from watchword.errors import UserNotFound
from watchword.login import changes
from watchword.login.ports import Database, Tx


@dataclass(frozen=True, slots=True)
class Mutation:
    """What something has come to; without an event it was so already and nothing was written.

    `count` is how many sessions ended by it, or users who were signed out.
    """

    change: Change
    event: Event | None = None
    count: int = 0

    @property
    def done(self) -> bool:
        """Whether it was this call that changed something."""
        return self.event is not None


async def unchanged(tx: Tx, user_id: UUID) -> Mutation:
    """What a user has come to, to whom nothing has to be done; raises UserNotFound."""
    present = await tx.changes.version_of(user_id)
    if present is None:
        raise UserNotFound
    return Mutation(changes.user_changed(present))


M = TypeVar("M", bound=Mutation | None)


async def mutate(database: Database, fn: Callable[[Tx], Awaitable[M]]) -> M:
    """Runs `fn`, and stores the event and the change that it returns with what it has done."""

    async def statements(tx: Tx) -> M:
        mutation = await fn(tx)
        if mutation is not None and mutation.event is not None:
            await tx.audit.put(mutation.event)
            await tx.changes.put(mutation.change)
        return mutation

    async def committed(tx: Tx, mutation: M) -> bool:
        if mutation is None or mutation.event is None:
            return True
        return await tx.audit.exists(mutation.event.id)

    return await database.run_tx(statements, committed=committed)
