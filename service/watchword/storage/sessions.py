"""Sessions, and the statements that decide whether a session is live: of one, and of many."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.login.ports import LiveSession
from watchword.roles.model import Grants
from watchword.sessions.model import EndedSession, NewSession, Session
from watchword.storage.pool import Connection
from watchword.storage.users import user_of


class SessionStore:
    """Implements watchword.sessions.ports.SessionStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 user id, $4 verifier, $5 key id, $6 epoch, $7 client's ip, $8 its user
    # agent, $9 its device name, $10 lifetime
    INSERT = """
        INSERT INTO sessions (slot, id, user_id, verifier, key_id, epoch, client_ip,
                              client_user_agent, client_device_name, create_time, auth_time,
                              expire_time, last_seen_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now(), now() + $10::interval, now())
        RETURNING create_time, auth_time, expire_time
    """

    async def insert(self, session: NewSession) -> Session:
        row = await self._connection.fetchrow(
            self.INSERT,
            slot_of(session.id),
            session.id,
            session.user_id,
            session.verifier,
            session.key_id,
            session.epoch,
            session.client.ip,
            session.client.user_agent,
            session.client.device_name,
            session.lifetime,
        )
        assert row is not None  # INSERT without ON CONFLICT answers its row or raises
        return Session(
            id=session.id,
            user_id=session.user_id,
            create_time=row["create_time"],
            auth_time=row["auth_time"],
            expire_time=row["expire_time"],
        )

    # $1 slot, $2 id, $3 verifier. The user is locked before the session, as everywhere. Whoever
    # waited for the user and then finds the session ended has raised the version for nothing, which
    # costs a cache one refill at most. Whether the session is idle is not asked: it might be used
    # again if the idle lifetime were raised.
    REVOKE = """
        WITH owner AS (
            SELECT s.user_id
            FROM sessions AS s
            WHERE s.slot = $1 AND s.id = $2 AND s.verifier = $3
              AND s.revoke_time IS NULL AND s.expire_time > now()
        ), raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            FROM owner
            WHERE u.slot = $1 AND u.id = owner.user_id
            RETURNING u.id, u.auth_epoch, u.version
        )
        UPDATE sessions AS s
        SET revoke_time = now()
        FROM raised
        WHERE s.slot = $1 AND s.id = $2 AND s.verifier = $3
          AND s.revoke_time IS NULL AND s.expire_time > now()
        RETURNING raised.id AS user_id, raised.auth_epoch, raised.version
    """

    async def revoke(self, session_id: UUID, *, verifier: bytes) -> EndedSession | None:
        row = await self._connection.fetchrow(
            self.REVOKE, slot_of(session_id), session_id, verifier
        )
        if row is None:
            return None
        return EndedSession(
            id=session_id,
            user_id=row["user_id"],
            user_epoch=row["auth_epoch"],
            user_version=row["version"],
        )

    # Of each column an array, sorted by slot and id: $1 slot, $2 id, $3 when it was seen; $4 the
    # period.
    # Sorted, two replicas that write the same sessions wait in one order. A small table may be read
    # through instead; should they deadlock then, the caller sends it again.
    # LEAST: the gate's time is an estimate, and the future would put the end off.
    NOTE_SEEN = """
        UPDATE sessions AS s
        SET last_seen_time = LEAST(k.seen, now())
        FROM unnest($1::smallint[], $2::uuid[], $3::timestamptz[]) AS k (slot, id, seen)
        WHERE s.slot = k.slot AND s.id = k.id
          AND s.last_seen_time + $4::interval <= k.seen AND s.revoke_time IS NULL
    """

    async def note_seen(self, seen: Mapping[UUID, datetime], *, period: timedelta) -> None:
        rows = sorted((slot_of(id), id, time) for id, time in seen.items())
        columns = zip(*rows, strict=True)
        await self._connection.execute(self.NOTE_SEEN, *columns, period)

    EXISTS = "SELECT EXISTS (SELECT 1 FROM sessions WHERE slot = $1 AND id = $2)"

    async def exists(self, session_id: UUID) -> bool:
        return bool(await self._connection.fetchval(self.EXISTS, slot_of(session_id), session_id))


