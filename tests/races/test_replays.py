"""Codes where they are worth nothing: used, expired, ended, another's (rows 7 and 8)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

from tests.races.bursts import FULL, SIGNED_IN, by_email, by_id, to_all
from tests.races.results import Results
from tests.support.replicas import Person, Replicas, replicas_on
from watchword_client import OtpInvalid
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

TOGETHER = 20
LIFETIME = timedelta(minutes=5)
NEVER_WAS = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"
NEW_ATTEMPTS = "UPDATE challenges SET attempts = 0, attempts_by_email = 0"


def _bytes(error: grpc.aio.AioRpcError | None) -> tuple[object, ...] | None:
    """Everything that a caller sees of an error."""
    if error is None:
        return None
    trailers = tuple(error.trailing_metadata() or ())
    return error.code(), error.details(), trailers


def _both(person: Person, challenge: str, code: str) -> list[pb.VerifyOtpRequest]:
    """The code by both lanes."""
    return by_id(challenge, [code]) + by_email(person.email, [code])


@pytest.fixture
async def own(database_url: str) -> AsyncIterator[Replicas]:
    """Three servers of the test's own, with few rows: all of them are made older."""
    async with replicas_on(database_url) as replicas:
        yield replicas


async def test_a_dead_code_is_a_wrong_code(own: Replicas, results: Results) -> None:
    """A used code, one that has expired and one of a challenge that a success has ended are refused
    at once, 1 s later and a lifetime and 1 s later, in the bytes of a code that never was.

    20 of each, in full 1,000, by both lanes at all of the servers. Seen to fail with
    `expire_time > now()` taken out of CHARGE_BY_ID and CONSUME.
    """
    never = pb.VerifyOtpRequest(challenge_id=NEVER_WAS, code="123456")
    async with to_all(own) as burst:
        (error,) = await burst.errors_at_once([never])
        expected = _bytes(error)
        assert expected is not None
        with results.measure("7") as row:
            for _ in row.each(step=TOGETHER):
                requests = await _dead(own)
                for wait in (timedelta(0), timedelta(seconds=1), LIFETIME):
                    await own.age(seconds=wait.total_seconds())
                    errors = await burst.errors_at_once(requests)
                    row.saw(errors.count(None))
                    assert set(map(_bytes, errors)) == {expected}


async def _dead(replicas: Replicas) -> list[pb.VerifyOtpRequest]:
    """Makes people with a code that has expired, and others with a used one and with one that its
    use has ended: it would end an expired one too.
    """
    late = [await replicas.newcomer() for _ in range(TOGETHER)]
    requests = [each for it in late for each in _both(it, it.challenge_id, it.code)]
    await replicas.age(seconds=LIFETIME.total_seconds())
    for person in [await replicas.newcomer() for _ in range(TOGETHER)]:
        ended, used = [
            (await client.send_otp(email=person.email)).challenge.id
            for client in replicas.clients[:2]
        ]
        code = await replicas.code_of(used)
        requests += _both(person, used, code)
        requests += _both(person, ended, await replicas.code_of(ended))
        await replicas.clients[2].verify_otp(challenge_id=used, code=code)
    return requests


async def test_a_short_life_ends_by_itself(database_url: str) -> None:
    """A code of 30 s signs in before and not after, by the database's clock; 28 s are skipped.

    Seen to fail with `expire_time > now()` taken out of CHARGE_BY_ID and CONSUME.
    """
    async with replicas_on(database_url, OTP__LIFETIME="30s") as replicas:
        early, late = await replicas.newcomer(), await replicas.newcomer()
        await replicas.age(seconds=28)
        await replicas.clients[0].verify_otp(challenge_id=early.challenge_id, code=early.code)
        await asyncio.sleep(2.1)
        for client in replicas.clients:
            with pytest.raises(OtpInvalid):
                await client.verify_otp(challenge_id=late.challenge_id, code=late.code)


@pytest.fixture
async def long_codes(database_url: str) -> AsyncIterator[Replicas]:
    """Three servers with codes of 10 digits, which chance does not hit."""
    async with replicas_on(database_url, OTP__CODE_LENGTH="10") as replicas:
        yield replicas


async def test_a_code_is_good_for_its_own_challenge_alone(
    long_codes: Replicas, results: Results
) -> None:
    """A code on another's challenge, and on another's address: 2,000 pairs, in full 10^5, are each
    compared and refused; the counts of attempts and failures are taken away before each round.
    Seen to fail with codes that follow from no challenge, subject or nonce.

    Another purpose is refused by the statements (tests/storage/test_challenge_statements.py).
    """
    replicas = long_codes
    people = [await replicas.newcomer() for _ in range(101)]
    async with to_all(replicas) as connections:
        with results.measure("8") as row:
            for number in row.each(step=200):
                # A challenge lives for 5 minutes, a full run for longer.
                await replicas.sql("UPDATE challenges SET expire_time = now() + interval '5 min'")
                await replicas.sql(NEW_ATTEMPTS)
                await replicas.sql("DELETE FROM subject_budgets")
                replicas.compared()
                distance = 1 + number // 200 % 100
                requests: list[pb.VerifyOtpRequest] = []
                for place, person in enumerate(people[:100]):
                    other = people[(place + distance) % len(people)]
                    requests += _both(other, other.challenge_id, person.code)
                outcomes = await connections.verify_at_once(requests)
                row.saw(outcomes[SIGNED_IN])
                assert outcomes["OTP_INVALID"] == len(requests) == len(replicas.compared())
    # The codes were right ones.
    for person in people[:5]:
        await replicas.clients[0].verify_otp(challenge_id=person.challenge_id, code=person.code)
