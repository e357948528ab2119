"""Challenges. Live = not consumed, not ended, not expired, by the database's clock."""

from uuid import UUID

import asyncpg

from watchword.crypto import CodeSource, slot_of, slot_of_subject
from watchword.otp.model import (
    ConsumedChallenge,
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
    # $9 registration id, $10 lifetime, $11 mailbox key
    INSERT = """
        INSERT INTO challenges (slot, id, purpose, subject_key, nonce, key_id, code_form, attempts,
                                attempts_by_email, user_id, registration_id, create_time,
                                expire_time, mailbox_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9, now(), now() + $10::interval, $11)
        RETURNING expire_time, create_time
    """

    async def insert(self, challenge: NewChallenge) -> IssuedChallenge:
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
        )
        assert row is not None  # INSERT without ON CONFLICT answers its row or raises
        return IssuedChallenge(
            id=source.challenge_id,
            code_form=challenge.code_form,
            expire_time=row["expire_time"],
            asked_time=row["create_time"],
        )

    FIND_RESENDABLE = """
        SELECT code_form, expire_time, now() AS asked_time, mailbox_key,
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
            issued, is_shadow=row["is_shadow"], mailbox_key=row["mailbox_key"]
        )

    EXISTS = "SELECT EXISTS (SELECT 1 FROM challenges WHERE slot = $1 AND id = $2)"

    async def exists(self, challenge_id: UUID) -> bool:
        return bool(
            await self._connection.fetchval(self.EXISTS, slot_of(challenge_id), challenge_id)
        )

    # $1 slot, $2 id, $3 purpose, $4 code form, $5 most attempts
    CHARGE_BY_ID = """
        UPDATE challenges
        SET attempts = attempts + 1
        WHERE slot = $1 AND id = $2 AND purpose = $3 AND code_form = $4
          AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
          AND attempts < $5
        RETURNING id AS challenge_id, purpose, subject_key, nonce, key_id
    """

    async def charge_by_id(
        self, challenge_id: UUID, *, purpose: Purpose, code_form: int, attempts_max: int
    ) -> list[CodeSource]:
        rows = await self._connection.fetch(
            self.CHARGE_BY_ID,
            slot_of(challenge_id),
            challenge_id,
            purpose,
            code_form,
            attempts_max,
        )
        return [source_of(row) for row in rows]

    # $1 slot, $2 subject, $3 purpose, $4 code form, $5 most attempts, $6 how many challenges.
    # A challenge whose lane is spent still counts among the newest. They are locked in the order
    # of their ids first: two calls that charge the same ones would deadlock otherwise.
    CHARGE_BY_EMAIL = """
        WITH newest AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND subject_key = $2 AND purpose = $3 AND code_form = $4
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
            ORDER BY create_time DESC, id DESC
            LIMIT $6
        ), locked AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND id IN (SELECT id FROM newest)
            ORDER BY id
            FOR UPDATE
        )
        UPDATE challenges
        SET attempts_by_email = attempts_by_email + 1
        WHERE slot = $1 AND id IN (SELECT id FROM locked)
          AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
          AND attempts_by_email < $5
        RETURNING id AS challenge_id, purpose, subject_key, nonce, key_id
    """

    async def charge_by_email(
        self,
        subject_key: bytes,
        *,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        newest: int,
    ) -> list[CodeSource]:
        rows = await self._connection.fetch(
            self.CHARGE_BY_EMAIL,
            slot_of_subject(subject_key),
            subject_key,
            purpose,
            code_form,
            attempts_max,
            newest,
        )
        return [source_of(row) for row in rows]

    # $1 slot, $2 the challenge, $3 its subject. The subject's challenges are locked in the order of
    # their ids first: two sign-ins of one subject would each wait for the other's otherwise.
    CONSUME = """
        WITH locked AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND subject_key = $3 AND expire_time > now()
            ORDER BY id
            FOR UPDATE
        ), consumed AS (
            UPDATE challenges
            SET consume_time = now()
            WHERE slot = $1 AND id = $2 AND id IN (SELECT id FROM locked)
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
            RETURNING user_id, registration_id
        ), ended AS (
            UPDATE challenges
            SET end_time = now()
            WHERE slot = $1 AND id <> $2 AND id IN (SELECT id FROM locked)
              AND consume_time IS NULL AND end_time IS NULL
              AND EXISTS (SELECT 1 FROM consumed)
        )
        SELECT user_id, registration_id FROM consumed
    """

    async def consume(self, challenge_id: UUID, *, subject_key: bytes) -> ConsumedChallenge | None:
        row = await self._connection.fetchrow(
            self.CONSUME, slot_of(challenge_id), challenge_id, subject_key
        )
        if row is None:
            return None
        return ConsumedChallenge(user_id=row["user_id"], registration_id=row["registration_id"])
