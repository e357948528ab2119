"""Codes compared per challenge: 5 by its id, 3 by e-mail, however many guesses arrive at once.

The failure budgets of the subjects, which would stop earlier, have tests of their own.
"""

from collections.abc import Sequence
from uuid import UUID

import pytest

from tests.races.bursts import FULL, SIGNED_IN, Connections, guesses, refused
from tests.races.comparisons import Comparisons
from tests.support.processes import WatchwordProcess
from tests.support.running import RunningApp
from watchword_client import AsyncClient, OtpInvalid
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(600 if FULL else 120)

GUESSES = 200
TRIALS = 100 if FULL else 8
BY_ID_MAX, BY_EMAIL_MAX = 5, 3
COUNTS = "SELECT id, attempts, attempts_by_email FROM challenges WHERE id = ANY($1::uuid[])"


def _by_id(challenge: str, codes: Sequence[str]) -> list[pb.VerifyOtpRequest]:
    return [pb.VerifyOtpRequest(challenge_id=challenge, code=code) for code in codes]


def _by_email(email: str, codes: Sequence[str]) -> list[pb.VerifyOtpRequest]:
    return [pb.VerifyOtpRequest(email=email, code=code) for code in codes]


async def _refused(client: AsyncClient, *requests: pb.VerifyOtpRequest) -> None:
    for request in requests:
        target = (
            {"email": request.email} if request.email else {"challenge_id": request.challenge_id}
        )
        with pytest.raises(OtpInvalid):
            await client.verify_otp(code=request.code, **target)


async def _forget_failures(app: RunningApp) -> None:
    await app.sql("DELETE FROM subject_budgets")


async def test_five_guesses_are_compared_by_id(
    app: RunningApp, burst_here: Connections, comparisons: Comparisons
) -> None:
    """Of 200 wrong guesses at once 5 are compared; 8 challenges, in full 100.

    Seen to fail with `AND attempts < $5` taken out of AttemptStore.CHARGE_BY_ID (200 compared),
    and with verify_otp.py made to read, compare and then charge (57 compared; threats.md 4).
    """
    await app.sign_in("ada")
    for trial in range(TRIALS):
        await _forget_failures(app)
        challenge = (await app.client.send_otp(email="ada@example.com")).challenge.id
        right = await app.mails.code_for("ada@example.com", count=trial + 2)
        outcomes = await burst_here.verify_at_once(_by_id(challenge, guesses(right, GUESSES)))
        assert refused(outcomes) == GUESSES, outcomes
        await _refused(app.client, *_by_id(challenge, [right]))
        assert comparisons.per_challenge[UUID(challenge)] <= BY_ID_MAX
    assert max(comparisons.per_challenge.values()) == BY_ID_MAX


async def test_three_guesses_are_compared_by_email(
    app: RunningApp, burst_here: Connections, comparisons: Comparisons
) -> None:
    """Of 200 wrong guesses at once 3 are compared; 8 challenges, in full 100.

    Seen to fail with `AND attempts_by_email < $5` taken out of AttemptStore.CHARGE_BY_EMAIL (200
    compared), and with verify_otp.py made to read, compare and then charge (23 compared).
    """
    for trial in range(TRIALS):
        email = f"person{trial}@example.com"
        challenge = (await app.register(f"person{trial}")).challenge.id
        right = await app.mails.code_for(email)
        outcomes = await burst_here.verify_at_once(_by_email(email, guesses(right, GUESSES)))
        assert refused(outcomes) == GUESSES, outcomes
        await _refused(app.client, *_by_email(email, [right]))
        assert comparisons.per_challenge[UUID(challenge)] <= BY_EMAIL_MAX
    assert max(comparisons.per_challenge.values()) == BY_EMAIL_MAX


async def test_a_right_code_in_the_burst_counts_as_a_guess(
    app: RunningApp, burst_here: Connections, comparisons: Comparisons
) -> None:
    """The one right code among 40 guesses signs in exactly when it was among the 5 compared.

    8 challenges, in full 100. Seen to fail with `AND attempts < $5` taken out of CHARGE_BY_ID, and
    with verify_otp.py made to read, compare and then charge.
    """
    await app.sign_in("ada")
    for trial in range(TRIALS):
        await _forget_failures(app)
        challenge = (await app.client.send_otp(email="ada@example.com")).challenge.id
        right = await app.mails.code_for("ada@example.com", count=trial + 2)
        codes = guesses(right, 39)
        codes.insert((7 * trial) % 40, right)
        comparisons.codes.clear()
        outcomes = await burst_here.verify_at_once(_by_id(challenge, codes))
        assert comparisons.per_challenge[UUID(challenge)] <= BY_ID_MAX
        assert outcomes[SIGNED_IN] == int(right in comparisons.codes)
        assert refused(outcomes) == 40 - outcomes[SIGNED_IN], outcomes
        await _refused(app.client, *_by_id(challenge, [right]))


async def test_two_processes_count_together(
    processes: tuple[WatchwordProcess, WatchwordProcess], burst: Connections
) -> None:
    """200 wrong guesses at two processes spend 5 attempts by id and 3 by e-mail of a challenge.

    Then the right code is refused in that lane, at both processes; 8 trials, in full 100. Seen to
    fail with `AND attempts < $5`, and with `AND attempts_by_email < $5` taken out: the right code
    signs in after 200 guesses.
    """
    first, second = processes
    async with first.client() as here, second.client() as there:
        for trial in range(TRIALS):
            email = f"person{trial}@example.com"
            await here.register(full_name="Person", username=f"person{trial}", email=email)
            target = (await here.send_otp(email=email)).challenge.id
            right = await first.mails.code_for(email)
            wrong = guesses(right, GUESSES)

            by_email = await burst.verify_at_once(_by_email(email, wrong))
            assert refused(by_email) == GUESSES, by_email
            await _refused(here, *_by_email(email, [right]))
            await _refused(there, *_by_email(email, [right]))
            (row,) = await first.sql(COUNTS, [target])
            assert (row["attempts"], row["attempts_by_email"]) == (0, BY_EMAIL_MAX)

            by_id = await burst.verify_at_once(_by_id(target, wrong))
            assert refused(by_id) == GUESSES, by_id
            await _refused(here, *_by_id(target, [right]))
            await _refused(there, *_by_id(target, [right]))
            (row,) = await first.sql(COUNTS, [target])
            assert (row["attempts"], row["attempts_by_email"]) == (BY_ID_MAX, BY_EMAIL_MAX)
        (row,) = await first.sql("SELECT count(*) FROM sessions")
        assert row[0] == 0


async def test_a_spent_email_lane_leaves_the_other_open(
    processes: tuple[WatchwordProcess, WatchwordProcess], burst: Connections
) -> None:
    """A stranger who spends the lane by e-mail cannot lock out whoever holds the challenge's id.

    Seen to fail with the lane by e-mail made to count in `attempts` too.
    """
    first, _ = processes
    async with first.client() as client:
        challenge = (await client.send_otp(email="demo@example.com")).challenge.id
        right = await first.mails.code_for("demo@example.com")
        await burst.verify_at_once(_by_email("demo@example.com", guesses(right, GUESSES)))
        answer = await client.verify_otp(challenge_id=challenge, code=right)
        assert answer.user.username == "demo"
