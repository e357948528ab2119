"""Challenges: both lanes of attempts, one use, and the races for it."""

import asyncio
from datetime import timedelta
from typing import get_args
from uuid import UUID

import asyncpg
import pytest

from tests.storage.conftest import Connect
from tests.storage.database import (
    LIFETIME,
    new_challenge,
    new_registration,
    open_database,
    subject,
)
from tests.support.age import age
from watchword.crypto import CodeSource, new_id, slot_of_subject
from watchword.login.ports import Tx
from watchword.otp.model import Charge, ConsumedChallenge, Purpose
from watchword.otp.policy import FailureBudget
from watchword.otp.ports import AttemptStore
from watchword.storage.pool import Isolation
from watchword.storage.transactions import PgTx

Sql = asyncpg.Connection

AMPLE = FailureBudget(in_day=1000, in_month=1000, in_a_row=1000)
SPOILED = ["consume_time = now()", "end_time = now()", "expire_time = now()"]
ROUNDS = 8
WAITING = """
    SELECT count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def stored(tx: PgTx, name: str = "ada", *, form: int = 6, **signs_in: object) -> UUID:
    """Stores a challenge and returns its id."""
    return (await tx.challenges.insert(new_challenge(name, form=form, **signs_in))).id


async def charge(
    store: AttemptStore,
    challenge_id: UUID,
    *,
    purpose: str = Purpose.SIGN_IN,
    form: int = 6,
    attempts_max: int = 5,
) -> list[CodeSource]:
    """Charges by id and returns what to compare; budgets have tests of their own."""
    charged = await store.charge_by_id(
        challenge_id,
        purpose=purpose,  # type: ignore[arg-type]  # there is one purpose so far
        code_form=form,
        attempts_max=attempts_max,
        budget=AMPLE,
    )
    return list(charged.sources)


async def charge_mail(
    store: AttemptStore, name: str = "ada", *, purpose: str = Purpose.SIGN_IN, form: int = 6
) -> set[UUID]:
    """Charges by e-mail and returns the challenges to compare."""
    charged = await store.charge_by_email(
        subject(name),
        purpose=purpose,  # type: ignore[arg-type]  # there is one purpose so far
        code_form=form,
        attempts_max=3,
        newest=3,
        budget=AMPLE,
    )
    ids = {source.challenge_id for source in charged.sources}
    assert len(ids) == len(charged.sources)
    return ids


async def lanes(sql: Sql, challenge_id: UUID) -> tuple[int, int]:
    """Returns the attempts of both lanes."""
    row = await sql.fetchrow(
        "SELECT attempts, attempts_by_email FROM challenges WHERE id = $1", challenge_id
    )
    return row["attempts"], row["attempts_by_email"]


async def test_a_challenge_keeps_what_its_code_is_derived_from(tx: PgTx) -> None:
    """The source that a charge answers is the one that was stored, in all five fields."""
    challenge = new_challenge(user_id=new_id(7))
    issued = await tx.challenges.insert(challenge)
    assert issued.expire_time - issued.asked_time == LIFETIME
    assert await charge(tx.attempts, issued.id) == [challenge.source]
    assert await tx.challenges.exists(issued.id)
    assert not await tx.challenges.exists(new_id(slot_of_subject(subject())))


async def test_the_lane_by_id_has_five_attempts(tx: PgTx, sql: Sql) -> None:
    """The sixth guess is compared with nothing, and is not counted either."""
    challenge_id = await stored(tx)
    counts = [len(await charge(tx.attempts, challenge_id)) for _ in range(7)]
    assert counts == [1, 1, 1, 1, 1, 0, 0]
    assert await lanes(sql, challenge_id) == (5, 0)
    assert len(await charge_mail(tx.attempts)) == 1, "the lanes are apart"


@pytest.mark.parametrize("spoiled", SPOILED)
async def test_a_closed_challenge_is_not_charged(tx: PgTx, sql: Sql, spoiled: str) -> None:
    """Consumed, ended, expired: each closes both lanes, the resend and the use."""
    challenge_id = await stored(tx)
    await sql.execute(f"UPDATE challenges SET {spoiled}")
    assert await charge(tx.attempts, challenge_id) == []
    assert await charge_mail(tx.attempts) == set()
    assert await tx.challenges.find_resendable(challenge_id, purpose=Purpose.SIGN_IN) is None
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=Charge()) is None
    assert await lanes(sql, challenge_id) == (0, 0)
    assert await tx.challenges.exists(challenge_id)


async def test_another_form_or_purpose_is_not_charged(tx: PgTx, sql: Sql) -> None:
    """A code of another length, for another RPC or of an unknown challenge costs nothing."""
    challenge_id = await stored(tx)
    assert await charge(tx.attempts, challenge_id, form=8) == []
    assert await charge(tx.attempts, challenge_id, purpose="email_change") == []
    assert await charge(tx.attempts, new_id(slot_of_subject(subject()))) == []
    assert await charge_mail(tx.attempts, form=13) == set()
    assert await charge_mail(tx.attempts, purpose="email_change") == set()
    assert await charge_mail(tx.attempts, "eve") == set()
    assert await lanes(sql, challenge_id) == (0, 0)


async def test_a_challenge_ends_by_the_clock_of_the_database(tx: PgTx, database_url: str) -> None:
    """A second before its end it is charged, at its end it is not."""
    challenge_id = await stored(tx)
    await age(database_url, LIFETIME - timedelta(seconds=1))
    assert len(await charge(tx.attempts, challenge_id)) == 1
    await age(database_url, timedelta(seconds=1))
    assert await charge(tx.attempts, challenge_id) == []


async def test_the_lane_by_email_takes_the_newest_three(tx: PgTx, sql: Sql) -> None:
    """Each of the newest three of that form is charged one unit, the others none."""
    eldest = await stored(tx)
    others = [await stored(tx, form=8), await stored(tx, "eve")]
    newest = {await stored(tx) for _ in range(3)}
    closed = await stored(tx)
    await sql.execute("UPDATE challenges SET end_time = now() WHERE id = $1", closed)
    assert await charge_mail(tx.attempts) == newest
    for challenge_id in newest:
        assert await lanes(sql, challenge_id) == (0, 1)
    for challenge_id in (eldest, closed, *others):
        assert await lanes(sql, challenge_id) == (0, 0)


async def test_a_spent_challenge_still_counts_among_the_newest(tx: PgTx, sql: Sql) -> None:
    """Spending the newest three uncovers no older one: else each resend would add guesses."""
    eldest = await stored(tx)
    spent = [await stored(tx) for _ in range(3)]
    for _ in range(3):
        assert await charge_mail(tx.attempts) == set(spent)
    assert await charge_mail(tx.attempts) == set()
    assert await lanes(sql, eldest) == (0, 0)
    fresh = await stored(tx)
    assert await charge_mail(tx.attempts) == {fresh}
    assert [await lanes(sql, challenge_id) for challenge_id in spent] == [(0, 3)] * 3


async def test_a_resend_answers_while_the_challenge_is_live(tx: PgTx) -> None:
    """Spent lanes do not close it; a shadow is told apart; another purpose finds nothing."""
    shadow = await stored(tx)
    real = await stored(tx, registration_id=new_id(1))
    for _ in range(5):
        await charge(tx.attempts, real)
    for challenge_id, is_shadow in ((shadow, True), (real, False)):
        found = await tx.challenges.find_resendable(challenge_id, purpose=Purpose.SIGN_IN)
        assert found is not None
        assert (found.issued.id, found.is_shadow) == (challenge_id, is_shadow)
    other: Purpose = "email_change"  # type: ignore[assignment]  # there is one purpose so far
    assert await tx.challenges.find_resendable(real, purpose=other) is None


async def test_a_challenge_is_consumed_once(tx: PgTx) -> None:
    """The first use answers whom it signs in, the second nothing."""
    registration = new_registration()
    challenge_id = await stored(tx, registration_id=registration.id)
    consumed = await tx.attempts.consume(challenge_id, subject_key=subject(), charge=Charge())
    assert consumed == ConsumedChallenge(user_id=None, registration_id=registration.id)
    assert await tx.attempts.consume(challenge_id, subject_key=subject(), charge=Charge()) is None


async def test_a_challenge_of_another_subject_is_not_consumed(tx: PgTx) -> None:
    """The subject that was charged has to be the challenge's."""
    challenge_id = await stored(tx)
    assert (
        await tx.attempts.consume(challenge_id, subject_key=subject("eve"), charge=Charge()) is None
    )
    assert (
        await tx.attempts.consume(challenge_id, subject_key=subject(), charge=Charge()) is not None
    )


