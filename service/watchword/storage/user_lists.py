"""Users as operators list them, page by page in the order of (slot, id)."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.storage.pool import Connection
from watchword.storage.users import managed_user_of
from watchword.users.model import ManagedUser, UserState

# Before every user: ids are of version 8.
_FIRST = UUID(int=0)


class UserListStore:
    """Implements watchword.users.ports.UserListStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot and $2 id after which the page begins, $3 how many
    # sql-rules: all slots (a listing of everybody, by the key)
    LIST_ALL = """
        SELECT id, full_name, username, email, locale, state, auth_epoch, create_time, update_time
        FROM users
        WHERE (slot, id) > ($1, $2)
        ORDER BY slot, id
        LIMIT $3
    """
    # The states stand in the statements: an index of the disabled is not used for a parameter.
    # sql-rules: all slots (a listing of everybody, by the key)
    LIST_ACTIVE = """
        SELECT id, full_name, username, email, locale, state, auth_epoch, create_time, update_time
        FROM users
        WHERE (slot, id) > ($1, $2) AND state = 'active'
        ORDER BY slot, id
        LIMIT $3
    """
    # sql-rules: all slots (a listing of everybody, by the key)
    LIST_DISABLED = """
        SELECT id, full_name, username, email, locale, state, auth_epoch, create_time, update_time
        FROM users
        WHERE (slot, id) > ($1, $2) AND state = 'disabled'
        ORDER BY slot, id
        LIMIT $3
    """

    async def list_users(
        self, *, state: UserState | None, after: UUID | None, limit: int
    ) -> Sequence[ManagedUser]:
        key = _key(after)
        match state:
            case None:
                rows = await self._connection.fetch(self.LIST_ALL, *key, limit)
            case UserState.ACTIVE:
                rows = await self._connection.fetch(self.LIST_ACTIVE, *key, limit)
            case UserState.DISABLED:
                rows = await self._connection.fetch(self.LIST_DISABLED, *key, limit)
        return _users(rows)

    # $1 role, $2 slot and $3 id after which the page begins, $4 how many, $5 state or NULL
    # sql-rules: all slots (a listing of everybody who holds a role, by the index on it)
    LIST_HOLDERS = """
        SELECT u.id, u.full_name, u.username, u.email, u.locale, u.state, u.auth_epoch,
               u.create_time, u.update_time
        FROM user_roles r
        JOIN users u ON u.slot = r.slot AND u.id = r.user_id
        WHERE r.role = $1 AND (r.slot, r.user_id) > ($2, $3)
          AND (r.expire_time IS NULL OR r.expire_time > now())
          AND ($5::text IS NULL OR u.state = $5)
        ORDER BY r.slot, r.user_id
        LIMIT $4
    """

    async def list_holders(
        self, role: str, *, state: UserState | None, after: UUID | None, limit: int
    ) -> Sequence[ManagedUser]:
        rows = await self._connection.fetch(self.LIST_HOLDERS, role, *_key(after), limit, state)
        return _users(rows)

    # $1 role, $2 slot and $3 id after which to begin, $4 how many
    # sql-rules: all slots (a bulk job, by the index on the role)
    END_HOLDERS = """
        WITH held AS (
            SELECT slot, user_id
            FROM user_roles
            WHERE role = $1 AND (slot, user_id) > ($2, $3)
              AND (expire_time IS NULL OR expire_time > now())
            ORDER BY slot, user_id
            LIMIT $4
        ), raised AS (
            UPDATE users AS u
            SET auth_epoch = u.auth_epoch + 1, version = u.version + 1
            FROM held
            WHERE u.slot = held.slot AND u.id = held.user_id
            RETURNING u.slot, u.id
        )
        SELECT id
        FROM raised
        ORDER BY slot, id
    """

    async def end_holders(self, role: str, *, after: UUID | None, limit: int) -> Sequence[UUID]:
        rows = await self._connection.fetch(self.END_HOLDERS, role, *_key(after), limit)
        return [row["id"] for row in rows]


def _key(after: UUID | None) -> tuple[int, UUID]:
    return (-1, _FIRST) if after is None else (slot_of(after), after)


def _users(rows: Sequence[asyncpg.Record]) -> Sequence[ManagedUser]:
    return [managed_user_of(row) for row in rows]
