"""Registrations and the usernames that they hold."""

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of, slot_of_subject
from watchword.storage.pool import Connection
from watchword.users.model import Registration

_MICROSECOND = timedelta(microseconds=1)


def _registration_of(row: asyncpg.Record) -> Registration:
    return Registration(
        id=row["id"],
        subject_key=row["subject_key"],
        user_id=row["user_id"],
        full_name=row["full_name"],
        username=row["username"],
        email=row["email"],
        locale=row["locale"],
    )


class RegistrationStore:
    """Implements watchword.users.ports.RegistrationStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 username, $2 subject, $3 lifetime in microseconds. EXCLUDED.hold_expire_us - $3 is the
    # present: a hold that ended by then may be taken over by anybody.
    HOLD_USERNAME = """
        INSERT INTO identifiers AS held (kind, value, hold_subject_key, hold_expire_us)
        VALUES ('username', $1, $2, (extract(epoch FROM now()) * 1000000)::bigint + $3::bigint)
        ON CONFLICT (kind, value) DO UPDATE
        SET hold_subject_key = EXCLUDED.hold_subject_key,
            hold_expire_us = EXCLUDED.hold_expire_us
        WHERE held.user_id IS NULL
          AND (held.hold_subject_key = EXCLUDED.hold_subject_key
               OR held.hold_expire_us <= EXCLUDED.hold_expire_us - $3::bigint)
        RETURNING kind
    """

    async def hold_username(
        self, username: str, *, subject_key: bytes, lifetime: timedelta
    ) -> bool:
        held = await self._connection.fetchval(
            self.HOLD_USERNAME, username, subject_key, lifetime // _MICROSECOND
        )
        return held is not None

    # $1 username, $2 subject, $3 lifetime in microseconds
    EXTEND_HOLD = """
        UPDATE identifiers
        SET hold_expire_us = GREATEST(
            hold_expire_us, (extract(epoch FROM now()) * 1000000)::bigint + $3::bigint)
        WHERE kind = 'username' AND value = $1 AND hold_subject_key = $2
    """

    async def extend_hold(self, username: str, *, subject_key: bytes, lifetime: timedelta) -> None:
        await self._connection.execute(
            self.EXTEND_HOLD, username, subject_key, lifetime // _MICROSECOND
        )

    # $1 slot, $2 id, $3 subject, $4 user id, $5 full name, $6 username, $7 e-mail, $8 locale,
    # $9 lifetime
    INSERT = """
        INSERT INTO registrations (slot, id, subject_key, user_id, full_name, username, email,
                                   locale, create_time, expire_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), now() + $9::interval)
        RETURNING expire_time
    """

    async def insert(self, registration: Registration, *, lifetime: timedelta) -> datetime:
        expire_time: datetime = await self._connection.fetchval(
            self.INSERT,
            slot_of(registration.id),
            registration.id,
            registration.subject_key,
            registration.user_id,
            registration.full_name,
            registration.username,
            registration.email,
            registration.locale,
            lifetime,
        )
        return expire_time

    # $1 slot, $2 subject, $3 how long it has to live from now on, $4 whether it is wanted
    BIND_NEWEST = """
        UPDATE registrations
        SET expire_time = GREATEST(expire_time, now() + $3::interval)
        WHERE slot = $1
          AND id = (
              SELECT id
              FROM registrations
              WHERE slot = $1 AND subject_key = $2 AND expire_time > now() AND $4
              ORDER BY create_time DESC, id DESC
              LIMIT 1
          )
          AND expire_time > now()
        RETURNING id, subject_key, user_id, full_name, username, email, locale
    """

    async def bind_newest(
        self, subject_key: bytes, *, lifetime: timedelta, wanted: bool = True
    ) -> Registration | None:
        row = await self._connection.fetchrow(
            self.BIND_NEWEST, slot_of_subject(subject_key), subject_key, lifetime, wanted
        )
        return None if row is None else _registration_of(row)

    GET = """
        SELECT id, subject_key, user_id, full_name, username, email, locale
        FROM registrations
        WHERE slot = $1 AND id = $2
    """

    async def get(self, registration_id: UUID) -> Registration | None:
        row = await self._connection.fetchrow(self.GET, slot_of(registration_id), registration_id)
        return None if row is None else _registration_of(row)

    END = """
        UPDATE registrations
        SET expire_time = now()
        WHERE slot = $1 AND id = $2 AND expire_time > now()
        RETURNING id
    """

    async def end(self, registration_id: UUID) -> bool:
        ended = await self._connection.fetchval(self.END, slot_of(registration_id), registration_id)
        return ended is not None

    EXISTS = "SELECT EXISTS (SELECT 1 FROM registrations WHERE slot = $1 AND id = $2)"

    async def exists(self, registration_id: UUID) -> bool:
        return bool(
            await self._connection.fetchval(self.EXISTS, slot_of(registration_id), registration_id)
        )
