"""Codes compared per subject, over all of its challenges: 10 in a day, 50 in 30 days, 100 in a row.

However many challenges and resends somebody asks for, and however many guesses arrive at once
(row 4).
"""

import asyncio
import base64
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from tests.races.bursts import FULL, Connections, by_email, by_id, guesses, refused, to_all
from tests.races.results import Results
from tests.races.rows import LEVELS
from tests.support.replicas import Replicas, replicas_on
from watchword_client import AsyncClient, OtpInvalid, resources_pb2
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

ISOLATION_TRIALS = 20 if FULL else 1
CHALLENGES = 6
GUESSES = 120
IN_DAY = 10
SUCCEEDED = "UPDATE subject_budgets SET in_a_row = 0, in_a_row_by_email = 0"
NEW_ATTEMPTS = "UPDATE challenges SET attempts = 0, attempts_by_email = 0"


async def _asked(replicas: Replicas, email: str, count: int = CHALLENGES) -> list[str]:
    """Asks for codes, each mail twice; returns the challenges that still have short codes."""
    ids = []
    for number in range(count):
        client = replicas.clients[number % len(replicas.clients)]
        challenge = (await client.send_otp(email=email)).challenge
        await client.send_otp(challenge_id=challenge.id)
        if challenge.code_length == 6:
            ids.append(challenge.id)
    return ids


def _mixed(
    email: str, challenges: Sequence[str], codes: Sequence[str]
) -> list[pb.VerifyOtpRequest]:
    """Two by id, then one by e-mail, over all of the challenges."""
    requests = []
    for number, code in enumerate(codes):
        if number % 3 == 2:
            requests += by_email(email, [code])
        else:
            requests += by_id(challenges[number % len(challenges)], [code])
    return requests


async def _burst(
    replicas: Replicas,
    sending: Connections,
    email: str,
    challenges: Sequence[str],
    *,
    count: int = GUESSES,
) -> int:
    """Sends guesses while further mails are asked for; returns how many were compared.

    None of them is right but by luck.
    """
    requests = _mixed(email, challenges, guesses("000000", count))
    replicas.compared()
    outcomes, _ = await asyncio.gather(sending.verify_at_once(requests), _asked(replicas, email, 2))
    assert refused(outcomes) >= count - 1, outcomes
    return len(replicas.compared())


@pytest.mark.parametrize("replicas", ["read_committed"], indirect=True)
async def test_ten_guesses_are_compared_in_a_day(
    replicas: Replicas, burst: Connections, results: Results
) -> None:
    """Of two bursts of 120 guesses at 6 challenges and more, 10 are compared; then every right
    short code is refused, whatever attempts it has left, and the long one signs in.

    Somebody else's success in between changes nothing. 2 people, in full 100. Seen to fail with
    the budget kept per challenge, and with everybody's failures cleared by any success.
    """
    with results.measure("4 in 24 hours") as row:
        for _ in row.each():
            person, other = await replicas.newcomer(), await replicas.newcomer()
            email = person.email
            challenges = [person.challenge_id, *await _asked(replicas, email)]
            assert len(challenges) == 1 + CHALLENGES
            compared = await _burst(replicas, burst, email, challenges)
            await replicas.clients[0].verify_otp(challenge_id=other.challenge_id, code=other.code)
            await replicas.sql(NEW_ATTEMPTS)
            compared += await _burst(replicas, burst, email, challenges)
            row.saw(compared)
            assert compared == IN_DAY
            await replicas.sql(NEW_ATTEMPTS)
            rights = [await replicas.code_of(challenge) for challenge in challenges]
            requests = [by_id(*pair)[0] for pair in zip(challenges, zip(rights), strict=True)]
            requests += by_email(email, rights)
            assert (await burst.verify_at_once(requests))["OTP_INVALID"] == len(requests)
            assert replicas.compared() == []
            long = (await replicas.clients[1].send_otp(email=email)).challenge
            assert long.code_length == 13
            answer = await replicas.clients[2].verify_otp(
                challenge_id=long.id, code=await replicas.code_of(long.id)
            )
            assert answer.user.username == person.username


@pytest.mark.parametrize("replicas", LEVELS, indirect=True)
async def test_ten_at_every_isolation_level(replicas: Replicas, burst: Connections) -> None:
    """The same where races are lost by errors and run again; 1 person each, in full 20."""
    for _ in range(ISOLATION_TRIALS):
        person = await replicas.newcomer()
        challenges = [person.challenge_id, *await _asked(replicas, person.email)]
        compared = 0
        for _ in range(3):
            compared += await _burst(replicas, burst, person.email, challenges, count=40)
            await replicas.sql(NEW_ATTEMPTS)
        assert 0 < compared <= IN_DAY


@pytest.fixture
async def own(database_url: str) -> AsyncIterator[Replicas]:
    """Three servers of the test's own: to be stopped, or with few rows to make older."""
    async with replicas_on(database_url) as replicas:
        yield replicas


