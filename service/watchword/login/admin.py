"""What an operator does from the command line, straight on the database."""

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from uuid import UUID

from watchword.audit.model import CLI, Action
from watchword.errors import ValueRejected
from watchword.login import changes
from watchword.login.auditing import role_changed
from watchword.login.ports import Database, Tx
from watchword.roles.model import Grants, Role
from watchword.users import rules
from watchword.users.model import User


class Assigned(Enum):
    """What became of an assignment."""

    NOW = "now"
    ALREADY = "already"
    NO_SUCH_ROLE = "no such role"


class Unassigned(Enum):
    """What became of taking a role away."""

    NOW = "now"
    NOT_HELD = "not held"
    NO_SUCH_ROLE = "no such role"


async def find_user(database: Database, text: str) -> tuple[User, Grants] | None:
    """Returns the user that an id, a username or an address names, and what it may do."""

    async def statements(tx: Tx) -> tuple[User, Grants] | None:
        user_id = await _find_id(tx, text)
        user = await tx.users.get(user_id) if user_id is not None else None
        return None if user is None else (user, await tx.roles.grants_of(user.id))

    return await database.run_tx(statements)


async def _find_id(tx: Tx, text: str) -> UUID | None:
    if "@" in text:
        try:
            return await tx.users.find_by_email(rules.email(text).account_key)
        except ValueRejected:
            return None
    try:
        return UUID(text)
    except ValueError:
        return await tx.users.find_by_username(text.lower())


async def create_role(database: Database, name: str, permissions: Sequence[str]) -> bool:
    """Makes a role; False when there is one of that name, which stays as it is."""

    async def statements(tx: Tx) -> bool:
        made = await tx.roles.create(name, permissions=permissions)
        if made:
            await tx.audit.put(role_changed(Action.CREATE_ROLE, name, actor=CLI))
            # Somebody may hold it already: an assignment outlives its role.
            await tx.changes.put(changes.role_changed(name))
        return made

    return await database.run_tx(statements)


async def list_roles(database: Database) -> Sequence[Role]:
    """Returns every role with its permissions, both in the order of their names."""
    return await database.run_statement(lambda tx: tx.roles.list_all())


async def assign_role(
    database: Database,
    role: str,
    user_id: UUID,
    *,
    lifetime: timedelta | None = None,
    reason: str | None = None,
) -> Assigned:
    """Gives a role to a user who is there; sessions show it at their next check.

    With a lifetime it falls out of every answer when that is over. Given again, it counts anew.
    """

    async def statements(tx: Tx) -> Assigned:
        if not await tx.roles.exists(role):
            return Assigned.NO_SUCH_ROLE
        given = await tx.roles.assign(
            role, user_id=user_id, lifetime=lifetime, granted_by=CLI, reason=reason
        )
        if not given:
            return Assigned.ALREADY
        await _user_changed(tx, user_id, Action.ASSIGN_ROLE, role)
        return Assigned.NOW

    return await database.run_tx(statements)


async def unassign_role(database: Database, role: str, user_id: UUID) -> Unassigned:
    """Takes a role from a user who is there; sessions show it at their next check."""

    async def statements(tx: Tx) -> Unassigned:
        # Taken away first: an assignment may outlive its role.
        if await tx.roles.unassign(role, user_id=user_id):
            await _user_changed(tx, user_id, Action.UNASSIGN_ROLE, role)
            return Unassigned.NOW
        known = await tx.roles.exists(role)
        return Unassigned.NOT_HELD if known else Unassigned.NO_SUCH_ROLE

    return await database.run_tx(statements)


async def _user_changed(tx: Tx, user_id: UUID, action: Action, role: str) -> None:
    raised = await tx.changes.raise_version(user_id)
    assert raised is not None  # a role is held by users who are there, by its foreign key
    await tx.audit.put(role_changed(action, role, actor=CLI, user_id=user_id))
    await tx.changes.put(changes.user_changed(raised))
