"""The queue of mails."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of
from watchword.mail.outbox import (
    Candidate,
    CodeMail,
    EmailChangedMail,
    LeasedMail,
    MailKind,
    OutboxKey,
    Recipient,
)
from watchword.storage.otp import source_of
from watchword.storage.pool import Connection


def _code_mail(row: asyncpg.Record) -> CodeMail:
    return CodeMail(
        source=source_of(row),
        code_length=row["code_form"],
        user_id=row["user_id"],
        registration_id=row["registration_id"],
        changes_user_id=row["changes_user_id"],
    )


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

    # $1 slot, $2 id, $3 user id, $4 the change's id
    PUT_EMAIL_CHANGED = """
        INSERT INTO outbox (slot, id, kind, user_id, email_change_id, state, known_device, attempts,
                            create_time, next_time)
        VALUES ($1, $2, 'email_changed', $3, $4, 'pending', false, 0, now(), now())
    """

    async def put_email_changed(
        self, outbox_id: UUID, *, user_id: UUID, email_change_id: UUID
    ) -> None:
        await self._connection.execute(
            self.PUT_EMAIL_CHANGED, slot_of(user_id), outbox_id, user_id, email_change_id
        )

    QUEUED_TIME = "SELECT create_time FROM outbox WHERE slot = $1 AND id = $2"

    async def queued_time(self, outbox_id: UUID) -> datetime | None:
        queued: datetime | None = await self._connection.fetchval(
            self.QUEUED_TIME, slot_of(outbox_id), outbox_id
        )
        return queued

    # sql-rules: all slots (the dispatcher's candidates)
    CANDIDATES = """
        SELECT slot, id, kind, known_device
        FROM outbox
        WHERE state = 'pending' AND next_time <= now() AND kind IN ('otp', 'email_changed')
          AND (lease_expire_time IS NULL OR lease_expire_time <= now())
        ORDER BY known_device DESC, next_time
        LIMIT $1
    """

    async def candidates(self, *, limit: int) -> Sequence[Candidate]:
        rows = await self._connection.fetch(self.CANDIDATES, limit)
        return [
            Candidate(OutboxKey(row["slot"], row["id"]), MailKind(row["kind"]), row["known_device"])
            for row in rows
        ]

    # $1 slot, $2 id, $3 lease id, $4 how long the lease lasts
    LEASE_CODE = """
        UPDATE outbox AS o
        SET lease_id = $3, lease_expire_time = now() + $4::interval, attempts = o.attempts + 1
        FROM challenges c
        WHERE o.slot = $1 AND o.id = $2 AND o.state = 'pending'
          AND (o.lease_expire_time IS NULL OR o.lease_expire_time <= now())
          AND c.slot = $1 AND c.id = o.challenge_id
        RETURNING o.attempts, o.locale, o.known_device, o.create_time AS queued_time,
                  c.id AS challenge_id, c.purpose, c.subject_key, c.nonce, c.key_id, c.code_form,
                  c.user_id, c.registration_id, c.changes_user_id,
                  c.consume_time IS NULL AND c.end_time IS NULL AND c.expire_time > now() AS wanted,
                  c.expire_time - now() AS time_left
    """

    # $1 slot, $2 id, $3 lease id, $4 how long the lease lasts
    LEASE_EMAIL_CHANGED = """
        UPDATE outbox AS o
        SET lease_id = $3, lease_expire_time = now() + $4::interval, attempts = o.attempts + 1
        FROM email_changes e
        WHERE o.slot = $1 AND o.id = $2 AND o.state = 'pending'
          AND (o.lease_expire_time IS NULL OR o.lease_expire_time <= now())
          AND e.slot = $1 AND e.user_id = o.user_id AND e.id = o.email_change_id
        RETURNING o.attempts, o.locale, o.known_device, o.create_time AS queued_time,
                  o.user_id, o.email_change_id,
                  e.expire_time > now() AS wanted, e.expire_time - now() AS time_left
    """

    async def lease(
        self, candidate: Candidate, *, lease_id: UUID, lifetime: timedelta
    ) -> LeasedMail | None:
        key = candidate.key
        asked = (key.slot, key.id, lease_id, lifetime)
        is_code = candidate.kind is MailKind.CODE
        if is_code:
            row = await self._connection.fetchrow(self.LEASE_CODE, *asked)
        else:
            row = await self._connection.fetchrow(self.LEASE_EMAIL_CHANGED, *asked)
        if row is None:
            return None
        return LeasedMail(
            key=key,
            lease_id=lease_id,
            attempts=row["attempts"],
            about=_code_mail(row)
            if is_code
            else EmailChangedMail(row["user_id"], row["email_change_id"]),
            locale=row["locale"],
            known_device=row["known_device"],
            wanted=row["wanted"],
            time_left=row["time_left"],
            queued_time=row["queued_time"],
        )

    USER_RECIPIENT = """
        SELECT email, locale FROM users WHERE slot = $1 AND id = $2 AND state = 'active'
    """
    REGISTRATION_RECIPIENT = "SELECT email, locale FROM registrations WHERE slot = $1 AND id = $2"

    # $1 slot, $2 user id, $3 id. A wish that another has taken the place of is not there.
    NEW_ADDRESS = """
        SELECT e.new_email AS email, u.locale
        FROM email_changes e
        JOIN users u ON u.slot = $1 AND u.id = e.user_id
        WHERE e.slot = $1 AND e.user_id = $2 AND e.id = $3
          AND e.old_email IS NULL AND u.state = 'active'
    """
    # $1 slot, $2 user id, $3 id. Whoever had the address is told, active or not.
    OLD_ADDRESS = """
        SELECT e.old_email AS email, u.locale
        FROM email_changes e
        JOIN users u ON u.slot = $1 AND u.id = e.user_id
        WHERE e.slot = $1 AND e.user_id = $2 AND e.id = $3 AND e.old_email IS NOT NULL
    """

    async def recipient(self, mail: LeasedMail) -> Recipient | None:
        match mail.about:
            case EmailChangedMail(user_id=user_id, email_change_id=change_id):
                return await self._recipient(self.OLD_ADDRESS, user_id, change_id)
            case CodeMail(changes_user_id=UUID() as user_id, source=source):
                return await self._recipient(self.NEW_ADDRESS, user_id, source.challenge_id)
            case CodeMail(user_id=UUID() as user_id):
                return await self._recipient(self.USER_RECIPIENT, user_id)
            case CodeMail(registration_id=UUID() as registration_id):
                return await self._recipient(self.REGISTRATION_RECIPIENT, registration_id)
        return None

    async def _recipient(self, statement: str, id: UUID, *more: UUID) -> Recipient | None:
        row = await self._connection.fetchrow(statement, slot_of(id), id, *more)
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