async def test_a_use_ends_the_other_challenges_of_the_subject(tx: PgTx, sql: Sql) -> None:
    """It ends every live challenge of the subject, of any form, and nobody else's."""
    used, other, longer, strangers = [
        await stored(tx, name, form=form)
        for name, form in (("ada", 6), ("ada", 6), ("ada", 13), ("eve", 6))
    ]
    assert await tx.attempts.consume(used, subject_key=subject(), charge=Charge()) is not None
    ended = await sql.fetch("SELECT id FROM challenges WHERE end_time IS NOT NULL")
    assert {row["id"] for row in ended} == {other, longer}
    assert await charge(tx.attempts, other) == []
    assert len(await charge(tx.attempts, strangers)) == 1


async def test_a_refused_use_ends_nothing(tx: PgTx, sql: Sql) -> None:
    """A challenge that was used already does not end those that came after."""
    used = await stored(tx)
    await tx.attempts.consume(used, subject_key=subject(), charge=Charge())
    fresh = await stored(tx)
    assert await tx.attempts.consume(used, subject_key=subject(), charge=Charge()) is None
    assert len(await charge(tx.attempts, fresh)) == 1


async def race(
    database_url: str, level: Isolation, targets: list[UUID]
) -> list[ConsumedChallenge | None]:
    """Consumes the targets at once, each in a transaction that has begun and taken its snapshot."""
    begun = asyncio.Barrier(len(targets))
    started: set[int] = set()

    async def work(tx: Tx, number: int, target: UUID) -> ConsumedChallenge | None:
        if number not in started:  # a transaction that is run again meets nobody
            started.add(number)
            assert await tx.challenges.exists(target)
            await begun.wait()
        return await tx.attempts.consume(target, subject_key=subject(), charge=Charge())

    async with open_database(database_url, isolation=level) as database:
        calls = [
            database.run_tx(lambda tx, number=number, target=target: work(tx, number, target))
            for number, target in enumerate(targets)
        ]
        return await asyncio.gather(*calls)


