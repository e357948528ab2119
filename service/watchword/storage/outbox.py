"""The queue of mails."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from watchword.crypto import slot_of
from watchword.mail.outbox import Candidate, LeasedMail, OutboxKey, Recipient
from watchword.storage.otp import source_of
from watchword.storage.pool import Connection


class OutboxStore:
    """Implements watchword.mail.outbox.OutboxStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 challenge id, $4 locale, $5 state, $6 whether a known device asked
    PUT = """
        INSERT INTO outbox (slot, id, kind, challenge_id, locale, state, known_device, attempts,
                            create_time, next_time)
        VALUES ($1, $2, 'otp', $3, $4, $5, $6, 0, now(), now())
        ON CONFLICT (slot, id) DO NOTHING
    """

    async def put(
        self,
        outbox_id: UUID,
        *,
        challenge_id: UUID,
        locale: str | None,
        is_shadow: bool = False,
        known_device: bool = False,
    ) -> None:
        await self._connection.execute(
            self.PUT,
            slot_of(challenge_id),
            outbox_id,
            challenge_id,
            locale,
            "dropped" if is_shadow else "pending",
            known_device,
        )

    QUEUED_TIME = "SELECT create_time FROM outbox WHERE slot = $1 AND id = $2"

    async def queued_time(self, outbox_id: UUID) -> datetime | None:
        queued: datetime | None = await self._connection.fetchval(
            self.QUEUED_TIME, slot_of(outbox_id), outbox_id
        )
        return queued

    # sql-rules: all slots (the dispatcher's candidates)
    CANDIDATES = """
        SELECT slot, id, known_device
        FROM outbox
        WHERE state = 'pending' AND next_time <= now()
          AND (lease_expire_time IS NULL OR lease_expire_time <= now())
        ORDER BY known_device DESC, next_time
        LIMIT $1
    """

    async def candidates(self, *, limit: int) -> Sequence[Candidate]:
        rows = await self._connection.fetch(self.CANDIDATES, limit)
        return [Candidate(OutboxKey(row["slot"], row["id"]), row["known_device"]) for row in rows]

    # $1 slot, $2 id, $3 lease id, $4 how long the lease lasts
    LEASE = """
        UPDATE outbox AS o
        SET lease_id = $3, lease_expire_time = now() + $4::interval, attempts = o.attempts + 1
        FROM challenges c
        WHERE o.slot = $1 AND o.id = $2 AND o.state = 'pending'
          AND (o.lease_expire_time IS NULL OR o.lease_expire_time <= now())
          AND c.slot = $1 AND c.id = o.challenge_id
        RETURNING o.attempts, o.locale, o.known_device, o.create_time AS queued_time,
                  c.id AS challenge_id, c.purpose, c.subject_key, c.nonce, c.key_id, c.code_form,
                  c.user_id, c.registration_id,
                  c.consume_time IS NULL AND c.end_time IS NULL AND c.expire_time > now() AS wanted,
                  c.expire_time - now() AS time_left
    """

    async def lease(
        self, key: OutboxKey, *, lease_id: UUID, lifetime: timedelta
    ) -> LeasedMail | None:
        row = await self._connection.fetchrow(self.LEASE, key.slot, key.id, lease_id, lifetime)
        if row is None:
            return None
        return LeasedMail(
            key=key,
            lease_id=lease_id,
            attempts=row["attempts"],
            source=source_of(row),
            code_length=row["code_form"],
            locale=row["locale"],
            known_device=row["known_device"],
            user_id=row["user_id"],
            registration_id=row["registration_id"],
            wanted=row["wanted"],
            time_left=row["time_left"],
            queued_time=row["queued_time"],
        )

    USER_RECIPIENT = """
        SELECT email, locale FROM users WHERE slot = $1 AND id = $2 AND state = 'active'
    """
    REGISTRATION_RECIPIENT = "SELECT email, locale FROM registrations WHERE slot = $1 AND id = $2"

    async def recipient(self, mail: LeasedMail) -> Recipient | None:
        if mail.user_id is not None:
            row = await self._connection.fetchrow(
                self.USER_RECIPIENT, slot_of(mail.user_id), mail.user_id
            )
        elif mail.registration_id is not None:
            row = await self._connection.fetchrow(
                self.REGISTRATION_RECIPIENT, slot_of(mail.registration_id), mail.registration_id
            )
        else:
            row = None
        return None if row is None else Recipient(row["email"], row["locale"])

    # $1 slot, $2 id, $3 lease id, which fences off a dispatcher whose lease has ended
    MARK_SENT = """
        UPDATE outbox
        SET state = 'sent', end_time = now()
        WHERE slot = $1 AND id = $2 AND state = 'pending' AND lease_id = $3
        RETURNING id
    """

    async def mark_sent(self, mail: LeasedMail) -> bool:
        return await self._settle(self.MARK_SENT, mail)

    DROP = """
        UPDATE outbox
        SET state = 'dropped', end_time = now()
        WHERE slot = $1 AND id = $2 AND state = 'pending' AND lease_id = $3
        RETURNING id
    """

    async def drop(self, mail: LeasedMail) -> bool:
        return await self._settle(self.DROP, mail)

    # $1 slot, $2 id, $3 lease id, $4 how long to wait
    RETRY_LATER = """
        UPDATE outbox
        SET next_time = now() + $4::interval, lease_id = NULL, lease_expire_time = NULL
        WHERE slot = $1 AND id = $2 AND state = 'pending' AND lease_id = $3
        RETURNING id
    """

    async def retry_later(self, mail: LeasedMail, *, delay: timedelta) -> bool:
        return await self._settle(self.RETRY_LATER, mail, delay)

    async def _settle(self, statement: str, mail: LeasedMail, *arguments: object) -> bool:
        settled = await self._connection.fetchval(
            statement, mail.key.slot, mail.key.id, mail.lease_id, *arguments
        )
        return settled is not None
