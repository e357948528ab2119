"""What a code by e-mail costs a known device: its own budget, and the attempts by challenge.

Nobody else can spend either: a stranger has neither the device's token nor its challenges' ids.
"""

from watchword.crypto import slot_of_subject
from watchword.otp.level import level_max
from watchword.otp.model import Charge, Purpose
from watchword.otp.policy import FailureBudget
from watchword.storage.attempts import charge_of
from watchword.storage.budgets import limits_of
from watchword.storage.pool import Connection


class DeviceAttemptStore:
    """Implements watchword.otp.ports.DeviceAttemptStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 subject, $3 device, $4 purpose, $5 code form, $6 most attempts, $7 how many
    # challenges; the budget, all of which this lane has: $8 in a day, $9 a day, $10 in a month,
    # $11 a month, $12 in a row; periods are in microseconds. $13 the highest form that the
    # installation's level may demand.
    # AttemptStore.CHARGE_BY_EMAIL says why `room` is read first and why challenges are locked. The
    # device's own come first: strangers could push them out of the newest by asking for codes.
    CHARGE_BY_EMAIL = """
        WITH present AS (
            SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us
        ), level AS (
            SELECT LEAST($13::integer,
                         GREATEST((eight_digits_until_us > us)::integer * 8,
                                  (long_codes_until_us > us)::integer * 13)) AS form
            FROM installation
            CROSS JOIN present
            WHERE id = 1
        ), room AS (
            SELECT GREATEST(0, LEAST(
                       $12::integer - in_a_row,
                       $8::integer - (SELECT count(*) FROM unnest(failures) AS f (at)
                                      WHERE at + $9::bigint > us),
                       $10::integer - (SELECT count(*) FROM unnest(failures) AS f (at)
                                       WHERE at + $11::bigint > us)
                   )) AS units
            FROM subject_budgets
            CROSS JOIN present
            WHERE slot = $1 AND subject_key = $3
        ), newest AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND subject_key = $2 AND purpose = $4 AND code_form = $5
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
            ORDER BY (device_key = $3) IS TRUE DESC, create_time DESC, id DESC
            LIMIT LEAST($7::integer, (SELECT units FROM room))
        ), locked AS (
            SELECT id
            FROM challenges
            WHERE slot = $1 AND id IN (SELECT id FROM newest)
            ORDER BY id
            FOR UPDATE
        ), charged AS (
            UPDATE challenges
            SET attempts = attempts + 1,
                attempts_after_alarm = attempts_after_alarm + (code_form < level.form)::integer
            FROM level
            WHERE slot = $1 AND id IN (SELECT id FROM locked)
              AND consume_time IS NULL AND end_time IS NULL AND expire_time > now()
              AND attempts < $6
              AND (code_form >= level.form OR attempts_after_alarm < 1)
            RETURNING id AS challenge_id, purpose, subject_key, nonce, key_id
        ), budget AS (
            INSERT INTO subject_budgets AS b (slot, subject_key, failures, failures_by_email,
                                              in_a_row, in_a_row_by_email, charge_time)
            SELECT $1, $3, array_agg(us), ARRAY[]::bigint[], count(*), 0, now()
            FROM charged
            CROSS JOIN present
            HAVING count(*) > 0
            ON CONFLICT (slot, subject_key) DO UPDATE
            SET failures = (
                    array_fill(GREATEST(b.failures[1], EXCLUDED.failures[1]),
                               ARRAY[EXCLUDED.in_a_row]) || b.failures
                )[1:$10],
                in_a_row = b.in_a_row + EXCLUDED.in_a_row,
                charge_time = EXCLUDED.charge_time
            WHERE b.in_a_row + EXCLUDED.in_a_row <= $12
              AND (b.failures[$8 + 1 - EXCLUDED.in_a_row] + $9
                   > EXCLUDED.failures[1]) IS NOT TRUE
              AND (b.failures[$10 + 1 - EXCLUDED.in_a_row] + $11
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
        device_key: bytes,
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
            device_key,
            purpose,
            code_form,
            attempts_max,
            newest,
            *limits_of(budget),
            level_max(known_device=True),
        )
        return charge_of(rows, by_email=False, device_key=device_key)
