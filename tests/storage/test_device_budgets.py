"""Budgets of known devices: none spends another's, and what a success gives back is its own."""

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from typing import get_args
from uuid import UUID

import pytest

from tests.storage import budgets
from tests.storage.budgets import Sql, live
from tests.storage.database import new_challenge, open_database, subject
from tests.support.age import age
from watchword.crypto import slot_of_subject
from watchword.login.ports import Tx
from watchword.otp.model import Charge, Purpose
from watchword.otp.policy import FAILURE_BUDGET, LONG_CODE_FORM, NEWEST_BY_EMAIL
from watchword.storage.pool import Isolation
from watchword.storage.transactions import PgTx

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
PHONE, LAPTOP = b"\x01" * 32, b"\x02" * 32
DAY, MONTH = timedelta(hours=24), timedelta(days=30)
# Longer than a test takes.
MARGIN = timedelta(minutes=1)
LANES = "SELECT attempts, attempts_by_email FROM challenges ORDER BY create_time"


async def by_id(tx: Tx, challenge_id: UUID, device: bytes | None = PHONE) -> Charge:
    """Charges by id as VerifyOtp does for a known device, or for none."""
    return await tx.attempts.charge_by_id(
        challenge_id,
        purpose=Purpose.SIGN_IN,
        code_form=6,
        attempts_max=5,
        budget=FAILURE_BUDGET,
        device_key=device,
    )


async def by_email(tx: Tx, device: bytes = PHONE) -> Charge:
    """Charges by e-mail as VerifyOtp does for a known device."""
    return await tx.device_attempts.charge_by_email(
        subject(),
        device_key=device,
        purpose=Purpose.SIGN_IN,
        code_form=6,
        attempts_max=5,
        newest=NEWEST_BY_EMAIL,
        budget=FAILURE_BUDGET,
    )


async def fail(
    tx: PgTx, sql: Sql, device: bytes | None = PHONE, *, times: int = 1, email: bool = False
) -> int:
    """Guesses wrong so often, each time on a new challenge; returns how many were compared."""
    compared = 0
    for _ in range(times):
        challenge_id = await live(tx, sql)
        if email and device is not None:
            charge = await by_email(tx, device)
        elif email:
            charge = await budgets.by_email(tx)
        else:
            charge = await by_id(tx, challenge_id, device)
        compared += len(charge.sources)
    return compared


async def is_spent(tx: Tx, key: bytes) -> bool:
    """What SendOtp asks."""
    slot = slot_of_subject(subject())
    return (await tx.budgets.standing(key, slot=slot, budget=FAILURE_BUDGET)).spent


async def counted(sql: Sql) -> dict[bytes, tuple[int, int]]:
    """Failures in the window and in a row, by device or subject; all in the subject's slot."""
    rows = await sql.fetch(
        "SELECT subject_key, cardinality(failures) AS n, in_a_row FROM subject_budgets"
        " WHERE slot = $1",
        slot_of_subject(subject()),
    )
    return {row["subject_key"]: (row["n"], row["in_a_row"]) for row in rows}


@pytest.mark.parametrize("email", [False, True])
async def test_nobody_spends_the_budget_of_another(tx: PgTx, sql: Sql, email: bool) -> None:
    """Strangers, a phone and a laptop: each has ten a day, by either lane, whoever came before.

    Seen to fail with COALESCE taken out of CHARGE_BY_ID, and with the subject for the device's key
    in the budget of DeviceAttemptStore.CHARGE_BY_EMAIL.
    """
    assert await fail(tx, sql, None, times=11) == 10
    assert await fail(tx, sql, None, times=11, email=True) == 0
    for device in (PHONE, LAPTOP):
        assert not await is_spent(tx, device)
        assert await fail(tx, sql, device, times=11, email=email) == 10
        assert await is_spent(tx, device)
    assert await counted(sql) == {subject(): (10, 10), PHONE: (10, 10), LAPTOP: (10, 10)}


async def test_a_device_s_budget_is_one_for_both_lanes(tx: PgTx, sql: Sql) -> None:
    """What is spent by id is missing by e-mail, and the other way round."""
    assert await fail(tx, sql, times=6) == 6
    assert await fail(tx, sql, times=6, email=True) == 4
    assert await fail(tx, sql) == 0


async def test_a_device_by_email_has_the_windows_of_all(
    tx: PgTx, sql: Sql, database_url: str
) -> None:
    """Ten a day, fifty a month, a hundred in a row, to their edges.

    Seen to fail for each with its lines taken out of DeviceAttemptStore.CHARGE_BY_EMAIL, in `room`
    and in the WHERE of the budget.
    """
    for _ in range(5):
        assert await fail(tx, sql, times=11, email=True) == 10
        await age(database_url, DAY)
    assert await fail(tx, sql, email=True) == 0
    await age(database_url, MONTH - 5 * DAY - MARGIN)
    assert await fail(tx, sql, email=True) == 0
    await age(database_url, MARGIN)
    assert await fail(tx, sql, times=11, email=True) == 10
    await age(database_url, MONTH)
    await sql.execute("UPDATE subject_budgets SET in_a_row = 99")
    await live(tx, sql, count=3)
    assert len((await by_email(tx)).sources) == 1
    assert await by_email(tx) == Charge()


async def test_a_device_by_email_counts_in_the_lane_that_needs_a_handle(tx: PgTx, sql: Sql) -> None:
    """The three attempts by e-mail, which strangers can spend, are neither needed nor touched.

    Seen to fail with `attempts_by_email` for `attempts` in DeviceAttemptStore.CHARGE_BY_EMAIL.
    """
    await live(tx, sql)
    await sql.execute("UPDATE challenges SET attempts_by_email = 3")
    for attempts in range(1, 6):
        assert len((await by_email(tx)).sources) == 1
        assert [tuple(row) for row in await sql.fetch(LANES)] == [(attempts, 3)]
    assert await by_email(tx) == Charge()
    assert (await counted(sql))[PHONE] == (5, 5)


