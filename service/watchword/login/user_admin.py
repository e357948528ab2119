"""What an operator does to a user and their sessions, by AdminService or straight on the database.

All raise UserNotFound. `actor` is a caller's name or CLI.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from watchword.audit.model import Action
from watchword.changes.model import UserVersion
from watchword.crypto import KeyRing, new_user_id
from watchword.errors import EmailTaken, UsernameTaken, UserNotFound, ValueRejected
from watchword.login import auditing, changes
from watchword.login.mutations import Mutation, mutate, unchanged
from watchword.login.pages import Page, Paging, cursor_of, listing_of, page_of
from watchword.login.ports import Database, Tx
from watchword.roles.model import Assignment
from watchword.sessions.model import EndedSessions, ListedSession
from watchword.users import rules
from watchword.users.model import EmailAddress, ManagedUser, NewUser, UserState

# More than one user may have (SessionPolicy.max_per_user).
SESSIONS_LISTED_MAX = 10_000


async def find_user_id(tx: Tx, text: str) -> UUID | None:
    """Returns whom an id, a username or an address names."""
    if "@" in text:
        try:
            return await tx.users.find_by_email(rules.email(text).account_key)
        except ValueRejected:
            return None
    try:
        return UUID(text)
    except ValueError:
        return await tx.users.find_by_username(text.lower())


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A user, the roles held at this moment and what they allow."""

    managed: ManagedUser
    roles: Sequence[Assignment]
    permissions: Sequence[str]


async def get_user(database: Database, target: UUID | EmailAddress | str) -> FoundUser:
    """Returns the user of an id, an address or a username."""

    async def statements(tx: Tx) -> FoundUser:
        user_id: UUID | None
        match target:
            case UUID():
                user_id = target
            case EmailAddress():
                user_id = await tx.users.find_by_email(target.account_key)
            case str():
                user_id = await tx.users.find_by_username(target)
        found = None if user_id is None else await tx.users.get_managed(user_id)
        if found is None:
            raise UserNotFound
        roles = await tx.roles.assignments_of(found.user.id)
        return FoundUser(found, roles, (await tx.roles.grants_of(found.user.id)).permissions)

    return await database.run_tx(statements)


async def managed_user(database: Database, user_id: UUID) -> ManagedUser:
    """Returns the user of an id, without the roles."""
    found = await database.run_statement(lambda tx: tx.users.get_managed(user_id))
    if found is None:
        raise UserNotFound
    return found


async def list_users(
    database: Database,
    keys: KeyRing,
    paging: Paging,
    *,
    state: UserState | None = None,
    role: str | None = None,
) -> Page[ManagedUser]:
    """Returns users of a state and a role, or of any; raises RequestInvalid for the token."""
    listing = listing_of("ListUsers", state, role)
    cursor = cursor_of(keys, listing, paging.page_token)
    after = None if cursor is None else UUID(bytes=cursor)
    limit = paging.page_size + 1

    found = await list_some_users(database, state=state, role=role, after=after, limit=limit)
    cursors = [one.user.id.bytes for one in found]
    return page_of(keys, listing, found, cursors, page_size=paging.page_size)


async def list_some_users(
    database: Database,
    *,
    state: UserState | None,
    role: str | None,
    limit: int,
    after: UUID | None = None,
) -> Sequence[ManagedUser]:
    """Returns the same without tokens, after that user."""

    async def statement(tx: Tx) -> Sequence[ManagedUser]:
        if role is None:
            return await tx.user_lists.list_users(state=state, after=after, limit=limit)
        return await tx.user_lists.list_holders(role, state=state, after=after, limit=limit)

    return await database.run_statement(statement)


async def create_user(
    database: Database,
    *,
    full_name: str,
    username: str,
    email: EmailAddress,
    locale: str | None,
    actor: str,
) -> tuple[ManagedUser, Mutation]:
    """Makes an account without a registration; raises EmailTaken and UsernameTaken."""
    new = NewUser(new_user_id(), full_name, username, email.address, locale)

    async def statements(tx: Tx) -> Mutation:
        await tx.users.insert(new)
        if not await tx.users.claim_email(email.account_key, user_id=new.id):
            raise EmailTaken
        if not await tx.users.take_username(username, user_id=new.id):
            raise UsernameTaken
        return _changed(Action.CREATE_USER, UserVersion(new.id, 0, 0), actor)

    mutation = await mutate(database, statements)
    return await managed_user(database, new.id), mutation


