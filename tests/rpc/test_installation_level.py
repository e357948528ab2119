"""Wrong codes at many addresses make everybody's new codes longer (threats row 5).

At 6 and 12 a minute here; tests/storage has the default thresholds and the windows.
"""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.rpc.test_failure_budgets import address, ask, refuse
from tests.rpc.wire import settled, wire_to, wrong
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword.otp.level import CALM_TIME, CodeLevel
from watchword.otp.policy import FAILURE_BUDGET
from watchword_client import Unavailable
from watchword_client import auth_service_pb2 as pb

EIGHT_FROM, LONG_FROM = 6, 12
SETTINGS = {
    "OTP__EIGHT_DIGITS_PER_MINUTE": str(EIGHT_FROM),
    "OTP__LONG_CODES_PER_MINUTE": str(LONG_FROM),
}
# The watch looks twice a second; the rest is for a busy machine.
RAISED_WITHIN_SECONDS = 5.0


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[RunningApp]:
    """A server with low thresholds, where ada has an account."""
    async with running_app(database_url, **SETTINGS) as running:
        await running.sign_in("ada")
        yield running


async def spray(app: RunningApp, count: int, *, start: int = 0) -> None:
    """Guesses wrong once at each of so many addresses, in both lanes; every second has an owner."""
    for number in range(start, start + count):
        name = f"sprayed{number}"
        if number % 2:
            challenge = (await app.register(name)).challenge
        else:
            challenge = (await app.client.send_otp(email=address(name))).challenge
        guess = "0" * challenge.code_length
        target = {"challenge_id": challenge.id} if number % 4 < 2 else {"email": address(name)}
        await refuse(app, guess, **target)


async def until_level(app: RunningApp, level: CodeLevel) -> None:
    """Returns once some watch has raised the level."""
    store = app.app.database
    async with asyncio.timeout(RAISED_WITHIN_SECONDS):
        while True:
            standing = await store.run_statement(
                lambda tx: tx.budgets.standing(bytes(32), slot=0, budget=FAILURE_BUDGET)
            )
            if standing.level == level:
                return
            await asyncio.sleep(0.02)


async def lengths(app: RunningApp, name: str) -> list[int]:
    """The code lengths of SendOtp to an account and to nobody, and of Register: one answer."""
    return [
        (await app.client.send_otp(email=address("ada"))).challenge.code_length,
        (await app.client.send_otp(email=address(f"nobody-{name}"))).challenge.code_length,
        (await app.register(name)).challenge.code_length,
    ]


async def test_codes_grow_and_shrink_with_the_level(app: RunningApp) -> None:
    """6 digits, 8 from the 6th wrong code, 13 characters from the 12th, 6 after 6 calm hours; for
    accounts, registrations and nobody alike, and codes of each length sign in.

    Seen to fail with the level left out of STANDING, and of `code_form`.
    """
    await spray(app, EIGHT_FROM - 1)
    await asyncio.sleep(0.6)
    assert await lengths(app, "calm") == [6, 6, 6]
    await spray(app, 1, start=EIGHT_FROM)
    await until_level(app, CodeLevel.EIGHT_DIGITS)
    assert await lengths(app, "eight") == [8, 8, 8]
    challenge, code = await ask(app, address("ada"))
    assert len(code) == 8
    await app.client.verify_otp(challenge_id=challenge.id, code=code)

    # Those of 8 digits count too, and those of 13 characters do not.
    await spray(app, LONG_FROM - EIGHT_FROM, start=100)
    await until_level(app, CodeLevel.LONG_CODES)
    assert await lengths(app, "long") == [13, 13, 13]
    await spray(app, 2, start=200)
    challenge, code = await ask(app, address("ada"))
    assert len(code) == 13
    await app.client.verify_otp(challenge_id=challenge.id, code=code)
    [row] = await app.sql("SELECT sum(n) FROM failure_counts, unnest(tens) AS n")
    assert row[0] == LONG_FROM

    await age(app.database_url, CALM_TIME)
    assert await lengths(app, "again") == [6, 6, 6]
    outcomes = await app.sql("SELECT action, target_id FROM audit_events WHERE slot = 0")
    assert [tuple(row) for row in outcomes] == [
        ("raise_code_level", "8"),
        ("raise_code_level", "13"),
    ]


