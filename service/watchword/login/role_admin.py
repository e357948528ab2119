"""What an operator does with roles, by AdminService or straight on the database.

`actor` is a caller's name or CLI.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from watchword.audit.model import Action
from watchword.crypto import KeyRing
from watchword.errors import (
    RequestInvalid,
    RoleExists,
    RoleNotFound,
    UserNotFound,
    Violation,
)
from watchword.login import auditing, changes
from watchword.login.mutations import Mutation, mutate, unchanged
from watchword.login.pages import Page, Paging, cursor_of, listing_of, page_of
from watchword.login.ports import Database, Tx
from watchword.roles.model import Role

ROLES_LISTED_MAX: Final = 100_000


async def create_role(
    database: Database, name: str, permissions: Sequence[str], *, actor: str
) -> Mutation:
    """Makes a role; raises RoleExists."""
    # Nobody holds a role because they held one of that name: the purger may not have been there.
    while await database.run_statement(lambda tx: tx.roles.remove_orphans(name)):
        pass

    async def statements(tx: Tx) -> Mutation:
        if not await tx.roles.create(name, permissions=permissions):
            raise RoleExists
        return _role_changed(Action.CREATE_ROLE, name, actor)

    return await mutate(database, statements)


async def update_role(
    database: Database, name: str, permissions: Sequence[str], *, actor: str
) -> Mutation:
    """Replaces the permissions of a role; raises RoleNotFound."""

    async def statements(tx: Tx) -> Mutation:
        role = await tx.roles.get(name)
        if role is None:
            raise RoleNotFound
        if role.permissions == tuple(sorted(set(permissions))):
            return Mutation(changes.role_changed(name))
        await tx.roles.replace_permissions(name, permissions=permissions)
        return _role_changed(Action.UPDATE_ROLE, name, actor)

    return await mutate(database, statements)


async def delete_role(database: Database, name: str, *, actor: str) -> Mutation:
    """Deletes a role, which takes it from everybody; raises RoleNotFound.

    Assignments are left to the purger: no answer shows one whose role is gone.
    """

    async def statements(tx: Tx) -> Mutation:
        if not await tx.roles.delete(name):
            raise RoleNotFound
        return _role_changed(Action.DELETE_ROLE, name, actor)

    return await mutate(database, statements)


async def list_roles(database: Database, keys: KeyRing, paging: Paging) -> Page[Role]:
    """Returns roles in the order of their names; raises RequestInvalid for the token."""
    listing = listing_of("ListRoles")
    cursor = cursor_of(keys, listing, paging.page_token)
    after = "" if cursor is None else cursor.decode()
    limit = paging.page_size + 1
    found = await database.run_statement(lambda tx: tx.roles.list_all(after=after, limit=limit))
    cursors = [role.name.encode() for role in found]
    return page_of(keys, listing, found, cursors, page_size=paging.page_size)


async def list_all_roles(database: Database) -> Sequence[Role]:
    """Returns every role, in the order of their names."""
    return await database.run_statement(
        lambda tx: tx.roles.list_all(after="", limit=ROLES_LISTED_MAX)
    )


async def assign_role(
    database: Database,
    role: str,
    user_id: UUID,
    *,
    expire_time: datetime | None = None,
    reason: str | None = None,
    actor: str,
) -> Mutation:
    """Gives a role to a user; sessions show it at their next check.

    With an end it falls out of every answer when that is over. Given again, the new end counts.
    Raises UserNotFound, RoleNotFound, and RequestInvalid for an end that
    is over.
    """

    async def statements(tx: Tx) -> Mutation:
        if await tx.users.lock(user_id) is None:
            raise UserNotFound
        if not await tx.roles.exists(role):
            raise RoleNotFound
        if expire_time is not None and expire_time <= await tx.purge.present():
            raise RequestInvalid([Violation("expire_time", "must be in the future")])
        given = await tx.roles.assign(
            role, user_id=user_id, expire_time=expire_time, granted_by=actor, reason=reason
        )
        return await _user_changed(tx, user_id, Action.ASSIGN_ROLE if given else None, role, actor)

    return await mutate(database, statements)


async def unassign_role(database: Database, role: str, user_id: UUID, *, actor: str) -> Mutation:
    """Takes a role from a user, who need not hold it; sessions show it at their next check.

    Raises UserNotFound, and RoleNotFound for one that is not there either.
    """

    async def statements(tx: Tx) -> Mutation:
        # Taken away first: an assignment may outlive its role.
        taken = await tx.roles.unassign(role, user_id=user_id)
        if not taken and not await tx.roles.exists(role):
            raise RoleNotFound
        return await _user_changed(
            tx, user_id, Action.UNASSIGN_ROLE if taken else None, role, actor
        )

    return await mutate(database, statements)


def _role_changed(action: Action, role: str, actor: str) -> Mutation:
    # Somebody may hold it already: an assignment may outlive its role.
    return Mutation(changes.role_changed(role), auditing.role_changed(action, role, actor=actor))


async def _user_changed(
    tx: Tx, user_id: UUID, action: Action | None, role: str, actor: str
) -> Mutation:
    """What the user has come to; without an action nothing was done."""
    if action is None:
        return await unchanged(tx, user_id)
    raised = await tx.changes.raise_version(user_id)
    assert raised is not None  # a role is held by users who are there, by its foreign key
    event = auditing.role_changed(action, role, actor=actor, user_id=user_id)
    return Mutation(changes.user_changed(raised), event)
