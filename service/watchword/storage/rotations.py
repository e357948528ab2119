"""Sessions as a refresh finds and leaves them: which secret is present, and which was before."""

from datetime import timedelta
from uuid import UUID

from watchword.crypto import slot_of
from watchword.sessions.model import ChangedSession, Client, Rotation, Secrets
from watchword.storage.pool import Connection
from watchword.storage.sessions import changed_session, session_of


class RotationStore:
    """Implements watchword.sessions.ports.RotationStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 idle lifetime. The same conditions as LiveSessionStore.FIND.
    FIND = """
        SELECT s.user_id, s.create_time, s.auth_time, s.expire_time, s.verifier,
               s.previous_verifier, s.previous_end_time, s.generation, s.key_id, now() AS as_of_time
        FROM sessions s
        JOIN users u ON u.slot = $1 AND u.id = s.user_id
        JOIN installation i ON i.id = 1
        WHERE s.slot = $1 AND s.id = $2
          AND s.revoke_time IS NULL AND s.expire_time > now()
          AND s.last_seen_time + $3::interval > now()
          AND s.epoch >= u.auth_epoch AND u.state = 'active'
          AND s.installation_epoch >= i.epoch
    """

    async def find(self, session_id: UUID, *, idle_lifetime: timedelta) -> Rotation | None:
        row = await self._connection.fetchrow(
            self.FIND, slot_of(session_id), session_id, idle_lifetime
        )
        if row is None:
            return None
        return Rotation(
            session=session_of(session_id, row),
            secrets=Secrets(row["verifier"], row["previous_verifier"], row["previous_end_time"]),
            generation=row["generation"],
            key_id=row["key_id"],
            as_of_time=row["as_of_time"],
        )

    # $1 slot, $2 id, $3 user id, $4 generation, $5 verifier, $6 key id, $7 client's ip, $8 its user
    # agent, $9 its device name. The user is locked before the session, as everywhere; whoever was
    # faster has raised the generation.
    ROTATE = """
        WITH raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            WHERE u.slot = $1 AND u.id = $3 AND u.state = 'active'
            RETURNING u.id, u.auth_epoch, u.version
        )
        UPDATE sessions AS s
        SET previous_verifier = s.verifier, previous_key_id = s.key_id, previous_end_time = NULL,
            verifier = $5, key_id = $6, generation = s.generation + 1, last_seen_time = now(),
            client_ip = COALESCE($7, s.client_ip),
            client_user_agent = COALESCE($8, s.client_user_agent),
            client_device_name = COALESCE($9, s.client_device_name)
        FROM raised
        WHERE s.slot = $1 AND s.id = $2 AND s.generation = $4
          AND s.revoke_time IS NULL AND s.expire_time > now() AND s.epoch >= raised.auth_epoch
        RETURNING raised.id AS user_id, raised.auth_epoch, raised.version
    """

    async def rotate(
        self, found: Rotation, *, verifier: bytes, key_id: int, client: Client
    ) -> ChangedSession | None:
        session = found.session
        row = await self._connection.fetchrow(
            self.ROTATE,
            slot_of(session.id),
            session.id,
            session.user_id,
            found.generation,
            verifier,
            key_id,
            client.ip,
            client.user_agent,
            client.device_name,
        )
        return changed_session(session.id, row)

    # $1 slot, $2 id, $3 verifier of the present secret, $4 how long the one before goes on
    END_PREVIOUS = """
        WITH owner AS (
            SELECT s.user_id
            FROM sessions AS s
            WHERE s.slot = $1 AND s.id = $2 AND s.verifier = $3
              AND s.previous_verifier IS NOT NULL AND s.previous_end_time IS NULL
        ), raised AS (
            UPDATE users AS u
            SET version = u.version + 1
            FROM owner
            WHERE u.slot = $1 AND u.id = owner.user_id
            RETURNING u.id, u.auth_epoch, u.version
        )
        UPDATE sessions AS s
        SET previous_end_time = now() + $4::interval
        FROM raised
        WHERE s.slot = $1 AND s.id = $2 AND s.verifier = $3
          AND s.previous_verifier IS NOT NULL AND s.previous_end_time IS NULL
        RETURNING raised.id AS user_id, raised.auth_epoch, raised.version
    """

    async def end_previous(
        self, session_id: UUID, *, verifier: bytes, overlap: timedelta
    ) -> ChangedSession | None:
        row = await self._connection.fetchrow(
            self.END_PREVIOUS, slot_of(session_id), session_id, verifier, overlap
        )
        return changed_session(session_id, row)
