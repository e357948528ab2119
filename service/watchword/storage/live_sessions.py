"""The statements that decide whether a session is live: of one, and of many."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.login.ports import LiveSession
from watchword.roles.model import Grants
from watchword.sessions.model import Secrets, Session
from watchword.storage.pool import Connection
from watchword.storage.users import user_of
from watchword.users.model import User, UserState

T = TypeVar("T")
# From which PostgreSQL counts the microseconds of a time.
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class LiveSessionStore:
    """Implements watchword.login.ports.LiveSessionStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 idle lifetime
    FIND = """
        SELECT s.id AS session_id, s.verifier, s.create_time, s.auth_time, s.expire_time,
               s.last_seen_time, s.previous_verifier, s.previous_end_time,
               s.epoch AS session_epoch, u.version AS user_version,
               u.id, u.full_name, u.username, u.email, u.locale, u.state, u.auth_epoch,
               now() AS as_of_time,
               ARRAY(
                   SELECT r.role
                   FROM user_roles r
                   JOIN roles o ON o.name = r.role
                   WHERE r.slot = $1 AND r.user_id = u.id
                     AND (r.expire_time IS NULL OR r.expire_time > now())
                   ORDER BY r.role COLLATE "C"
               ) AS roles,
               ARRAY(
                   SELECT DISTINCT p.permission COLLATE "C"
                   FROM user_roles r
                   JOIN role_permissions p ON p.role = r.role
                   WHERE r.slot = $1 AND r.user_id = u.id
                     AND (r.expire_time IS NULL OR r.expire_time > now())
                   ORDER BY p.permission COLLATE "C"
               ) AS permissions
        FROM sessions s
        JOIN users u ON u.slot = $1 AND u.id = s.user_id
        JOIN installation i ON i.id = 1
        WHERE s.slot = $1 AND s.id = $2
          AND s.revoke_time IS NULL AND s.expire_time > now()
          AND s.last_seen_time + $3::interval > now()
          AND s.epoch >= u.auth_epoch AND u.state = 'active'
          AND s.installation_epoch >= i.epoch
    """

    async def find(self, session_id: UUID, *, idle_lifetime: timedelta) -> LiveSession | None:
        row = await self._connection.fetchrow(
            self.FIND, slot_of(session_id), session_id, idle_lifetime
        )
        return None if row is None else _live_session(row)

    # The same for many, each row as one value: the gate takes them as they are (live_row.rs has the
    # columns in this order), which costs a tenth of making objects of them first.
    # $1 slots and $2 ids, each id once, $3 idle lifetime. Both come as text[]: of other arrays the
    # driver asks for the type, with a slow statement on each new connection. The roles are joined,
    # since a sub-query would have to name its slots anew; the row of the time is there when nothing
    # is found.
    FIND_MANY = """
        SELECT record_send(ROW(
            now(), s.id, s.verifier, s.create_time, s.auth_time, s.expire_time, s.last_seen_time,
            s.previous_verifier, s.previous_end_time, s.epoch, u.version, u.id, u.auth_epoch,
            u.username, u.full_name, u.email,
            COALESCE(
                array_agg(DISTINCT r.role COLLATE "C") FILTER (WHERE r.role IS NOT NULL),
                ARRAY[]::text[]
            ),
            COALESCE(
                array_agg(DISTINCT p.permission COLLATE "C")
                    FILTER (WHERE p.permission IS NOT NULL),
                ARRAY[]::text[]
            ),
            min(r.expire_time), u.locale
        ))
        FROM (SELECT 1) AS always
        LEFT JOIN (
            unnest($1::text[]::smallint[], $2::text[]::uuid[]) AS asked (slot, id)
            JOIN sessions s ON s.slot = asked.slot AND s.id = asked.id
            JOIN users u ON u.slot = asked.slot AND u.id = s.user_id
            JOIN installation i ON i.id = 1
            LEFT JOIN (
                user_roles r JOIN roles o ON o.name = r.role
            ) ON r.slot = asked.slot AND r.user_id = u.id
                AND (r.expire_time IS NULL OR r.expire_time > now())
            LEFT JOIN role_permissions p ON p.role = r.role
        ) ON s.revoke_time IS NULL AND s.expire_time > now()
          AND s.last_seen_time + $3::interval > now()
          AND s.epoch >= u.auth_epoch AND u.state = 'active'
          AND s.installation_epoch >= i.epoch
        GROUP BY s.slot, s.id, u.slot, u.id
    """

    async def read_many(
        self, session_ids: Sequence[str], *, idle_lifetime: timedelta
    ) -> Sequence[bytes]:
        # The last three digits are the slot (crypto.slot_of).
        slots = [str(int(session_id[-3:], 16)) for session_id in session_ids]
        rows = await self._connection.fetch(self.FIND_MANY, slots, session_ids, idle_lifetime)
        return [row[0] for row in rows]

    async def find_many(
        self, session_ids: Sequence[UUID], *, idle_lifetime: timedelta
    ) -> tuple[dict[UUID, LiveSession], datetime]:
        ids = [str(session_id) for session_id in session_ids]
        return decoded(await self.read_many(ids, idle_lifetime=idle_lifetime))