@pytest.mark.parametrize("form", [6, LONG_CODE_FORM])
async def test_a_device_finds_its_own_challenges_first(tx: PgTx, sql: Sql, form: int) -> None:
    """Then the newest: strangers who ask for codes push out none that it has asked for itself.

    Seen to fail with the order by `device_key` taken out of each of the two statements.
    """
    own = [
        (await tx.challenges.insert(replace(new_challenge(form=form), device_key=PHONE))).id
        for _ in range(2)
    ]
    others = [(await tx.challenges.insert(new_challenge(form=form))).id for _ in range(3)]
    laptops = replace(new_challenge(form=form), device_key=LAPTOP)
    others.append((await tx.challenges.insert(laptops)).id)

    async def tried(device: bytes | None) -> set[UUID]:
        if form != LONG_CODE_FORM and device is not None:
            found = await by_email(tx, device)
        elif form != LONG_CODE_FORM:
            found = await budgets.by_email(tx)
        else:
            found = await tx.attempts.find_long_by_email(
                subject(), purpose=Purpose.SIGN_IN, newest=NEWEST_BY_EMAIL, device_key=device
            )
        return {source.challenge_id for source in found.sources}

    assert await tried(PHONE) == {*own, others[-1]}
    assert await tried(LAPTOP) == set(others[1:])
    assert await tried(None) == set(others[1:])


@pytest.mark.parametrize("lane", ["id", "email", "long"])
async def test_a_success_clears_the_count_of_whoever_signed_in(
    tx: PgTx, sql: Sql, lane: str
) -> None:
    """Its own charge comes back and its own failures in a row end; all others stay as they are.

    Seen to fail with the subject's key for $7 in CONSUME.
    """
    await fail(tx, sql, None, times=4)
    await fail(tx, sql, LAPTOP, times=2)
    await fail(tx, sql, PHONE, times=3)
    before = await counted(sql)
    challenge_id = await live(tx, sql, count=3, form=LONG_CODE_FORM if lane == "long" else 6)
    if lane == "id":
        charge = await by_id(tx, challenge_id)
    elif lane == "email":
        charge = await by_email(tx)
        assert charge.units == 3
    else:
        charge = await tx.attempts.find_long_by_id(
            challenge_id, purpose=Purpose.SIGN_IN, device_key=PHONE
        )
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=charge)
    assert await counted(sql) == before | {PHONE: (3, 0)}


@pytest.mark.parametrize("level", get_args(Isolation))
async def test_a_device_s_success_between_guesses_loses_no_charge(
    database_url: str, tx: PgTx, sql: Sql, level: Isolation
) -> None:
    """A phone signs in while strangers, a laptop and the phone itself guess, by both lanes: each
    budget ends with what was compared for it, and without the sign-in's own.

    3 trials at each level, in full 50. Seen to fail with the subject's key for $7 in CONSUME.
    """
    async with open_database(database_url, isolation=level) as database:
        for _ in range(50 if FULL else 3):
            await sql.execute("DELETE FROM subject_budgets")
            used = await live(tx, sql, count=4)
            others = [
                row[0] for row in await sql.fetch("SELECT id FROM challenges WHERE id <> $1", used)
            ]
            charge = await by_id(tx, used)
            await sql.execute("UPDATE subject_budgets SET in_a_row = 50")

            async def guess(tx: Tx, device: bytes | None, target: UUID | None) -> int:
                if target is not None:
                    found = await by_id(tx, target, device)
                else:
                    found = await (by_email(tx, device) if device else budgets.by_email(tx))
                return len(found.sources)

            guesses = [(d, t) for d in (None, LAPTOP, PHONE) for t in (*others[:2], None)]
            calls = [
                database.run_statement(lambda tx, g=g, guess=guess: guess(tx, *g)) for g in guesses
            ]
            signing_in = database.run_tx(
                lambda tx, used=used, charge=charge: tx.attempts.consume(
                    used, subject_key=subject(), charge=charge
                )
            )
            *compared, consumed = await asyncio.gather(*calls[:5], *calls[5:], signing_in)
            assert consumed is not None
            rows = await counted(sql)
            for device in (None, LAPTOP, PHONE):
                mine = [n for (d, _), n in zip(guesses, compared, strict=True) if d == device]
                failures, in_a_row = rows.get(device or subject(), (0, 0))
                assert failures == sum(mine)
                assert in_a_row <= failures
            failures = await sql.fetchval(
                "SELECT failures FROM subject_budgets WHERE subject_key = $1", PHONE
            )
            assert charge.failed_at_us not in failures


async def test_the_subject_of_a_live_challenge_is_found(tx: PgTx, sql: Sql) -> None:
    """And of no other, nor for another purpose."""
    challenge_id = await live(tx, sql)
    assert await tx.challenges.subject_of(challenge_id, purpose=Purpose.SIGN_IN) == subject()
    assert await tx.challenges.subject_of(UUID(int=1), purpose=Purpose.SIGN_IN) is None
    await sql.execute("UPDATE challenges SET purpose = 'other'")
    assert await tx.challenges.subject_of(challenge_id, purpose=Purpose.SIGN_IN) is None
    for spoiled in ("consume_time = now()", "end_time = now()", "expire_time = now()"):
        challenge_id = await live(tx, sql)
        await sql.execute(f"UPDATE challenges SET {spoiled}")
        assert await tx.challenges.subject_of(challenge_id, purpose=Purpose.SIGN_IN) is None
