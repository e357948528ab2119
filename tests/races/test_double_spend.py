"""One code, one session: what happens when a right code is sent many times at once."""

from collections import Counter

import pytest

from tests.races.bursts import FULL, SIGNED_IN, Connections, connections, refused
from tests.races.conftest import CONNECTIONS
from tests.support.processes import WatchwordProcess
from tests.support.running import running_app
from watchword.callers.model import Scope
from watchword.storage.pool import Isolation
from watchword_client import OtpInvalid
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(600 if FULL else 120)

TRIALS = 100 if FULL else 40
ISOLATION_CALLS = 32
ISOLATION_TRIALS = 50 if FULL else 10


def _assert_one_winner(outcomes: Counter[str], calls: int) -> None:
    assert outcomes[SIGNED_IN] == 1, outcomes
    assert refused(outcomes) == calls - 1, outcomes


async def test_64_connections_to_two_processes_spend_a_code_once(
    processes: tuple[WatchwordProcess, WatchwordProcess], burst: Connections
) -> None:
    """A code sent by 64 connections to two processes makes one session; 40 trials, in full 100.

    Half of the trials sign somebody new in, half an account that is there; the calls of each take
    both lanes, by challenge id and by e-mail. Seen to fail with `AND consume_time IS NULL` taken
    out of the part `consumed` of AttemptStore.CONSUME (4 sessions of one code), and with that
    whole line taken out (8).
    """
    first, _ = processes
    async with first.client() as client:
        for trial in range(TRIALS):
            address = f"person{trial // 2}@example.com"
            if trial % 2 == 0:
                registered = await client.register(
                    full_name="Person", username=f"person{trial // 2}", email=address, send_otp=True
                )
                challenge = registered.challenge
            else:
                challenge = (await client.send_otp(email=address)).challenge
            code = await first.mails.code_for(address, count=1 + trial % 2)
            by_id = pb.VerifyOtpRequest(challenge_id=challenge.id, code=code)
            by_email = pb.VerifyOtpRequest(email=address, code=code)
            # In pairs, since neighbours go to different processes.
            turns = [by_id, by_id, by_email, by_email] * (CONNECTIONS // 4)
            outcomes = await burst.verify_at_once(turns)
            _assert_one_winner(outcomes, CONNECTIONS)
            (row,) = await first.sql("SELECT count(*) FROM sessions")
            assert row[0] == trial + 1


async def test_the_code_is_dead_at_the_other_process_too(
    processes: tuple[WatchwordProcess, WatchwordProcess],
) -> None:
    """A code that one process took is refused by the other as soon as the first has answered.

    Seen to fail with `consume_time IS NULL` taken out of both AttemptStore.CHARGE_BY_ID and the
    part `consumed` of CONSUME; either alone is enough.
    """
    first, second = processes
    async with first.client() as here, second.client() as there:
        sent = await here.send_otp(email="demo@example.com")
        code = await first.mails.code_for("demo@example.com")
        await here.verify_otp(challenge_id=sent.challenge.id, code=code)
        with pytest.raises(OtpInvalid):
            await there.verify_otp(challenge_id=sent.challenge.id, code=code)


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_one_winner_at_every_isolation_level(database_url: str, isolation: Isolation) -> None:
    """32 calls at once make one session at each isolation level; 10 trials, in full 50.

    A loser sees OTP_INVALID or, having lost every retry, UNAVAILABLE, and never UNKNOWN
    (threats.md 4). Seen to fail at each level with `AND consume_time IS NULL` taken out of the
    part `consumed` of AttemptStore.CONSUME (a closure that is run again spends the code again),
    and at the two higher ones with `except _LOST_RACE` taken out of PgDatabase (INTERNAL).
    """
    async with (
        running_app(database_url, isolation=isolation) as app,
        connections(
            [app.app.api_address], service_key=app.service_key(*Scope), count=ISOLATION_CALLS
        ) as burst,
    ):
        await app.sign_in("ada")
        for trial in range(ISOLATION_TRIALS):
            sent = await app.client.send_otp(email="ada@example.com")
            code = await app.mails.code_for("ada@example.com", count=trial + 2)
            request = pb.VerifyOtpRequest(challenge_id=sent.challenge.id, code=code)
            outcomes = await burst.verify_at_once([request] * ISOLATION_CALLS)
            _assert_one_winner(outcomes, ISOLATION_CALLS)
            (row,) = await app.sql("SELECT count(*) FROM sessions")
            assert row[0] == trial + 2
