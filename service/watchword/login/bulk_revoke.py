"""RevokeSessions: the end of everybody's sessions, or of those of all who hold a role."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from watchword.audit.model import Action
from watchword.errors import RoleNotFound
from watchword.login import auditing, changes
from watchword.login.mutations import Mutation, mutate
from watchword.login.ports import Database, SessionCache, Tx

# In one transaction.
USERS_AT_ONCE: Final = 1_000


async def revoke_everybody(database: Database, *, actor: str) -> Mutation:
    """Ends every session, and those of sign-ins that are under way."""

    async def statements(tx: Tx) -> Mutation:
        await tx.fence.raise_epoch()
        event = auditing.all_ended(Action.REVOKE_ALL_OF_EVERYBODY, actor=actor)
        return Mutation(changes.installation_changed(), event)

    return await mutate(database, statements)


async def revoke_holders(
    database: Database, cache: SessionCache | None, role: str, *, actor: str
) -> Mutation:
    """Ends the sessions of all who hold a role, a thousand users at a time; raises RoleNotFound.

    An error leaves those signed out who were reached. Each thousand has its audit event and empties
    every cache: one change tells of a thousand users.
    """
    if not await database.run_statement(lambda tx: tx.roles.exists(role)):
        raise RoleNotFound
    after: UUID | None = None
    count = 0
    while True:
        ended: Sequence[UUID] = []

        async def statements(tx: Tx, after: UUID | None = after) -> Mutation:
            nonlocal ended
            ended = await tx.user_lists.end_holders(role, after=after, limit=USERS_AT_ONCE)
            change = changes.installation_changed()
            if not ended:
                return Mutation(change)
            event = auditing.all_ended(
                Action.REVOKE_ALL_OF_ROLE, actor=actor, role=role, users=len(ended)
            )
            return Mutation(change, event, len(ended))

        mutation = await mutate(database, statements)
        count += mutation.count
        if len(ended) < USERS_AT_ONCE:
            return replace(mutation, count=count)
        if cache is not None:
            cache.apply(mutation.change)
        after = ended[-1]
