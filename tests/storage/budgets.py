"""What tests of failure budgets do: guess, in both lanes, and look at what was counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from tests.storage.database import new_challenge, subject
from watchword.crypto import slot_of_subject
from watchword.login.ports import Tx
from watchword.otp.model import Charge, Purpose
from watchword.otp.policy import ATTEMPTS_BY_EMAIL_MAX, FAILURE_BUDGET, NEWEST_BY_EMAIL
from watchword.storage.transactions import PgTx

Sql = asyncpg.Connection


async def live(tx: PgTx, sql: Sql, *, count: int = 1, name: str = "ada", form: int = 6) -> UUID:
    """Leaves the subject with so many live challenges, all of them new; returns the newest."""
    await sql.execute("DELETE FROM challenges WHERE subject_key = $1", subject(name))
    challenges = [await tx.challenges.insert(new_challenge(name, form=form)) for _ in range(count)]
    return challenges[-1].id


async def by_id(tx: Tx, challenge_id: UUID, *, attempts_max: int = 5) -> Charge:
    """Charges by id as VerifyOtp does."""
    return await tx.attempts.charge_by_id(
        challenge_id,
        purpose=Purpose.SIGN_IN,
        code_form=6,
        attempts_max=attempts_max,
        budget=FAILURE_BUDGET,
    )


async def by_email(tx: Tx, name: str = "ada") -> Charge:
    """Charges by e-mail as VerifyOtp does."""
    return await tx.attempts.charge_by_email(
        subject(name),
        purpose=Purpose.SIGN_IN,
        code_form=6,
        attempts_max=ATTEMPTS_BY_EMAIL_MAX,
        newest=NEWEST_BY_EMAIL,
        budget=FAILURE_BUDGET,
    )


async def fail(tx: PgTx, sql: Sql, *, times: int = 1, email: bool = False) -> int:
    """Guesses wrong so often, each time on a new challenge; returns how many were compared."""
    compared = 0
    for _ in range(times):
        challenge_id = await live(tx, sql)
        charge = await (by_email(tx) if email else by_id(tx, challenge_id))
        compared += len(charge.sources)
    return compared


async def is_spent(tx: Tx, name: str = "ada") -> bool:
    """What SendOtp asks."""
    standing = await tx.budgets.standing(
        subject(name), slot=slot_of_subject(subject(name)), budget=FAILURE_BUDGET
    )
    return standing.spent


@dataclass(frozen=True)
class Stored:
    """A budget, without the time of its last charge."""

    failures: Sequence[int] = ()
    failures_by_email: Sequence[int] = ()
    in_a_row: int = 0
    in_a_row_by_email: int = 0


async def stored(sql: Sql) -> Stored:
    """The one budget; an empty one when there is none."""
    rows = await sql.fetch(
        "SELECT failures, failures_by_email, in_a_row, in_a_row_by_email FROM subject_budgets"
    )
    assert len(rows) <= 1
    return Stored(**rows[0]) if rows else Stored()