async def test_a_longer_configured_code_stays(database_url: str) -> None:
    """Where codes have 10 digits the lower level changes nothing, and takes no attempt away."""
    async with running_app(database_url, **SETTINGS, OTP__CODE_LENGTH="10") as app:
        challenge = (await app.register("ada")).challenge
        code = await app.mails.code_for(address("ada"))
        await spray(app, EIGHT_FROM)
        await until_level(app, CodeLevel.EIGHT_DIGITS)
        assert await lengths(app, "eight") == [10, 10, 10]
        for _ in range(4):
            await refuse(app, wrong(code), challenge_id=challenge.id)
        await app.client.verify_otp(challenge_id=challenge.id, code=code)


@pytest.mark.parametrize("lane", ["challenge_id", "email"])
async def test_a_mailed_code_has_one_more_attempt(app: RunningApp, lane: str) -> None:
    """A person who waits for the mail still signs in with it; after one wrong code it is refused in
    that lane and still signs in by the other, and a resend changes nothing.

    Seen to fail with the conditions of the level taken out of either charge.
    """
    first, first_code = await ask(app, address("ada"))
    await app.sql("UPDATE challenges SET end_time = now() WHERE id <> $1", first.id)
    await spray(app, EIGHT_FROM)
    await until_level(app, CodeLevel.EIGHT_DIGITS)
    lanes = {"challenge_id": first.id, "email": address("ada")}
    target = {lane: lanes.pop(lane)}
    await refuse(app, wrong(first_code), **target)
    await app.client.send_otp(challenge_id=first.id)
    for _ in range(2):
        await refuse(app, first_code, **target)
    answer = await app.client.verify_otp(code=first_code, **lanes)
    assert answer.user.username == "ada"


async def test_right_codes_raise_nothing(app: RunningApp) -> None:
    """Signing in is no failure, and neither is a code of which nothing was compared."""
    for _ in range(EIGHT_FROM):
        challenge, code = await ask(app, address("ada"))
        await app.client.verify_otp(challenge_id=challenge.id, code=code)
        await refuse(app, code, challenge_id=challenge.id)
        await refuse(app, code, email=address("ada"))
    assert await app.sql("SELECT stripe FROM failure_counts") == []


async def test_a_wrong_code_waits_for_its_count(app: RunningApp) -> None:
    """While the count cannot be stored a wrong code is UNAVAILABLE, by either lane and whoever the
    address belongs to; a right one signs in.
    """
    _, code = await ask(app, address("ada"))
    challenge = (await app.client.send_otp(email=address("nobody"))).challenge
    holder = await asyncpg.connect(app.database_url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE failure_counts IN SHARE MODE")
            calls = [
                app.client.verify_otp(code=wrong(code), **target)
                for target in (
                    {"email": address("ada")},
                    {"challenge_id": challenge.id},
                    {"email": address("nobody")},
                )
            ]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {Unavailable}
            assert (await app.client.verify_otp(code=code, email=address("ada"))).session_token
    finally:
        await holder.close()


async def test_an_alarm_tells_nothing_of_accounts(app: RunningApp) -> None:
    """From alarm to alarm each answer for a known and an unknown address is the same but for ids
    and times.
    """
    await settled(app)
    transcripts: dict[str, list[object]] = {"ada": [], "nobody": []}
    async with wire_to(app) as wire:
        for round_, level in enumerate(CodeLevel):
            if level is not CodeLevel.CALM:
                # What the transcripts themselves leave to the next threshold.
                await spray(app, EIGHT_FROM - 2 * round_, start=10 * round_)
                await until_level(app, level)
            for name, steps in transcripts.items():
                sent = await wire.call("SendOtp", pb.SendOtpRequest(email=address(name)))
                challenge = pb.SendOtpResponse.FromString(sent.body).challenge
                steps.append(challenge.code_length)
                for _ in range(2 if level is CodeLevel.CALM else 1):
                    request = pb.VerifyOtpRequest(
                        challenge_id=challenge.id, code="0" * challenge.code_length
                    )
                    answer = await wire.call("VerifyOtp", request)
                    steps.append((answer.code, answer.message, answer.status))
    assert transcripts["ada"] == transcripts["nobody"]
    assert [step for step in transcripts["ada"] if isinstance(step, int)] == [6, 8, 13]
