"""Sessions: what begins, ends and uses one."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.sessions.model import (
    ChangedSession,
    Client,
    EndedSessions,
    ListedSession,
    NewSession,
    Session,
)
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
                              expire_time, last_seen_time, installation_epoch)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now(), now() + $10::interval, now(),
                (SELECT epoch FROM installation WHERE id = 1))
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

    # $1 slot, $2 id, $3 verifier of the present secret, or of the one before while that is good.
    # The user is locked before the session, as everywhere. Whoever waited for the user and then
    # finds the session ended has raised the version for nothing, which costs a cache one refill at
    # most. One below the epoch is dead for good; whether the session is idle is not asked: it might
    # be used again if the idle lifetime were raised.
    REVOKE = """
        WITH owner AS (
            SELECT s.user_id, s.epoch
            FROM sessions AS s
            JOIN installation AS i ON i.id = 1
            WHERE s.slot = $1 AND s.id = $2
              AND (s.verifier = $3 OR s.previous_verifier = $3
                   AND COALESCE(s.previous_end_time > now(), true))
              AND s.revoke_time IS NULL AND s.expire_time > now()
              AND s.installation_epoch >= i.epoch
        ), raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            FROM owner
            WHERE u.slot = $1 AND u.id = owner.user_id AND owner.epoch >= u.auth_epoch
            RETURNING u.id, u.auth_epoch, u.version
        )
        UPDATE sessions AS s
        SET revoke_time = now()
        FROM raised
        WHERE s.slot = $1 AND s.id = $2
          AND s.revoke_time IS NULL AND s.expire_time > now()
        RETURNING raised.id AS user_id, raised.auth_epoch, raised.version
    """

    async def revoke(self, session_id: UUID, *, verifier: bytes) -> ChangedSession | None:
        row = await self._connection.fetchrow(
            self.REVOKE, slot_of(session_id), session_id, verifier
        )
        return changed_session(session_id, row)

    # $1 slot, $2 id, $3 user id
    REVOKE_BY_ID = """
        WITH raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            WHERE u.slot = $1 AND u.id = $3
            RETURNING u.id, u.auth_epoch, u.version
        )
        UPDATE sessions AS s
        SET revoke_time = now()
        FROM raised
        JOIN installation AS i ON i.id = 1
        WHERE s.slot = $1 AND s.id = $2 AND s.user_id = raised.id
          AND s.revoke_time IS NULL AND s.expire_time > now() AND s.epoch >= raised.auth_epoch
          AND s.installation_epoch >= i.epoch
        RETURNING raised.id AS user_id, raised.auth_epoch, raised.version
    """

    async def revoke_by_id(self, session_id: UUID, *, user_id: UUID) -> ChangedSession | None:
        row = await self._connection.fetchrow(
            self.REVOKE_BY_ID, slot_of(session_id), session_id, user_id
        )
        return changed_session(session_id, row)

    # $1 slot, $2 user id, $3 the session that is spared. No row when there is no other.
    REVOKE_OTHERS = """
        WITH raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            WHERE u.slot = $1 AND u.id = $2
              AND EXISTS (
                  SELECT 1
                  FROM sessions AS o
                  JOIN installation i ON i.id = 1
                  WHERE o.slot = $1 AND o.user_id = $2 AND o.id <> $3
                    AND o.revoke_time IS NULL AND o.expire_time > now()
                    AND o.epoch >= u.auth_epoch AND o.installation_epoch >= i.epoch
              )
            RETURNING u.id, u.auth_epoch, u.version
        ), ended AS (
            UPDATE sessions AS s
            SET revoke_time = now()
            FROM raised
            JOIN installation i ON i.id = 1
            WHERE s.slot = $1 AND s.user_id = raised.id AND s.id <> $3
              AND s.revoke_time IS NULL AND s.expire_time > now() AND s.epoch >= raised.auth_epoch
              AND s.installation_epoch >= i.epoch
            RETURNING s.id
        )
        SELECT raised.id, raised.auth_epoch, raised.version,
               (SELECT count(*) FROM ended) AS ended
        FROM raised
    """

    async def revoke_others(self, user_id: UUID, *, spared: UUID) -> EndedSessions | None:
        row = await self._connection.fetchrow(self.REVOKE_OTHERS, slot_of(user_id), user_id, spared)
        return None if row is None else _ended_sessions(row)

    # $1 slot, $2 user id, $3 the id before which the page begins or NULL, $4 how many, $5 idle
    # lifetime. Ids begin with the time at which they were made.
    LIST_LIVE = """
        SELECT s.id, s.user_id, s.create_time, s.auth_time, s.expire_time, s.last_seen_time,
               s.client_ip, s.client_user_agent, s.client_device_name
        FROM sessions s
        JOIN users u ON u.slot = $1 AND u.id = s.user_id
        JOIN installation i ON i.id = 1
        WHERE s.slot = $1 AND s.user_id = $2 AND ($3::uuid IS NULL OR s.id < $3)
          AND s.revoke_time IS NULL AND s.expire_time > now()
          AND s.last_seen_time + $5::interval > now()
          AND s.epoch >= u.auth_epoch AND u.state = 'active'
          AND s.installation_epoch >= i.epoch
        ORDER BY s.id DESC
        LIMIT $4
    """

    async def list_live(
        self, user_id: UUID, *, before: UUID | None, limit: int, idle_lifetime: timedelta
    ) -> Sequence[ListedSession]:
        rows = await self._connection.fetch(
            self.LIST_LIVE, slot_of(user_id), user_id, before, limit, idle_lifetime
        )
        return [
            ListedSession(
                session=session_of(row["id"], row),
                last_seen_time=row["last_seen_time"],
                client=Client(
                    row["client_ip"], row["client_user_agent"], row["client_device_name"]
                ),
            )
            for row in rows
        ]

    # $1 slot, $2 user id, who is locked, $3 how many stay. No row when there are no more.
    END_OLDEST = """
        WITH ended AS (
            UPDATE sessions AS s
            SET revoke_time = now()
            WHERE s.slot = $1 AND s.id IN (
                SELECT o.id
                FROM sessions AS o
                JOIN users AS u ON u.slot = $1 AND u.id = $2
                JOIN installation AS i ON i.id = 1
                WHERE o.slot = $1 AND o.user_id = $2
                  AND o.revoke_time IS NULL AND o.expire_time > now() AND o.epoch >= u.auth_epoch
                  AND o.installation_epoch >= i.epoch
                ORDER BY o.create_time DESC, o.id DESC
                OFFSET $3
            )
            RETURNING s.id
        ), counted AS (
            SELECT count(*) AS ended FROM ended
        ), raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            FROM counted
            WHERE u.slot = $1 AND u.id = $2 AND counted.ended > 0
            RETURNING u.id, u.auth_epoch, u.version
        )
        SELECT counted.ended, raised.id, raised.auth_epoch, raised.version
        FROM raised
        CROSS JOIN counted
    """

    async def end_oldest(self, user_id: UUID, *, kept: int) -> EndedSessions | None:
        row = await self._connection.fetchrow(self.END_OLDEST, slot_of(user_id), user_id, kept)
        return None if row is None else _ended_sessions(row)

    # $1 slot, $2 user id. Sessions below the epoch are dead, those of sign-ins under way as well.
    REVOKE_ALL = """
        WITH raised AS (
            UPDATE users AS u
            SET auth_epoch = u.auth_epoch + 1, version = u.version + 1
            WHERE u.slot = $1 AND u.id = $2
            RETURNING u.id, u.auth_epoch, u.version
        )
        SELECT raised.id, raised.auth_epoch, raised.version,
               (SELECT count(*)
                FROM sessions AS s
                JOIN installation AS i ON i.id = 1
                WHERE s.slot = $1 AND s.user_id = $2
                  AND s.revoke_time IS NULL AND s.expire_time > now()
                  AND s.epoch >= raised.auth_epoch - 1
                  AND s.installation_epoch >= i.epoch) AS ended
        FROM raised
    """

    async def revoke_all(self, user_id: UUID) -> EndedSessions:
        row = await self._connection.fetchrow(self.REVOKE_ALL, slot_of(user_id), user_id)
        assert row is not None  # the user is locked
        return _ended_sessions(row)

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


def session_of(session_id: UUID, row: asyncpg.Record) -> Session:
    """Maps a row with user and times."""
    return Session(
        id=session_id,
        user_id=row["user_id"],
        create_time=row["create_time"],
        auth_time=row["auth_time"],
        expire_time=row["expire_time"],
    )


def changed_session(session_id: UUID, row: asyncpg.Record | None) -> ChangedSession | None:
    """Maps what a statement answers that has raised the session's user."""
    if row is None:
        return None
    return ChangedSession(
        id=session_id,
        user_id=row["user_id"],
        user_epoch=row["auth_epoch"],
        user_version=row["version"],
    )


def _ended_sessions(row: asyncpg.Record) -> EndedSessions:
    return EndedSessions(row["ended"], row["id"], row["auth_epoch"], row["version"])
