"""Failure budgets of subjects and known devices; attempts.py charges them and gives back."""

from datetime import timedelta

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
    # month, $7 in a row. Periods are in microseconds; the lane by e-mail has half.
    IS_SPENT = """
        SELECT EXISTS (
            SELECT 1
            FROM subject_budgets
            CROSS JOIN (SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us) AS present
            WHERE slot = $1 AND subject_key = $2
              AND (in_a_row >= $7
                   OR in_a_row_by_email >= $7 / 2
                   OR failures[$3] + $4 > us
                   OR failures[$5] + $6 > us
                   OR failures_by_email[$3 / 2] + $4 > us
                   OR failures_by_email[$5 / 2] + $6 > us)
        )
    """

    async def is_spent(self, key: bytes, *, slot: int, budget: FailureBudget) -> bool:
        return bool(await self._connection.fetchval(self.IS_SPENT, slot, key, *limits_of(budget)))
