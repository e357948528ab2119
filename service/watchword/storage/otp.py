"""Challenges. Live = not consumed, not ended, not expired, by the database's clock."""

from uuid import UUID

import asyncpg

from watchword.crypto import CodeSource, slot_of, slot_of_subject
from watchword.otp.model import (
    IssuedChallenge,
    NewChallenge,
    Purpose,
    ResendableChallenge,
)
from watchword.storage.pool import Connection


def source_of(row: asyncpg.Record) -> CodeSource:
    """Maps a row with what a code is derived from; its challenge id is `challenge_id`."""
    return CodeSource(
        key_id=row["key_id"],
        purpose=row["purpose"],
        challenge_id=row["challenge_id"],
        subject_key=row["subject_key"],
        nonce=row["nonce"],
    )


class ChallengeStore:
    """Implements watchword.otp.ports.ChallengeStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 purpose, $4 subject, $5 nonce, $6 key id, $7 code form, $8 user id,
    # $9 registration id, $10 lifetime, $11 mailbox key, $12 device key, $13 whose address it
    # changes
    INSERT = """
        INSERT INTO challenges (slot, id, purpose, subject_key, nonce, key_id, code_form, attempts,
                                attempts_by_email, user_id, registration_id, create_time,
                                expire_time, mailbox_key, device_key, changes_user_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9, now(), now() + $10::interval, $11,
                $12, $13)
        ON CONFLICT (slot, id) DO NOTHING
        RETURNING expire_time, create_time
    """

    async def insert(self, challenge: NewChallenge) -> IssuedChallenge | None:
        source = challenge.source
        row = await self._connection.fetchrow(
            self.INSERT,
            slot_of(source.challenge_id),
            source.challenge_id,
            source.purpose,
            source.subject_key,
            source.nonce,
            source.key_id,
            challenge.code_form,
            challenge.user_id,
            challenge.registration_id,
            challenge.lifetime,
            challenge.mailbox_key,
            challenge.device_key,
            challenge.changes_user_id,
        )
        if row is None:
            return None
        return IssuedChallenge(
            id=source.challenge_id,
            code_form=challenge.code_form,
            expire_time=row["expire_time"],
            asked_time=row["create_time"],
        )

    FIND_ISSUED = """
        SELECT code_form, expire_time, create_time,
               consume_time IS NULL AND end_time IS NULL AND expire_time > now() AS is_live
        FROM challenges
        WHERE slot = $1 AND id = $2
    """

    async def find_issued(self, challenge_id: UUID) -> tuple[IssuedChallenge, bool] | None:
        row = await self._connection.fetchrow(self.FIND_ISSUED, slot_of(challenge_id), challenge_id)
        if row is None:
            return None
        issued = IssuedChallenge(
            id=challenge_id,
            code_form=row["code_form"],
            expire_time=row["expire_time"],
            asked_time=row["create_time"],
        )
        return issued, row["is_live"]

    FIND_RESENDABLE = """
        SELECT code_form, expire_time, now() AS asked_time, subject_key, mailbox_key,
               user_id IS NULL AND registration_id IS NULL AS is_shadow
        FROM challenges
        WHERE slot = $1 AND id = $2 AND purpose = $3
          AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
    """

    async def find_resendable(
        self, challenge_id: UUID, *, purpose: Purpose
    ) -> ResendableChallenge | None:
        row = await self._connection.fetchrow(
            self.FIND_RESENDABLE, slot_of(challenge_id), challenge_id, purpose
        )
        if row is None:
            return None
        issued = IssuedChallenge(
            id=challenge_id,
            code_form=row["code_form"],
            expire_time=row["expire_time"],
            asked_time=row["asked_time"],
        )
        return ResendableChallenge(
            issued,
            is_shadow=row["is_shadow"],
            subject_key=row["subject_key"],
            mailbox_key=row["mailbox_key"],
        )

    # $1 slot, $2 subject. Locked in the order of their ids first, as wherever several are.
    END_ALL = """
        WITH locked AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND subject_key = $2 AND expire_time > now()
            ORDER BY id
            FOR UPDATE
        )
        UPDATE challenges
        SET end_time = now()
        WHERE slot = $1 AND id IN (SELECT id FROM locked)
          AND consume_time IS NULL AND end_time IS NULL
    """

    async def end_all(self, subject_key: bytes) -> None:
        await self._connection.execute(self.END_ALL, slot_of_subject(subject_key), subject_key)

    SUBJECT_OF = """
        SELECT subject_key
        FROM challenges
        WHERE slot = $1 AND id = $2 AND purpose = $3
          AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
    """

    async def subject_of(self, challenge_id: UUID, *, purpose: Purpose) -> bytes | None:
        subject_key: bytes | None = await self._connection.fetchval(
            self.SUBJECT_OF, slot_of(challenge_id), challenge_id, purpose
        )
        return subject_key

    EXISTS = "SELECT EXISTS (SELECT 1 FROM challenges WHERE slot = $1 AND id = $2)"

    async def exists(self, challenge_id: UUID) -> bool:
        return bool(
            await self._connection.fetchval(self.EXISTS, slot_of(challenge_id), challenge_id)
        )
