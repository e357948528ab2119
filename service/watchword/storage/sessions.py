"""Sessions: what begins, ends and uses one."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from watchword.crypto import slot_of
from watchword.sessions.model import EndedSession, NewSession, Session
from watchword.storage.pool import Connection


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
