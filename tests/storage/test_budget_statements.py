"""Failure budgets of subjects: what is charged, when there is room, what a success gives back."""

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from tests.storage.budgets import Sql, Stored, by_email, by_id, fail, is_spent, live, stored
from tests.storage.database import new_challenge, open_database, subject
from tests.support.age import age
from watchword.login.ports import Tx
from watchword.otp.model import Charge, Purpose
from watchword.otp.policy import LONG_CODE_FORM, NEWEST_BY_EMAIL
from watchword.storage.transactions import PgTx

DAY = timedelta(hours=24)
MONTH = timedelta(days=30)
# Longer than a test takes, so that an edge is met from the side that is meant.
MARGIN = timedelta(minutes=1)
SECOND_US = 1_000_000
NOW_US = "(extract(epoch FROM now()) * 1000000)::bigint"


async def test_ten_codes_are_compared_in_a_day(tx: PgTx, sql: Sql, database_url: str) -> None:
    """Over as many challenges the tenth is compared, the eleventh not, until a day has gone by.

    Seen to fail with `b.failures[$6]` taken out of CHARGE_BY_ID.
    """
    assert await fail(tx, sql, times=9) == 9
    assert not await is_spent(tx)
    assert await fail(tx, sql, times=3) == 1
    assert await is_spent(tx)
    await age(database_url, DAY - MARGIN)
    assert await fail(tx, sql) == 0
    assert await is_spent(tx)
    await age(database_url, MARGIN)
    assert not await is_spent(tx)
    assert await fail(tx, sql, times=11) == 10


async def test_fifty_codes_are_compared_in_a_month(tx: PgTx, sql: Sql, database_url: str) -> None:
    """Ten a day for five days, then none until the first is 30 days old.

    Seen to fail with `b.failures[$8]` taken out of CHARGE_BY_ID.
    """
    for _ in range(5):
        assert await fail(tx, sql, times=11) == 10
        await age(database_url, DAY)
    assert await is_spent(tx)
    assert await fail(tx, sql) == 0
    await age(database_url, MONTH - 5 * DAY - MARGIN)
    assert await fail(tx, sql) == 0
    await age(database_url, MARGIN)
    assert not await is_spent(tx)
    assert await fail(tx, sql, times=11) == 10
    assert len((await stored(sql)).failures) == 50


async def test_a_hundred_codes_are_compared_in_a_row(tx: PgTx, sql: Sql, database_url: str) -> None:
    """However slowly somebody guesses, the 101st waits for a success, which a long code can be.

    Seen to fail with `b.in_a_row < $10` taken out of CHARGE_BY_ID.
    """
    for _ in range(12):
        await fail(tx, sql, times=9)
        await age(database_url, timedelta(days=6))
    row = await stored(sql)
    assert row.in_a_row == 100
    assert await is_spent(tx)
    assert await fail(tx, sql) == 0
    long = await live(tx, sql, form=LONG_CODE_FORM)
    charge = await tx.attempts.find_long_by_id(long, purpose=Purpose.SIGN_IN)
    assert await tx.attempts.consume(long, subject_key=subject(), charge=charge) is not None
    assert await stored(sql) == replace(row, in_a_row=0)
    assert not await is_spent(tx)
    assert await fail(tx, sql) == 1


@pytest.mark.parametrize("case", [(1, DAY, 5), (6, DAY, 25), (12, MONTH, 50)])
async def test_the_lane_by_email_has_half(
    tx: PgTx, sql: Sql, database_url: str, case: tuple[int, timedelta, int]
) -> None:
    """5 in a day, 25 in a month, 50 in a row; by id there is room for as many again.

    Seen to fail for each with its line taken out of CHARGE_BY_EMAIL, both in `room` and in the
    WHERE of the budget.
    """
    rounds, apart, most = case
    compared = 0
    for number in range(rounds):
        if number:
            await age(database_url, apart)
        assert not await is_spent(tx) or compared == most
        compared += await fail(tx, sql, times=6, email=True)
    assert compared == most
    assert await is_spent(tx)
    assert await fail(tx, sql, email=True) == 0
    assert await fail(tx, sql, times=6) >= 5


async def test_what_is_left_by_email_is_used(tx: PgTx, sql: Sql) -> None:
    """With room for two of three live challenges the newest two are tried, and each costs one."""
    assert await fail(tx, sql, times=3, email=True) == 3
    await live(tx, sql, count=3)
    assert len((await by_email(tx)).sources) == 2
    lanes = "SELECT attempts_by_email FROM challenges ORDER BY create_time DESC"
    assert [row[0] for row in await sql.fetch(lanes)] == [1, 1, 0]
    assert await by_email(tx) == Charge()
    assert [row[0] for row in await sql.fetch(lanes)] == [1, 1, 0]


