"""Failure budgets of subjects and known devices; attempts.py charges them and gives back."""

from datetime import timedelta

from watchword.otp.level import CodeLevel, Standing
from watchword.otp.policy import DAY, MONTH, FailureBudget
from watchword.storage.pool import Connection

_MICROSECOND = timedelta(microseconds=1)


def limits_of(budget: FailureBudget) -> tuple[int, int, int, int, int]:
    """Returns in a day, a day, in a month, a month and in a row; periods in microseconds."""
    day, month = DAY // _MICROSECOND, MONTH // _MICROSECOND
    return budget.in_day, day, budget.in_month, month, budget.in_a_row


class BudgetStore:
    """Implements watchword.otp.ports.BudgetStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # $1 slot, $2 subject or known device; the budget: $3 in a day, $4 a day, $5 in a month, $6 a
    # month, $7 in a row. Periods are in microseconds; the lane by e-mail has half. The level comes
    # along, so that it costs no statement of its own and no replica works with an old one.
    STANDING = """
        SELECT GREATEST((i.eight_digits_until_us > us)::integer * 8,
                        (i.long_codes_until_us > us)::integer * 13) AS level,
               EXISTS (
                   SELECT 1
                   FROM subject_budgets
                   WHERE slot = $1 AND subject_key = $2
                     AND (in_a_row >= $7
                          OR in_a_row_by_email >= $7 / 2
                          OR failures[$3] + $4 > us
                          OR failures[$5] + $6 > us
                          OR failures_by_email[$3 / 2] + $4 > us
                          OR failures_by_email[$5 / 2] + $6 > us)
               ) AS spent
        FROM installation AS i
        CROSS JOIN (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us) AS present
        WHERE i.id = 1
    """

    async def standing(self, key: bytes, *, slot: int, budget: FailureBudget) -> Standing:
        row = await self._connection.fetchrow(self.STANDING, slot, key, *limits_of(budget))
        assert row is not None  # the migration has made the installation's row
        return Standing(spent=row["spent"], level=CodeLevel(row["level"]))
