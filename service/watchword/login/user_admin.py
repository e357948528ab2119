"""What an operator does to one user and their sessions, straight on the database.

Each mutation writes its audit event and its change in its own transaction.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from watchword.audit.model import CLI, Action
from watchword.login import auditing, changes
from watchword.login.ports import Database, Tx
from watchword.sessions.model import EndedSessions, ListedSession
from watchword.users.model import UserState
from watchword.users.rules import account_key_of

# More than one user may have (SessionPolicy.max_per_user).
SESSIONS_LISTED_MAX = 10_000


async def disable_user(database: Database, user_id: UUID) -> int | None:
    """Keeps a user from signing in and ends every session; how many were live.

    None when the user is disabled already, or is not there.
    """

    async def statements(tx: Tx) -> int | None:
        if not await tx.users.set_state(user_id, UserState.DISABLED):
            return None
        return await _told(tx, Action.DISABLE_USER, await tx.sessions.revoke_all(user_id))

    return await database.run_tx(statements)


async def enable_user(database: Database, user_id: UUID) -> bool:
    """Lets a disabled user sign in again; sessions from before stay dead."""

    async def statements(tx: Tx) -> bool:
        if not await tx.users.set_state(user_id, UserState.ACTIVE):
            return False
        raised = await tx.changes.raise_version(user_id)
        assert raised is not None  # its state was changed just now
        await _told(tx, Action.ENABLE_USER, EndedSessions(0, user_id, raised.epoch, raised.version))
        return True

    return await database.run_tx(statements)


async def delete_user(database: Database, user_id: UUID) -> int | None:
    """Deletes a user with sessions, roles and names; how many sessions were live.

    The address and the username are free at once. None when there is no such user.
    """

    async def statements(tx: Tx) -> int | None:
        user = await tx.users.lock(user_id)
        if user is None:
            return None
        # The epoch goes into the change: no cache may go on with a session of this user.
        ended = await tx.sessions.revoke_all(user_id)
        await tx.users.release_email(account_key_of(user.email), user_id=user_id)
        await tx.users.release_username(user.username, user_id=user_id)
        await tx.users.delete(user_id)
        return await _told(tx, Action.DELETE_USER, ended)

    return await database.run_tx(statements)


async def list_sessions_of(
    database: Database, user_id: UUID, *, idle_lifetime: timedelta
) -> Sequence[ListedSession]:
    """Returns the live sessions of a user, the newest first."""
    return await database.run_statement(
        lambda tx: tx.sessions.list_live(
            user_id, before=None, limit=SESSIONS_LISTED_MAX, idle_lifetime=idle_lifetime
        )
    )


async def revoke_session_of(database: Database, user_id: UUID, session_id: UUID) -> bool:
    """Ends one session of a user; whether it was live."""

    async def statements(tx: Tx) -> bool:
        ended = await tx.sessions.revoke_by_id(session_id, user_id=user_id)
        if ended is not None:
            await tx.audit.put(auditing.revoked(ended.id, ended.user_id, caller=CLI))
            await tx.changes.put(changes.session_revoked(ended))
        return ended is not None

    return await database.run_tx(statements)


async def revoke_sessions_of(database: Database, user_id: UUID) -> int:
    """Ends every session of a user; how many were live."""

    async def statements(tx: Tx) -> int:
        if await tx.users.lock(user_id) is None:
            return 0
        return await _told(tx, Action.REVOKE_ALL, await tx.sessions.revoke_all(user_id))

    return await database.run_tx(statements)


async def _told(tx: Tx, action: Action, ended: EndedSessions) -> int:
    await tx.audit.put(auditing.user_changed(action, ended, actor=CLI))
    await tx.changes.put(changes.sessions_ended(ended))
    return ended.count
