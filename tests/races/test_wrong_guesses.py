"""Codes compared per challenge: 5 by its id, 3 by e-mail, however many guesses arrive at once.

The failure budgets of the subjects, which would stop earlier, have tests of their own.
"""

import pytest

from tests.races.bursts import (
    FULL,
    SIGNED_IN,
    Connections,
    by_email,
    by_id,
    guesses,
    refused,
)
from tests.races.results import Results
from tests.races.rows import LEVELS, at
from tests.support.replicas import Replicas
from watchword.storage.pool import Isolation

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

GUESSES = 200
TRIALS = 100 if FULL else 8
BY_ID_MAX, BY_EMAIL_MAX = 5, 3
COUNTS = "SELECT attempts, attempts_by_email FROM challenges WHERE id = $1::text::uuid"


@pytest.mark.parametrize(("replicas", "level"), [(it, it) for it in LEVELS], indirect=["replicas"])
@pytest.mark.parametrize("lane", ["id", "e-mail"])
async def test_three_processes_count_together(
    replicas: Replicas, burst: Connections, results: Results, level: Isolation, lane: str
) -> None:
    """Of 200 wrong guesses at once 5 are compared by id, 3 by e-mail, and then the right code is
    refused in that lane by every process (row 2, R4).

    20 challenges in each lane at each isolation level, in full 1,000. Seen to fail with
    `AND attempts < $5`, or `AND attempts_by_email < $5`, taken out of AttemptStore, with
    verify_otp.py made to read, compare and then charge, and with the charge in a transaction that
    the error undoes.
    """
    with results.measure(at(f"2 by {lane}", level)) as row:
        for _ in row.each():
            person = await replicas.newcomer()
            wrong = guesses(person.code, GUESSES)
            replicas.compared()
            if lane == "id":
                requests = by_id(person.challenge_id, [*wrong, person.code])
            else:
                requests = by_email(person.email, [*wrong, person.code])
            outcomes = await burst.verify_at_once(requests[:GUESSES])
            compared = replicas.compared()
            row.saw(len(compared))
            assert refused(outcomes) == GUESSES, outcomes
            # Those who lost every race were not charged: what they have left is spent now.
            for _ in range(row.row.allowed - len(compared)):
                assert (await burst.verify_at_once(requests[:1]))["OTP_INVALID"] == 1
            row.saw(len(compared) + len(replicas.compared()))
            # By neighbours, so by every process.
            last = await burst.verify_at_once([requests[-1]] * len(replicas.servers))
            assert last["OTP_INVALID"] == len(replicas.servers), last
            assert replicas.compared() == []
            (counts,) = await replicas.sql(COUNTS, person.challenge_id)
            assert tuple(counts) == ((BY_ID_MAX, 0) if lane == "id" else (0, BY_EMAIL_MAX))


@pytest.mark.parametrize("replicas", ["read_committed"], indirect=True)
async def test_a_right_code_in_the_burst_counts_as_a_guess(
    replicas: Replicas, burst: Connections
) -> None:
    """The one right code among 40 guesses signs in exactly when it was among the 5 compared.

    8 challenges, in full 100. Seen to fail with `AND attempts < $5` taken out of CHARGE_BY_ID, and
    with verify_otp.py made to read, compare and then charge.
    """
    for trial in range(TRIALS):
        person = await replicas.newcomer()
        codes = guesses(person.code, 39)
        codes.insert((7 * trial) % 40, person.code)
        replicas.compared()
        outcomes = await burst.verify_at_once(by_id(person.challenge_id, codes))
        compared = [code for _, code in replicas.compared()]
        assert len(compared) <= BY_ID_MAX
        assert outcomes[SIGNED_IN] == compared.count(person.code)
        assert refused(outcomes) == 40 - outcomes[SIGNED_IN], outcomes
        again = await burst.verify_at_once(by_id(person.challenge_id, [person.code]))
        assert again["OTP_INVALID"] == 1


@pytest.mark.parametrize("replicas", ["read_committed"], indirect=True)
async def test_a_spent_email_lane_leaves_the_other_open(
    replicas: Replicas, burst: Connections
) -> None:
    """A stranger who spends the lane by e-mail cannot lock out whoever holds the challenge's id.

    Seen to fail with a spent lane by e-mail made to end the challenge.
    """
    person = await replicas.newcomer()
    await burst.verify_at_once(by_email(person.email, guesses(person.code, GUESSES)))
    answer = await replicas.clients[0].verify_otp(
        challenge_id=person.challenge_id, code=person.code
    )
    assert answer.user.username == person.username