def decoded(rows: Sequence[bytes]) -> tuple[dict[UUID, LiveSession], datetime]:
    """Reads rows of FIND_MANY, of which there is one at least."""
    found = {}
    for columns in map(_Columns, rows):
        time = columns.time()
        if columns.has_value():
            live = _live(columns, time)
            found[live.session.id] = live
    return found, time


def _live_session(row: asyncpg.Record) -> LiveSession:
    return LiveSession(
        session=Session(
            id=row["session_id"],
            user_id=row["id"],
            create_time=row["create_time"],
            auth_time=row["auth_time"],
            expire_time=row["expire_time"],
        ),
        secrets=Secrets(row["verifier"], row["previous_verifier"], row["previous_end_time"]),
        user=user_of(row),
        grants=Grants(tuple(row["roles"]), tuple(row["permissions"])),
        session_epoch=row["session_epoch"],
        user_version=row["user_version"],
        as_of_time=row["as_of_time"],
        last_seen_time=row["last_seen_time"],
    )


def _live(columns: "_Columns", as_of_time: datetime) -> LiveSession:
    """Reads the columns after the time."""
    session_id, verifier = columns.uuid(), columns.value()
    create_time, auth_time, expire_time = columns.time(), columns.time(), columns.time()
    last_seen_time = columns.time()
    secrets = Secrets(verifier, columns.optional(_Columns.value), columns.optional(_Columns.time))
    session_epoch, user_version = columns.number(), columns.number()
    user_id, auth_epoch = columns.uuid(), columns.number()
    username, full_name, email = columns.text(), columns.text(), columns.text()
    grants = Grants(columns.texts(), columns.texts())
    # When the first of them ends is for caches.
    columns.optional(_Columns.time)
    return LiveSession(
        session=Session(
            id=session_id,
            user_id=user_id,
            create_time=create_time,
            auth_time=auth_time,
            expire_time=expire_time,
        ),
        secrets=secrets,
        user=User(
            id=user_id,
            username=username,
            full_name=full_name,
            email=email,
            locale=columns.optional(_Columns.text),
            state=UserState.ACTIVE,
            auth_epoch=auth_epoch,
        ),
        grants=grants,
        session_epoch=session_epoch,
        user_version=user_version,
        as_of_time=as_of_time,
        last_seen_time=last_seen_time,
    )


class _Columns:
    """The columns of what `record_send` wrote: of each the oid, the length, -1 for NULL, the value.

    Numbers are in network order.
    """

    def __init__(self, record: bytes) -> None:
        self._record = record
        self._at = 4  # after the count

    def has_value(self) -> bool:
        """Whether the next column is not NULL."""
        return self._int(self._at + 4) >= 0

    def value(self) -> bytes:
        """Reads a column that is not NULL."""
        self._at += 4
        return self._value()

    def optional(self, read: Callable[["_Columns"], T]) -> T | None:
        """Reads one that may be NULL."""
        if self.has_value():
            return read(self)
        self._at += 8
        return None

    def number(self) -> int:
        return int.from_bytes(self.value(), signed=True)

    def uuid(self) -> UUID:
        return UUID(bytes=self.value())

    def time(self) -> datetime:
        return _POSTGRES_EPOCH + timedelta(microseconds=self.number())

    def text(self) -> str:
        return self.value().decode()

    def texts(self) -> tuple[str, ...]:
        """Reads a `text[]` of one dimension, or empty."""
        array = _Columns(self.value())
        if array._int(0) == 0:
            return ()
        # Dimensions, whether there are NULLs, oid, size, first index.
        array._at = 20
        return tuple(array._value().decode() for _ in range(array._int(12)))

    def _value(self) -> bytes:
        begin = self._at + 4
        self._at = begin + self._int(self._at)
        return self._record[begin : self._at]

    def _int(self, at: int) -> int:
        return int.from_bytes(self._record[at : at + 4], signed=True)
