"""What a presented code costs, and the one time that it is used up.

Live = not consumed, not ended, not expired, by the database's clock.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from watchword.crypto import slot_of, slot_of_subject
from watchword.otp.level import level_max
from watchword.otp.model import Charge, ConsumedChallenge, Purpose
from watchword.otp.policy import LONG_CODE_FORM, FailureBudget
from watchword.storage.budgets import limits_of
from watchword.storage.otp import source_of
from watchword.storage.pool import Connection


def charge_of(
    rows: Sequence[asyncpg.Record], *, by_email: bool, device_key: bytes | None = None
) -> Charge:
    """Maps the rows of a charge: a source each, with the entry that all of them have in the budget.

    No rows: nothing was charged, or the budget had no room.
    """
    if not rows:
        return Charge()
    return Charge(
        [source_of(row) for row in rows],
        units=len(rows),
        failed_at_us=rows[0]["failed_at_us"],
        by_email=by_email,
        device_key=device_key,
    )


class AttemptStore:
    """Implements watchword.otp.ports.AttemptStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 id, $3 purpose, $4 code form, $5 most attempts; the budget: $6 in a day,
    # $7 a day, $8 in a month, $9 a month, $10 in a row. Periods are in microseconds. $11 the known
    # device whose budget it is, NULL: the subject's; $12 the highest form that the installation's
    # level may demand. A code that is shorter than demanded has one attempt left from then on.
    # The entry that would be the ($6 + 1)th newest has to be a day old. Time never goes back in
    # `failures`, or that would count too few.
    CHARGE_BY_ID = """
        WITH level AS (
            SELECT LEAST($12::integer,
                         GREATEST((eight_digits_until_us > us)::integer * 8,
                                  (long_codes_until_us > us)::integer * 13)) AS form
            FROM installation
            CROSS JOIN (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us) AS present
            WHERE id = 1
        ), charged AS (
            UPDATE challenges
            SET attempts = attempts + 1,
                attempts_after_alarm = attempts_after_alarm + (code_form < level.form)::integer
            FROM level
            WHERE slot = $1 AND id = $2 AND purpose = $3 AND code_form = $4
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
              AND attempts < $5
              AND (code_form >= level.form OR attempts_after_alarm < 1)
            RETURNING id AS challenge_id, purpose, subject_key, nonce, key_id
        ), budget AS (
            INSERT INTO subject_budgets AS b (slot, subject_key, failures, failures_by_email,
                                              in_a_row, in_a_row_by_email, charge_time)
            SELECT $1, COALESCE($11::bytea, subject_key),
                   ARRAY[(extract(epoch FROM now()) * 1000000)::bigint], ARRAY[]::bigint[],
                   1, 0, now()
            FROM charged
            ON CONFLICT (slot, subject_key) DO UPDATE
            SET failures = (GREATEST(b.failures[1], EXCLUDED.failures[1]) || b.failures)[1:$8],
                in_a_row = b.in_a_row + 1,
                charge_time = EXCLUDED.charge_time
            WHERE b.in_a_row < $10
              AND (b.failures[$6] + $7 > EXCLUDED.failures[1]) IS NOT TRUE
              AND (b.failures[$8] + $9 > EXCLUDED.failures[1]) IS NOT TRUE
            RETURNING b.failures[1] AS failed_at_us
        )
        SELECT challenge_id, purpose, subject_key, nonce, key_id, failed_at_us
        FROM charged
        CROSS JOIN budget
    """

    async def charge_by_id(
        self,
        challenge_id: UUID,
        *,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        budget: FailureBudget,
        device_key: bytes | None = None,
    ) -> Charge:
        rows = await self._connection.fetch(
            self.CHARGE_BY_ID,
            slot_of(challenge_id),
            challenge_id,
            purpose,
            code_form,
            attempts_max,
            *limits_of(budget),
            device_key,
            level_max(known_device=device_key is not None),
        )
        return charge_of(rows, by_email=False, device_key=device_key)

    # $1 slot, $2 subject, $3 purpose, $4 code form, $5 most attempts, $6 how many challenges; the
    # budget, of which this lane has half: $7 in a day, $8 a day, $9 in a month, $10 a month,
    # $11 in a row. Periods are in microseconds.
    # `room` is read without a lock and only says how many to try: in the end the budget's own WHERE
    # decides, where EXCLUDED.in_a_row is how many are charged.
    # A challenge whose lane is spent still counts among the newest. They are locked in the order
    # of their ids first: two calls that charge the same ones would deadlock otherwise.
    CHARGE_BY_EMAIL = """
        WITH present AS (
            SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us
        ), level AS (
            SELECT GREATEST((eight_digits_until_us > us)::integer * 8,
                            (long_codes_until_us > us)::integer * 13) AS form
            FROM installation
            CROSS JOIN present
            WHERE id = 1
        ), room AS (
            SELECT GREATEST(0, LEAST(
                       $11::integer - in_a_row,
                       $11::integer / 2 - in_a_row_by_email,
                       $7::integer - (SELECT count(*) FROM unnest(failures) AS f (at)
                                      WHERE at + $8::bigint > us),
                       $9::integer - (SELECT count(*) FROM unnest(failures) AS f (at)
                                      WHERE at + $10::bigint > us),
                       $7::integer / 2 - (SELECT count(*) FROM unnest(failures_by_email) AS f (at)
                                          WHERE at + $8::bigint > us),
                       $9::integer / 2 - (SELECT count(*) FROM unnest(failures_by_email) AS f (at)
                                          WHERE at + $10::bigint > us)
                   )) AS units
            FROM subject_budgets
            CROSS JOIN present
            WHERE slot = $1 AND subject_key = $2
        ), newest AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND subject_key = $2 AND purpose = $3 AND code_form = $4
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
            ORDER BY create_time DESC, id DESC
            LIMIT LEAST($6::integer, (SELECT units FROM room))
        ), locked AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND id IN (SELECT id FROM newest)
            ORDER BY id
            FOR UPDATE
        ), charged AS (
            UPDATE challenges
            SET attempts_by_email = attempts_by_email + 1,
                attempts_by_email_after_alarm =
                    attempts_by_email_after_alarm + (code_form < level.form)::integer
            FROM level
            WHERE slot = $1 AND id IN (SELECT id FROM locked)
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
              AND attempts_by_email < $5
              AND (code_form >= level.form OR attempts_by_email_after_alarm < 1)
            RETURNING id AS challenge_id, purpose, subject_key, nonce, key_id
        ), budget AS (
            INSERT INTO subject_budgets AS b (slot, subject_key, failures, failures_by_email,
                                              in_a_row, in_a_row_by_email, charge_time)
            SELECT $1, $2, array_agg(us), array_agg(us), count(*), count(*), now()
            FROM charged
            CROSS JOIN present
            HAVING count(*) > 0
            ON CONFLICT (slot, subject_key) DO UPDATE
            SET failures = (
                    array_fill(GREATEST(b.failures[1], EXCLUDED.failures[1]),
                               ARRAY[EXCLUDED.in_a_row]) || b.failures
                )[1:$9],
                failures_by_email = (
                    array_fill(GREATEST(b.failures[1], EXCLUDED.failures[1]),
                               ARRAY[EXCLUDED.in_a_row]) || b.failures_by_email
                )[1:$9],
                in_a_row = b.in_a_row + EXCLUDED.in_a_row,
                in_a_row_by_email = b.in_a_row_by_email + EXCLUDED.in_a_row,
                charge_time = EXCLUDED.charge_time
            WHERE b.in_a_row + EXCLUDED.in_a_row <= $11
              AND b.in_a_row_by_email + EXCLUDED.in_a_row <= $11 / 2
              AND (b.failures[$7 + 1 - EXCLUDED.in_a_row] + $8
                   > EXCLUDED.failures[1]) IS NOT TRUE
              AND (b.failures[$9 + 1 - EXCLUDED.in_a_row] + $10
                   > EXCLUDED.failures[1]) IS NOT TRUE
              AND (b.failures_by_email[$7 / 2 + 1 - EXCLUDED.in_a_row] + $8
                   > EXCLUDED.failures[1]) IS NOT TRUE
              AND (b.failures_by_email[$9 / 2 + 1 - EXCLUDED.in_a_row] + $10
                   > EXCLUDED.failures[1]) IS NOT TRUE
            RETURNING b.failures[1] AS failed_at_us
        )
        SELECT challenge_id, purpose, subject_key, nonce, key_id, failed_at_us
        FROM charged
        CROSS JOIN budget
    """

    async def charge_by_email(
        self,
        subject_key: bytes,
        *,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        newest: int,
        budget: FailureBudget,
    ) -> Charge:
        rows = await self._connection.fetch(
            self.CHARGE_BY_EMAIL,
            slot_of_subject(subject_key),
            subject_key,
            purpose,
            code_form,
            attempts_max,
            newest,
            *limits_of(budget),
        )
        return charge_of(rows, by_email=True)

    # $1 slot, $2 id, $3 purpose, $4 the long form
    FIND_LONG_BY_ID = """
        SELECT id AS challenge_id, purpose, subject_key, nonce, key_id
        FROM challenges
        WHERE slot = $1 AND id = $2 AND purpose = $3 AND code_form = $4
          AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
    """

    async def find_long_by_id(
        self, challenge_id: UUID, *, purpose: Purpose, device_key: bytes | None = None
    ) -> Charge:
        rows = await self._connection.fetch(
            self.FIND_LONG_BY_ID, slot_of(challenge_id), challenge_id, purpose, LONG_CODE_FORM
        )
        return Charge([source_of(row) for row in rows], device_key=device_key)

    # $1 slot, $2 subject, $3 purpose, $4 the long form, $5 how many challenges, $6 the known device
    # whose own come first, or NULL
    FIND_LONG_BY_EMAIL = """
        SELECT id AS challenge_id, purpose, subject_key, nonce, key_id
        FROM challenges
        WHERE slot = $1 AND subject_key = $2 AND purpose = $3 AND code_form = $4
          AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
        ORDER BY (device_key = $6::bytea) IS TRUE DESC, create_time DESC, id DESC
        LIMIT $5
    """

    async def find_long_by_email(
        self, subject_key: bytes, *, purpose: Purpose, newest: int, device_key: bytes | None = None
    ) -> Charge:
        rows = await self._connection.fetch(
            self.FIND_LONG_BY_EMAIL,
            slot_of_subject(subject_key),
            subject_key,
            purpose,
            LONG_CODE_FORM,
            newest,
            device_key,
        )
        return Charge([source_of(row) for row in rows], device_key=device_key)

    # $1 slot, $2 the challenge, $3 its subject; of the charge: $4 its entry in the budget, $5 how
    # many of them, $6 how many by e-mail, $7 whose budget, the subject's or a known device's.
    # The subject's challenges are locked in the order of their ids first: two sign-ins of one
    # subject would each wait for the other's otherwise. Counting them all has them all locked
    # before the budget, as a charge does.
    # Entries of one time stand side by side and are alike, so any $5 of them are the charge's.
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
        ), given_back AS (
            UPDATE subject_budgets
            SET failures = COALESCE(
                    failures[:array_position(failures, $4::bigint) - 1]
                        || failures[array_position(failures, $4::bigint) + $5::integer:],
                    failures),
                failures_by_email = COALESCE(
                    failures_by_email[:array_position(failures_by_email, $4::bigint) - 1]
                        || failures_by_email[
                            array_position(failures_by_email, $4::bigint) + $6::integer:],
                    failures_by_email),
                in_a_row = 0,
                in_a_row_by_email = 0
            WHERE slot = $1 AND subject_key = $7 AND EXISTS (SELECT 1 FROM consumed)
              AND (SELECT count(*) FROM locked) > 0
        )
        SELECT user_id, registration_id FROM consumed
    """

    async def consume(
        self, challenge_id: UUID, *, subject_key: bytes, charge: Charge
    ) -> ConsumedChallenge | None:
        row = await self._connection.fetchrow(
            self.CONSUME,
            slot_of(challenge_id),
            challenge_id,
            subject_key,
            charge.failed_at_us,
            charge.units,
            charge.units if charge.by_email else 0,
            charge.device_key or subject_key,
        )
        if row is None:
            return None
        return ConsumedChallenge(user_id=row["user_id"], registration_id=row["registration_id"])