async def test_no_window_holds_more_than_its_budget(own: Replicas, results: Results) -> None:
    """24 bursts, in full 1,200, hours or days apart: at most 10 are compared in any 24 hours, 50 in
    any 30 days, 100 without a success in between.

    Seen to fail with `failures[$8]` taken out of CHARGE_BY_ID, and with `in_a_row < $10`.
    """
    replicas, chance = own, random.Random(5)
    email = (await replicas.newcomer()).email
    hours, in_a_row, compared = 0, 0, list[int]()
    async with to_all(replicas) as burst:
        with results.measure_together("4 in 30 days", "4 in a row") as (month, row):
            for number, _ in zip(month.each(), row.each(), strict=True):
                challenges = await _asked(replicas, email, 1)
                challenges += [(await replicas.clients[1].send_otp(email=email)).challenge.id]
                # Whatever SendOtp has decided: the charge has to hold by itself.
                ids = [UUID(challenge) for challenge in challenges]
                await replicas.sql("UPDATE challenges SET code_form = 6 WHERE id = ANY($1)", ids)
                count = await _burst(replicas, burst, email, challenges, count=60)
                compared += [hours] * count
                in_a_row += count
                assert len([at for at in compared if at > hours - 24]) <= IN_DAY
                month.saw(len([at for at in compared if at > hours - 30 * 24]))
                row.saw(in_a_row)
                if number % 60 == 59:
                    # What a success does to the count, without the mail.
                    await replicas.sql(SUCCEEDED)
                    in_a_row = 0
                # Days in a row fill a month; then anything.
                wait = 24 if number < 8 else chance.choice([6, 12, 24, 24, 48, 15 * 24, 30 * 24])
                await replicas.sql("DELETE FROM challenges")
                await replicas.age(hours=wait)
                hours += wait
            assert len(compared) >= 100


async def _refused_everywhere(replicas: Replicas, challenge: str, forms: Sequence[str]) -> int:
    """Sends the right code by id and by each form of the address, as if no attempt had been made;
    returns how often it was compared.
    """
    await replicas.sql(NEW_ATTEMPTS)
    replicas.compared()
    code = await replicas.code_of(challenge)
    for number, client in enumerate(replicas.clients):
        context = resources_pb2.ClientContext(ip=f"2001:db8:{number}::{challenge[:4]}")
        with pytest.raises(OtpInvalid):
            await client.verify_otp(challenge_id=challenge, code=code, client=context)
        for form in forms:
            with pytest.raises(OtpInvalid):
                await client.verify_otp(email=form, code=code, client=context)
    return len(replicas.compared())


async def test_nothing_begins_the_count_again(own: Replicas, results: Results) -> None:
    """After ten guesses no resend, no other client, no other form of the address, no restart and no
    new key of the ring has another code compared; 1 time, in full 50.

    Seen to fail with the account key made of the address as it was written.
    """
    replicas = own
    with results.measure("4 again") as row:
        for _ in row.each():
            name = replicas.new_name()
            forms = [
                f"{name}@bücher.example.com",
                f"{name.upper()}@BÜCHER.example.com",
                f"{name.title()}@xn--bcher-kva.EXAMPLE.com",
            ]
            challenges = await _exhausted(replicas.clients, name, forms)
            target = challenges[-1]
            await replicas.clients[1].send_otp(challenge_id=target)
            row.saw(await _refused_everywhere(replicas, target, forms))
            await replicas.stop()
            await replicas.start()
            row.saw(await _refused_everywhere(replicas, target, forms))
            await replicas.stop()
            replicas.environment["WATCHWORD_SECRETS__KEYS"] = _with_new_key(
                replicas.environment["WATCHWORD_SECRETS__KEYS"]
            )
            await replicas.start()
            row.saw(await _refused_everywhere(replicas, target, forms))
            for form in forms:
                sent = await replicas.clients[2].send_otp(email=form)
                assert sent.challenge.code_length == 13


async def _exhausted(clients: Sequence[AsyncClient], name: str, forms: Sequence[str]) -> list[str]:
    """Registers somebody and has ten guesses compared."""
    await clients[0].register(full_name="Person", username=name, email=forms[0])
    challenges = []
    for number in range(3):
        form = forms[number % len(forms)]
        challenges.append((await clients[number].send_otp(email=form)).challenge.id)
    for number, code in enumerate(guesses("111111", IN_DAY)):
        client = clients[number % len(clients)]
        with pytest.raises(OtpInvalid):
            await client.verify_otp(challenge_id=challenges[number // 5], code=code)
    return challenges


def _with_new_key(ring: str) -> str:
    """Puts a new key in front, which then signs."""
    ids = [int(entry.partition(":")[0]) for entry in ring.split(",")]
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return f"{max(ids) + 1}:{key},{ring}"
