"""Everything that counts is in the database: what SIGKILL of every server leaves (row 32)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from operator import ne

import asyncpg
import pytest

from tests.races.bursts import (
    FULL,
    REFUSALS,
    SENT,
    SIGNED_IN,
    Request,
    by_email,
    by_id,
    guesses,
    to_all,
)
from tests.races.results import Results
from tests.support.replicas import Person, Replicas, replicas_on
from watchword_client import SessionInvalid, resources_pb2
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

PEOPLE = 10
COUNTS = (
    "SELECT id, attempts, attempts_by_email, consume_time, end_time FROM challenges ORDER BY id",
    "SELECT * FROM subject_budgets ORDER BY slot, subject_key",
    "SELECT id, revoke_time FROM sessions ORDER BY id",
)
BUCKETS = "SELECT key, ARRAY[tat1_us, tat2_us, tat3_us] AS times FROM rate_limits"
NOW_US = "SELECT (extract(epoch FROM now()) * 1000000)::bigint AS us"


@dataclass(frozen=True)
class Past:
    """Somebody who has signed in and out, and somebody whose code strangers have guessed at."""

    signed_out: Person
    token: str
    guessed: Person


@pytest.fixture
async def limited(database_url: str) -> AsyncIterator[Replicas]:
    """Three servers with the limits that they have by default."""
    async with replicas_on(database_url, LIMITS__ENABLED="true") as replicas:
        yield replicas


async def _past(replicas: Replicas, number: int) -> Past:
    """Leaves a revoked token, a spent code, spent attempts and a mailbox that has to wait."""
    at = [resources_pb2.ClientContext(ip=f"2001:db8:{number}:{place}::1") for place in range(3)]
    one, two, three = replicas.clients
    signed_out = await replicas.newcomer(client=at[0])
    answer = await one.verify_otp(
        challenge_id=signed_out.challenge_id, code=signed_out.code, client=at[0]
    )
    assert (await two.revoke(answer.session_token)).revoked_count == 1
    guessed = await replicas.newcomer(client=at[1])
    wrong = guesses(guessed.code, 8)
    async with to_all(replicas, count=8) as strangers:
        requests = by_id(guessed.challenge_id, wrong[:5]) + by_email(guessed.email, wrong[5:])
        outcomes = await strangers.verify_at_once(requests)
    assert outcomes["OTP_INVALID"] == len(requests)
    await three.validate_session((await _signed_in(replicas, at[2])).session_token)
    return Past(signed_out, answer.session_token, guessed)


async def _signed_in(
    replicas: Replicas, client: resources_pb2.ClientContext
) -> pb.VerifyOtpResponse:
    person = await replicas.newcomer(client=client)
    return await replicas.clients[0].verify_otp(
        challenge_id=person.challenge_id, code=person.code, client=client
    )


def _emptier(before: list[asyncpg.Record], after: list[asyncpg.Record], now_us: int) -> int:
    """How many buckets have lost something that still counts.

    Those that are empty by now may be gone: the purger of a new server takes them. One may be
    fuller: a new server sends the mails that had to wait for their domain.
    """
    has = {row["key"]: row["times"] for row in after}
    return sum(
        any(
            then is not None and then > now_us and (now is None or now < then)
            for then, now in zip(row["times"], has.get(row["key"], [None] * 3), strict=True)
        )
        for row in before
    )


def _replayed(past: Past) -> list[Request]:
    """Everything that was refused before, by codes and by mailboxes."""
    out, guessed = past.signed_out, past.guessed
    return [
        *by_id(out.challenge_id, [out.code]),
        *by_email(out.email, [out.code]),
        *by_id(guessed.challenge_id, [guessed.code]),
        *by_email(guessed.email, [guessed.code]),
        pb.SendOtpRequest(email=out.email),
        pb.SendOtpRequest(email=guessed.email),
        pb.SendOtpRequest(challenge_id=guessed.challenge_id),
    ]


async def test_nothing_comes_back_after_a_kill(limited: Replicas, results: Results) -> None:
    """Every server is killed after 10 people have left revoked tokens, spent codes, spent attempts
    and mailboxes that have to wait: all of it is refused, and every count stands as it was.

    2 kills, in full 100. Seen to fail with a server that forgets attempts as it starts.
    """
    replicas = limited
    with results.measure("32") as row:
        for kill in row.each():
            people = [await _past(replicas, kill * PEOPLE + place) for place in range(PEOPLE)]
            before = [await replicas.sql(statement) for statement in COUNTS]
            buckets_before = await replicas.sql(BUCKETS)
            await replicas.kill()
            await replicas.start()
            after = [await replicas.sql(statement) for statement in COUNTS]
            buckets_after = await replicas.sql(BUCKETS)
            (now,) = await replicas.sql(NOW_US)
            reset = sum(map(ne, before, after))
            reset += _emptier(buckets_before, buckets_after, now["us"])
            replicas.compared()
            for past in people:
                for client in replicas.clients:
                    with pytest.raises(SessionInvalid):
                        await client.validate_session(past.token)
            requests = [request for past in people for request in _replayed(past)]
            async with to_all(replicas) as connections:
                outcomes = await connections.each_at_once(requests)
            accepted = outcomes.count(SIGNED_IN) + outcomes.count(SENT)
            row.saw(accepted + reset + len(replicas.compared()))
            assert outcomes.count("OTP_INVALID") == 4 * PEOPLE, outcomes
            # One bucket is asked by all of them: some could not be counted in time.
            unserved = [each for each in outcomes if each in {"RATE_LIMITED", *REFUSALS}]
            assert len(unserved) == len(outcomes), outcomes