class LiveSessionStore:
    """Implements watchword.login.ports.LiveSessionStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 idle lifetime
    FIND = """
        SELECT s.id AS session_id, s.verifier, s.create_time, s.auth_time, s.expire_time,
               s.last_seen_time,
               s.epoch AS session_epoch, u.version AS user_version,
               u.id, u.full_name, u.username, u.email, u.locale, u.state, u.auth_epoch,
               now() AS as_of_time,
               ARRAY(
                   SELECT r.role
                   FROM user_roles r
                   WHERE r.slot = $1 AND r.user_id = u.id
                   ORDER BY r.role COLLATE "C"
               ) AS roles,
               ARRAY(
                   SELECT DISTINCT p.permission COLLATE "C"
                   FROM user_roles r
                   JOIN role_permissions p ON p.role = r.role
                   WHERE r.slot = $1 AND r.user_id = u.id
                   ORDER BY p.permission COLLATE "C"
               ) AS permissions
        FROM sessions s
        JOIN users u ON u.slot = $1 AND u.id = s.user_id
        WHERE s.slot = $1 AND s.id = $2
          AND s.revoke_time IS NULL AND s.expire_time > now()
          AND s.last_seen_time + $3::interval > now()
          AND s.epoch >= u.auth_epoch AND u.state = 'active'
    """

    async def find(self, session_id: UUID, *, idle_lifetime: timedelta) -> LiveSession | None:
        row = await self._connection.fetchrow(
            self.FIND, slot_of(session_id), session_id, idle_lifetime
        )
        return None if row is None else _live_session(row)

    # The same for many; $1 slots and $2 ids, each id once, $3 idle lifetime. Both come as text[]:
    # of other arrays the driver asks for the type, with a slow statement on each new connection.
    # The roles are joined, since a sub-query would have to name its slots anew; the row of the time
    # is there when nothing is found.
    FIND_MANY = """
        SELECT s.id AS session_id, s.verifier, s.create_time, s.auth_time, s.expire_time,
               s.last_seen_time,
               s.epoch AS session_epoch, u.version AS user_version,
               u.id, u.full_name, u.username, u.email, u.locale, u.state, u.auth_epoch,
               now() AS as_of_time,
               COALESCE(
                   array_agg(DISTINCT r.role COLLATE "C") FILTER (WHERE r.role IS NOT NULL),
                   ARRAY[]::text[]
               ) AS roles,
               COALESCE(
                   array_agg(DISTINCT p.permission COLLATE "C")
                       FILTER (WHERE p.permission IS NOT NULL),
                   ARRAY[]::text[]
               ) AS permissions
        FROM (SELECT 1) AS always
        LEFT JOIN (
            unnest($1::text[]::smallint[], $2::text[]::uuid[]) AS asked (slot, id)
            JOIN sessions s ON s.slot = asked.slot AND s.id = asked.id
            JOIN users u ON u.slot = asked.slot AND u.id = s.user_id
            LEFT JOIN user_roles r ON r.slot = asked.slot AND r.user_id = u.id
            LEFT JOIN role_permissions p ON p.role = r.role
        ) ON s.revoke_time IS NULL AND s.expire_time > now()
          AND s.last_seen_time + $3::interval > now()
          AND s.epoch >= u.auth_epoch AND u.state = 'active'
        GROUP BY s.slot, s.id, u.slot, u.id
    """

    async def find_many(
        self, session_ids: Sequence[UUID], *, idle_lifetime: timedelta
    ) -> tuple[dict[UUID, LiveSession], datetime]:
        slots = [str(slot_of(session_id)) for session_id in session_ids]
        ids = [str(session_id) for session_id in session_ids]
        rows = await self._connection.fetch(self.FIND_MANY, slots, ids, idle_lifetime)
        found = [_live_session(row) for row in rows if row["session_id"] is not None]
        return {live.session.id: live for live in found}, rows[0]["as_of_time"]


def _live_session(row: asyncpg.Record) -> LiveSession:
    return LiveSession(
        session=Session(
            id=row["session_id"],
            user_id=row["id"],
            create_time=row["create_time"],
            auth_time=row["auth_time"],
            expire_time=row["expire_time"],
        ),
        verifier=row["verifier"],
        user=user_of(row),
        grants=Grants(tuple(row["roles"]), tuple(row["permissions"])),
        session_epoch=row["session_epoch"],
        user_version=row["user_version"],
        as_of_time=row["as_of_time"],
        last_seen_time=row["last_seen_time"],
    )