@pytest.mark.parametrize(
    "nearly",
    [
        f"failures = array_fill({NOW_US}, ARRAY[9])",
        f"failures = array_fill({NOW_US} - 2 * 86400 * {SECOND_US}::bigint, ARRAY[49])",
        "in_a_row = 99",
    ],
)
async def test_the_lane_by_email_keeps_to_the_whole_too(tx: PgTx, sql: Sql, nearly: str) -> None:
    """With one unit left in the day, the month or the row, one of three challenges is tried.

    Seen to fail, for the day, with its lines taken out of `room` and of the budget's WHERE.
    """
    await fail(tx, sql)
    await sql.execute(f"UPDATE subject_budgets SET {nearly}")
    await live(tx, sql, count=3)
    assert len((await by_email(tx)).sources) == 1
    assert await by_email(tx) == Charge()
    assert await is_spent(tx)


async def test_only_what_is_compared_is_charged(tx: PgTx, sql: Sql) -> None:
    """A challenge that is over, spent, unknown or of another form costs its subject nothing.

    Seen to fail with the budget charged for `$2` itself instead of for the rows of `charged`.
    """
    challenge_id = await live(tx, sql, form=8)
    assert await by_id(tx, challenge_id) == Charge()
    assert await by_email(tx) == Charge()
    challenge_id = await live(tx, sql)
    await sql.execute("UPDATE challenges SET attempts = 5, attempts_by_email = 3")
    assert await by_id(tx, challenge_id) == Charge()
    assert await by_email(tx) == Charge()
    await sql.execute("UPDATE challenges SET attempts = 0, end_time = now()")
    assert await by_id(tx, challenge_id) == Charge()
    assert await by_email(tx, "eve") == Charge()
    assert await stored(sql) == Stored()


async def test_a_spent_budget_still_costs_the_attempt_by_id(tx: PgTx, sql: Sql) -> None:
    """The refusal errs against the guesser: the challenge is charged, the budget is not."""
    await fail(tx, sql, times=10)
    before = await stored(sql)
    challenge_id = await live(tx, sql)
    assert await by_id(tx, challenge_id) == Charge()
    assert await sql.fetchval("SELECT attempts FROM challenges") == 1
    assert await stored(sql) == before


async def test_subjects_have_budgets_of_their_own(tx: PgTx, sql: Sql) -> None:
    """What is spent for one address is not for another."""
    await fail(tx, sql, times=10)
    eve = await live(tx, sql, name="eve")
    assert not await is_spent(tx, "eve")
    assert len((await by_id(tx, eve)).sources) == 1


@pytest.mark.parametrize("email", [False, True])
@pytest.mark.parametrize(
    "after", [timedelta(0), timedelta(hours=1), DAY - MARGIN, DAY, MONTH - MARGIN, MONTH]
)
async def test_a_success_gives_back_its_own_charge(
    tx: PgTx, sql: Sql, database_url: str, after: timedelta, email: bool
) -> None:
    """Exactly that, whatever window it has left meanwhile and whoever failed before and after.

    Seen to fail with `given_back` taken out of CONSUME, and with it emptying the windows.
    """
    await fail(tx, sql, times=2)
    await fail(tx, sql, email=True)
    await age(database_url, DAY)
    before = await stored(sql)
    challenge_id = await live(tx, sql, count=3)
    charge = await (by_email(tx) if email else by_id(tx, challenge_id))
    assert charge.units == len(charge.sources) == (3 if email else 1)
    # What was charged grows older with its row.
    await age(database_url, after)
    older = after // timedelta(microseconds=1)
    charge = replace(charge, failed_at_us=charge.failed_at_us - older)
    challenge_id = (await tx.challenges.insert(new_challenge())).id
    assert len((await by_id(tx, challenge_id)).sources) == 1
    newest = (await stored(sql)).failures[0]
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=charge)
    assert await stored(sql) == Stored(
        [newest, *(at - older for at in before.failures)],
        [at - older for at in before.failures_by_email],
    )


async def test_a_success_clears_no_window(tx: PgTx, sql: Sql) -> None:
    """After nine failures and a success, one more may fail: not ten (django-allauth 65.8.1)."""
    await fail(tx, sql, times=9)
    challenge_id = await live(tx, sql)
    charge = await by_id(tx, challenge_id)
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=charge)
    assert len((await stored(sql)).failures) == 9
    assert await fail(tx, sql, times=3) == 1


