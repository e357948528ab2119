"""One code, one session: what happens when a right code is sent many times at once."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from tests.races.bursts import (
    CONNECTIONS,
    FULL,
    SIGNED_IN,
    Connections,
    by_email,
    by_id,
    refused,
)
from tests.races.results import Results
from tests.races.rows import LEVELS, at
from tests.support.replicas import Replicas
from watchword.storage.pool import Isolation
from watchword_client import OtpInvalid

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

SESSIONS_OF = """
    SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id WHERE u.username = $1
"""
WAITING = """
    SELECT count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
LEDGER = """
    SELECT attempts, (SELECT sum(cardinality(failures)) FROM subject_budgets b
                      WHERE b.slot = c.slot AND b.subject_key = c.subject_key) AS failures
    FROM challenges c
    WHERE id = $1::text::uuid
"""


@pytest.mark.parametrize(("replicas", "level"), [(it, it) for it in LEVELS], indirect=["replicas"])
async def test_64_connections_to_three_processes_spend_a_code_once(
    replicas: Replicas, burst: Connections, results: Results, level: Isolation
) -> None:
    """A code sent by 64 connections to three processes makes one session (row 1, R3).

    20 trials at each isolation level, in full 1,000. Half of them sign somebody new in, half an
    account that is there; the calls of each take both lanes, by challenge id and by e-mail. A loser
    sees OTP_INVALID or, having lost every retry, UNAVAILABLE, and never UNKNOWN. Seen to fail with
    `AND consume_time IS NULL` taken out of the part `consumed` of AttemptStore.CONSUME, and at the
    two higher levels with `except _LOST_RACE` taken out of PgDatabase (INTERNAL).
    """
    person = await replicas.newcomer()
    with results.measure(at("1", level)) as row:
        for trial in row.each():
            is_new = trial % 2 == 0
            if is_new:
                person = await replicas.newcomer()
                challenge, code = person.challenge_id, person.code
            else:
                sent = await replicas.clients[1].send_otp(email=person.email)
                challenge, code = sent.challenge.id, await replicas.code_of(sent.challenge.id)
            turns = [by_id(challenge, [code])[0], by_email(person.email, [code])[0]]
            outcomes = await burst.verify_at_once(turns * (CONNECTIONS // 2))
            (sessions,) = await replicas.sql(SESSIONS_OF, person.username)
            row.saw(sessions[0] - (0 if is_new else 1))
            assert outcomes[SIGNED_IN] == 1, outcomes
            assert sessions[0] == (1 if is_new else 2)
            assert refused(outcomes) == CONNECTIONS - 1, outcomes


@pytest.mark.parametrize("replicas", ["read_committed"], indirect=True)
async def test_the_code_is_dead_at_the_other_processes_too(replicas: Replicas) -> None:
    """A mailed code that one process took is refused by the others as soon as it has answered.

    Seen to fail with `consume_time IS NULL` taken out of both AttemptStore.CHARGE_BY_ID and the
    part `consumed` of CONSUME; either alone is enough.
    """
    here, *others = replicas.clients
    person = await replicas.newcomer()
    code = await replicas.mails.code_for(person.email)
    await here.verify_otp(challenge_id=person.challenge_id, code=code)
    for there in others:
        with pytest.raises(OtpInvalid):
            await there.verify_otp(challenge_id=person.challenge_id, code=code)


@pytest.mark.parametrize("replicas", LEVELS, indirect=True)
async def test_a_sign_in_that_is_run_again_is_charged_once(replicas: Replicas) -> None:
    """A right code whose transaction meets 40001, at the higher levels, has cost one attempt.

    The sign-in waits for another challenge of the same person, which is changed meanwhile. Seen to
    fail with the charge put into the function that run_tx repeats (2 attempts).
    """
    person = await replicas.newcomer()
    other = (await replicas.clients[0].send_otp(email=person.email)).challenge.id
    connection = await asyncpg.connect(replicas.database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "UPDATE challenges SET attempts = attempts WHERE id = $1::text::uuid", other
            )
            signing_in = asyncio.create_task(
                replicas.clients[1].verify_otp(challenge_id=person.challenge_id, code=person.code)
            )
            while not await connection.fetchval(WAITING):
                assert not signing_in.done()
                await asyncio.sleep(0.005)
    finally:
        await connection.close()
    await signing_in
    assert Counter(code for _, code in replicas.compared())[person.code] == 1
    (row,) = await replicas.sql(LEDGER, person.challenge_id)
    assert (row["attempts"], row["failures"]) == (1, 0)