async def disable_user(database: Database, user_id: UUID, *, actor: str) -> Mutation:
    """Keeps a user from signing in and ends every session."""

    async def statements(tx: Tx) -> Mutation:
        if not await tx.users.set_state(user_id, UserState.DISABLED):
            return await unchanged(tx, user_id)
        return _ended(Action.DISABLE_USER, await tx.sessions.revoke_all(user_id), actor)

    return await mutate(database, statements)


async def enable_user(database: Database, user_id: UUID, *, actor: str) -> Mutation:
    """Lets a disabled user sign in again; sessions from before stay dead."""

    async def statements(tx: Tx) -> Mutation:
        if not await tx.users.set_state(user_id, UserState.ACTIVE):
            return await unchanged(tx, user_id)
        return _changed(Action.ENABLE_USER, await _raised(tx, user_id), actor)

    return await mutate(database, statements)


async def delete_user(database: Database, user_id: UUID, *, actor: str) -> Mutation:
    """Deletes a user with sessions, roles and names; address and username are free at once."""

    async def statements(tx: Tx) -> Mutation:
        user = await tx.users.lock(user_id)
        if user is None:
            raise UserNotFound
        # The epoch goes into the change: no cache may go on with a session of this user.
        ended = await tx.sessions.revoke_all(user_id)
        await tx.users.release_email(rules.account_key_of(user.email), user_id=user_id)
        await tx.users.release_username(user.username, user_id=user_id)
        await tx.users.delete(user_id)
        return _ended(Action.DELETE_USER, ended, actor)

    return await mutate(database, statements)


async def list_sessions_of(
    database: Database, user_id: UUID, *, idle_lifetime: timedelta
) -> Sequence[ListedSession]:
    """Returns all live sessions of a user, the newest first."""
    return await database.run_statement(
        lambda tx: tx.sessions.list_live(
            user_id, before=None, limit=SESSIONS_LISTED_MAX, idle_lifetime=idle_lifetime
        )
    )


async def list_session_page(
    database: Database, keys: KeyRing, user_id: UUID, paging: Paging, *, idle_lifetime: timedelta
) -> Page[ListedSession]:
    """Returns the same page by page; raises RequestInvalid for the token."""
    listing = listing_of("ListUserSessions", user_id)
    cursor = cursor_of(keys, listing, paging.page_token)

    async def statements(tx: Tx) -> Sequence[ListedSession]:
        if await tx.changes.version_of(user_id) is None:
            raise UserNotFound
        return await tx.sessions.list_live(
            user_id,
            before=None if cursor is None else UUID(bytes=cursor),
            limit=paging.page_size + 1,
            idle_lifetime=idle_lifetime,
        )

    found = await database.run_tx(statements)
    cursors = [one.session.id.bytes for one in found]
    return page_of(keys, listing, found, cursors, page_size=paging.page_size)


async def revoke_session_of(
    database: Database, user_id: UUID, session_id: UUID, *, actor: str
) -> Mutation:
    """Ends one session of a user; counts 0 when it is not live."""

    async def statements(tx: Tx) -> Mutation:
        ended = await tx.sessions.revoke_by_id(session_id, user_id=user_id)
        if ended is None:
            return await unchanged(tx, user_id)
        event = auditing.revoked(ended.id, ended.user_id, caller=actor)
        return Mutation(changes.session_revoked(ended), event, 1)

    return await mutate(database, statements)


async def revoke_sessions_of(database: Database, user_id: UUID, *, actor: str) -> Mutation:
    """Ends every session of a user, and those of sign-ins that are under way."""

    async def statements(tx: Tx) -> Mutation:
        if await tx.users.lock(user_id) is None:
            raise UserNotFound
        return _ended(Action.REVOKE_ALL, await tx.sessions.revoke_all(user_id), actor)

    return await mutate(database, statements)


def _ended(action: Action, ended: EndedSessions, actor: str) -> Mutation:
    event = auditing.user_changed(action, ended, actor=actor)
    return Mutation(changes.sessions_ended(ended), event, ended.count)


def _changed(action: Action, user: UserVersion, actor: str) -> Mutation:
    return _ended(action, EndedSessions(0, user.user_id, user.epoch, user.version), actor)


async def _raised(tx: Tx, user_id: UUID) -> UserVersion:
    raised = await tx.changes.raise_version(user_id)
    if raised is None:
        raise UserNotFound
    return raised