@pytest.mark.parametrize("level", get_args(Isolation))
async def test_two_uses_at_once_have_one_winner(
    database_url: str, tx: PgTx, level: Isolation
) -> None:
    """Guards `consume_time IS NULL` in the UPDATE: without it both sign in."""
    for _ in range(ROUNDS):
        challenge_id = await stored(tx)
        answers = await race(database_url, level, [challenge_id] * 2)
        assert [answer is None for answer in answers].count(False) == 1


@pytest.mark.parametrize("level", get_args(Isolation))
async def test_two_challenges_of_a_subject_at_once_have_one_winner(
    database_url: str, tx: PgTx, level: Isolation
) -> None:
    """Guards that a use ends the others: without that both sign in."""
    for _ in range(ROUNDS):
        pair = [await stored(tx), await stored(tx)]
        answers = await race(database_url, level, pair)
        assert [answer is None for answer in answers].count(False) == 1


async def test_two_challenges_of_a_subject_are_locked_in_one_order(
    database_url: str, tx: PgTx, connect: Connect, sql: Sql
) -> None:
    """Guards the order of the locks in CONSUME: the two wait for rows that somebody else has, and
    when these come free, neither holds what the other waits for.
    """
    pair = [await stored(tx), await stored(tx)]
    other = await connect()
    runs = 0

    async def work(tx: Tx, target: UUID) -> ConsumedChallenge | None:
        nonlocal runs
        runs += 1
        return await tx.attempts.consume(target, subject_key=subject(), charge=Charge())

    async with open_database(database_url) as database:
        async with other.transaction():
            await other.execute("SELECT id FROM challenges FOR UPDATE")
            calls = [
                asyncio.create_task(database.run_tx(lambda tx, target=target: work(tx, target)))
                for target in reversed(pair)
            ]
            while await sql.fetchval(WAITING) < len(calls):
                await asyncio.sleep(0.01)
        answers = await asyncio.gather(*calls)
    assert runs == 2, "no deadlock had to be resolved"
    assert [answer is None for answer in answers].count(False) == 1


async def test_guesses_at_once_are_all_counted(tx: PgTx, connect: Connect, sql: Sql) -> None:
    """Guards the bound inside the UPDATE: of 12 guesses at once five are compared by id, and
    three of each of the newest three by e-mail.
    """
    challenges = [await stored(tx) for _ in range(3)]
    stores = [PgTx(await connect()).attempts for _ in range(12)]  # type: ignore[arg-type]
    by_id = await asyncio.gather(*(charge(store, challenges[0]) for store in stores))
    assert sum(map(len, by_id)) == 5
    by_email = await asyncio.gather(*(charge_mail(store) for store in stores))
    assert sum(map(len, by_email)) == 9
    assert [await lanes(sql, c) for c in challenges] == [(5, 3), (0, 3), (0, 3)]