async def test_a_refused_use_gives_nothing_back(tx: PgTx, sql: Sql) -> None:
    """Who comes second at a challenge keeps what was charged, and the failures in a row stay."""
    await fail(tx, sql, times=2)
    challenge_id = await live(tx, sql)
    first, second = await by_id(tx, challenge_id), await by_id(tx, challenge_id)
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=first)
    row = await stored(sql)
    assert not await tx.attempts.consume(challenge_id, subject_key=subject(), charge=second)
    assert await stored(sql) == row
    assert len(row.failures) == 3


async def test_attempts_of_one_moment_are_given_back_once(tx: PgTx, sql: Sql) -> None:
    """Entries of the same microsecond are alike: one attempt's success leaves the other's."""
    first = await live(tx, sql)
    charge = await by_id(tx, first)
    # The next one finds that it came too late to be newer.
    await sql.execute(
        f"UPDATE subject_budgets SET failures = ARRAY[{NOW_US} + $1, {NOW_US} - $1]", SECOND_US
    )
    second = (await tx.challenges.insert(new_challenge())).id
    charge = await by_id(tx, second)
    failures = (await stored(sql)).failures
    assert failures[0] == failures[1] == charge.failed_at_us
    assert await tx.attempts.consume(second, subject_key=subject(), charge=charge)
    assert (await stored(sql)).failures == failures[1:]


async def test_a_budget_that_was_purged_meanwhile_is_no_error(tx: PgTx, sql: Sql) -> None:
    """A success finds nothing to give back and stands."""
    challenge_id = await live(tx, sql)
    charge = await by_id(tx, challenge_id)
    await sql.execute("DELETE FROM subject_budgets")
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=charge)


async def test_a_transaction_that_runs_again_gives_back_once(
    database_url: str, tx: PgTx, sql: Sql
) -> None:
    """A sign-in that loses a race after it has given back does so anew, from the beginning."""
    await fail(tx, sql, times=3)
    challenge_id = await live(tx, sql, count=3)
    charge, failures = await by_id(tx, challenge_id), (await stored(sql)).failures
    runs = 0

    async def transaction(tx: Tx) -> bool:
        nonlocal runs
        runs += 1
        consumed = await tx.attempts.consume(challenge_id, subject_key=subject(), charge=charge)
        if runs < 3:
            raise asyncpg.SerializationError
        return consumed is not None

    async with open_database(database_url) as database:
        assert await database.run_tx(transaction)
    assert await stored(sql) == Stored(failures[1:], [])


async def test_a_charge_puts_the_purge_off(tx: PgTx, sql: Sql, database_url: str) -> None:
    """A budget goes 30 days after its last charge, when nothing in it counts any more.

    Seen to fail for each lane with `charge_time` taken out of its ON CONFLICT.
    """
    for email in (False, True):
        await sql.execute("DELETE FROM subject_budgets")
        await fail(tx, sql, times=2)
        await age(database_url, MONTH - DAY)
        await fail(tx, sql, email=email)
        await age(database_url, MONTH - MARGIN)
        assert await tx.purge.budgets(dead_before=await tx.purge.present() - MONTH) == 0
        await age(database_url, MARGIN)
        assert await tx.purge.budgets(dead_before=await tx.purge.present() - MONTH) == 1


async def test_long_codes_are_not_counted(tx: PgTx, sql: Sql) -> None:
    """Both lanes find them however often they are tried, by the same conditions as ever."""
    challenge_id = await live(tx, sql, count=4, form=LONG_CODE_FORM)
    for _ in range(12):
        found = await tx.attempts.find_long_by_id(challenge_id, purpose=Purpose.SIGN_IN)
        assert [source.challenge_id for source in found.sources] == [challenge_id]
        newest = await tx.attempts.find_long_by_email(
            subject(), purpose=Purpose.SIGN_IN, newest=NEWEST_BY_EMAIL
        )
        assert len(newest.sources) == NEWEST_BY_EMAIL
        assert newest.sources[0] == found.sources[0]
        assert newest.units == found.units == 0
    assert await stored(sql) == Stored()
    assert await sql.fetchval("SELECT sum(attempts + attempts_by_email) FROM challenges") == 0
    for spoiled in ("consume_time = now()", "end_time = now()", "expire_time = now()"):
        challenge_id = await live(tx, sql, form=LONG_CODE_FORM)
        await sql.execute(f"UPDATE challenges SET {spoiled}")
        found = await tx.attempts.find_long_by_id(challenge_id, purpose=Purpose.SIGN_IN)
        newest = await tx.attempts.find_long_by_email(
            subject(), purpose=Purpose.SIGN_IN, newest=NEWEST_BY_EMAIL
        )
        assert found.sources == newest.sources == []
    short = await live(tx, sql)
    assert not (await tx.attempts.find_long_by_id(short, purpose=Purpose.SIGN_IN)).sources
