"""Users and the identifiers that lead to them."""

from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.storage.pool import Connection
from watchword.users.model import ManagedUser, NewUser, User, UserState


def user_of(row: asyncpg.Record) -> User:
    """Maps a row with the columns of users."""
    return User(
        id=row["id"],
        username=row["username"],
        full_name=row["full_name"],
        email=row["email"],
        locale=row["locale"],
        state=UserState(row["state"]),
        auth_epoch=row["auth_epoch"],
    )


def managed_user_of(row: asyncpg.Record) -> ManagedUser:
    """Maps a row with the columns of users and its times."""
    return ManagedUser(user_of(row), row["create_time"], row["update_time"])


class UserStore:
    """Implements watchword.users.ports.UserStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    FIND_OWNER = "SELECT user_id FROM identifiers WHERE kind = $1 AND value = $2"

    async def find_by_email(self, account_key: str) -> UUID | None:
        return await self._find_owner("email", account_key)

    async def find_by_username(self, username: str) -> UUID | None:
        return await self._find_owner("username", username)

    async def _find_owner(self, kind: str, value: str) -> UUID | None:
        owner: UUID | None = await self._connection.fetchval(self.FIND_OWNER, kind, value)
        return owner

    GET = """
        SELECT id, full_name, username, email, locale, state, auth_epoch
        FROM users
        WHERE slot = $1 AND id = $2
    """

    async def get(self, user_id: UUID) -> User | None:
        row = await self._connection.fetchrow(self.GET, slot_of(user_id), user_id)
        return None if row is None else user_of(row)

    GET_MANAGED = """
        SELECT id, full_name, username, email, locale, state, auth_epoch, create_time, update_time
        FROM users
        WHERE slot = $1 AND id = $2
    """

    async def get_managed(self, user_id: UUID) -> ManagedUser | None:
        row = await self._connection.fetchrow(self.GET_MANAGED, slot_of(user_id), user_id)
        return None if row is None else managed_user_of(row)

    LOCK = """
        SELECT id, full_name, username, email, locale, state, auth_epoch
        FROM users
        WHERE slot = $1 AND id = $2
        FOR NO KEY UPDATE
    """

    async def lock(self, user_id: UUID) -> User | None:
        row = await self._connection.fetchrow(self.LOCK, slot_of(user_id), user_id)
        return None if row is None else user_of(row)

    # $1 slot, $2 id, $3 full name, $4 username, $5 e-mail, $6 locale
    INSERT = """
        INSERT INTO users (slot, id, full_name, username, email, locale, state, auth_epoch,
                           create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, 'active', 0, now(), now())
        RETURNING id, full_name, username, email, locale, state, auth_epoch
    """

    async def insert(self, new: NewUser) -> User:
        row = await self._connection.fetchrow(
            self.INSERT,
            slot_of(new.id),
            new.id,
            new.full_name,
            new.username,
            new.email,
            new.locale,
        )
        assert row is not None  # INSERT without ON CONFLICT answers its row or raises
        return user_of(row)

    # $1 slot, $2 id, $3 state
    SET_STATE = """
        UPDATE users
        SET state = $3, update_time = now()
        WHERE slot = $1 AND id = $2 AND state <> $3
        RETURNING id
    """

    async def set_state(self, user_id: UUID, state: UserState) -> bool:
        changed = await self._connection.fetchval(self.SET_STATE, slot_of(user_id), user_id, state)
        return changed is not None

    # $1 slot, $2 id, $3 full name, $4 username, $5 locale
    UPDATE_PROFILE = """
        UPDATE users
        SET full_name = $3, username = $4, locale = $5, update_time = now()
        WHERE slot = $1 AND id = $2
    """

    async def update_profile(
        self, user_id: UUID, *, full_name: str, username: str, locale: str | None
    ) -> None:
        await self._connection.execute(
            self.UPDATE_PROFILE, slot_of(user_id), user_id, full_name, username, locale
        )

    # $1 username, $2 user id, $3 the present in microseconds. A hold that is over is nobody's.
    TAKE_USERNAME = """
        INSERT INTO identifiers AS held (kind, value, user_id)
        VALUES ('username', $1, $2)
        ON CONFLICT (kind, value) DO UPDATE
        SET user_id = EXCLUDED.user_id, hold_subject_key = NULL, hold_expire_us = NULL
        WHERE held.user_id IS NULL AND held.hold_expire_us <= $3::bigint
        RETURNING user_id
    """
    PRESENT_US = "SELECT (extract(epoch FROM now()) * 1000000)::bigint"

    async def take_username(self, username: str, *, user_id: UUID) -> bool:
        present_us = await self._connection.fetchval(self.PRESENT_US)
        taken = await self._connection.fetchval(self.TAKE_USERNAME, username, user_id, present_us)
        return taken is not None

    SET_EMAIL = """
        UPDATE users
        SET email = $3, update_time = now()
        WHERE slot = $1 AND id = $2
    """

    async def set_email(self, user_id: UUID, email: str) -> None:
        await self._connection.execute(self.SET_EMAIL, slot_of(user_id), user_id, email)

    RELEASE_IDENTIFIER = """
        DELETE FROM identifiers
        WHERE kind = $1 AND value = $2 AND user_id = $3
    """

    async def release_email(self, account_key: str, *, user_id: UUID) -> None:
        await self._connection.execute(self.RELEASE_IDENTIFIER, "email", account_key, user_id)

    async def release_username(self, username: str, *, user_id: UUID) -> None:
        await self._connection.execute(self.RELEASE_IDENTIFIER, "username", username, user_id)

    # Sessions and roles go with the user, by their foreign keys.
    DELETE = "DELETE FROM users WHERE slot = $1 AND id = $2"

    async def delete(self, user_id: UUID) -> None:
        await self._connection.execute(self.DELETE, slot_of(user_id), user_id)

    CLAIM_EMAIL = """
        INSERT INTO identifiers (kind, value, user_id)
        VALUES ('email', $1, $2)
        ON CONFLICT (kind, value) DO NOTHING
        RETURNING user_id
    """

    async def claim_email(self, account_key: str, *, user_id: UUID) -> bool:
        return await self._connection.fetchval(self.CLAIM_EMAIL, account_key, user_id) is not None

    # $1 username, $2 user id, $3 the subject that holds it
    CLAIM_USERNAME = """
        UPDATE identifiers
        SET user_id = $2, hold_subject_key = NULL, hold_expire_us = NULL
        WHERE kind = 'username' AND value = $1 AND user_id IS NULL AND hold_subject_key = $3
        RETURNING user_id
    """

    async def claim_username(self, username: str, *, user_id: UUID, subject_key: bytes) -> bool:
        claimed = await self._connection.fetchval(
            self.CLAIM_USERNAME, username, user_id, subject_key
        )
        return claimed is not None
