"""`request_id` of SendOtp: a retry gives what the first call gave, and no second mail."""

import asyncio
import itertools
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.rpc.wire import count, settled
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword.callers.model import Scope
from watchword.crypto import slot_of_subject
from watchword.storage.pool import Isolation
from watchword_client import ChallengeClosed, RateLimited, RequestInvalid


async def test_a_retry_gives_the_same_challenge_and_no_second_mail(app: RunningApp) -> None:
    """The whole answer is the same, whenever it comes; another request id is another request."""
    await app.sign_in("ada")
    request_id = str(uuid4())
    first = await app.client.send_otp(email="ada@example.com", request_id=request_id)
    code = await app.mails.code_for("ada@example.com", count=2)
    await settled(app)
    await age(app.database_url, timedelta(minutes=2))
    again = await app.client.send_otp(email="ADA@example.com", request_id=request_id.upper())
    assert again.challenge.id == first.challenge.id
    assert again.challenge.code_length == first.challenge.code_length
    assert again.challenge.resend_time.seconds - first.challenge.resend_time.seconds in (-120, -121)
    await settled(app)
    assert len(app.mails.all()) == 2
    other = await app.client.send_otp(email="ada@example.com", request_id=str(uuid4()))
    assert other.challenge.id != first.challenge.id
    assert (await app.client.verify_otp(challenge_id=first.challenge.id, code=code)).user.id


async def test_a_retry_after_the_end_is_told_so(app: RunningApp) -> None:
    """Used or expired: CHALLENGE_CLOSED, no mail and no new challenge for a request of the past."""
    await app.sign_in("ada")
    used, late = str(uuid4()), str(uuid4())
    challenge = (await app.client.send_otp(email="ada@example.com", request_id=used)).challenge
    code = await app.mails.code_for("ada@example.com", count=2)
    await app.client.verify_otp(challenge_id=challenge.id, code=code)
    await app.client.send_otp(email="ada@example.com", request_id=late)
    await settled(app)
    await age(app.database_url, timedelta(minutes=5))
    challenges = await count(app, "challenges")
    for request_id in (used, late):
        with pytest.raises(ChallengeClosed):
            await app.client.send_otp(email="ada@example.com", request_id=request_id)
    assert await count(app, "challenges") == challenges


async def test_a_request_is_its_callers_and_its_targets(app: RunningApp) -> None:
    """Another caller, and another address, with the same id: a challenge of its own.

    The addresses share a slot, which an id ends with. Seen to fail with the caller, and with the
    target, left out of what the id is derived from.
    """
    one, other = _in_one_slot(app)
    request_id = str(uuid4())
    first = await app.client.send_otp(email=one, request_id=request_id)
    elsewhere = await app.client.send_otp(email=other, request_id=request_id)
    async with app.client_with(Scope.LOGIN) as stranger:
        theirs = await stranger.send_otp(email=one, request_id=request_id)
    ids = {answer.challenge.id for answer in (first, elsewhere, theirs)}
    assert len(ids) == 3


def _in_one_slot(app: RunningApp) -> tuple[str, str]:
    seen: dict[int, str] = {}
    for number in itertools.count():
        email = f"person{number}@example.com"
        slot = slot_of_subject(app.keys.subject_key(email))
        if slot in seen:
            return seen[slot], email
        seen[slot] = email
    raise AssertionError("there are 4096 slots")


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_retries_at_once_are_one(database_url: str, isolation: Isolation) -> None:
    """Of 16 calls with one id each gets the same challenge, and one mail leaves, by either target.

    Seen to fail with ON CONFLICT taken out of ChallengeStore.INSERT, and out of OutboxStore.PUT.
    """
    async with running_app(database_url, isolation=isolation) as app:
        await app.sign_in("ada")
        for trial in range(3):
            target = {"email": "ada@example.com"}
            for _ in range(2):
                request_id = str(uuid4())
                answers = await asyncio.gather(
                    *(app.client.send_otp(request_id=request_id, **target) for _ in range(16))
                )
                (challenge_id,) = {answer.challenge.id for answer in answers}
                target = {"challenge_id": challenge_id}
            await settled(app)
            assert len(app.mails.all()) == 1 + 2 * (trial + 1)


async def test_a_resend_is_repeated_without_a_mail(app: RunningApp) -> None:
    """By `challenge_id` too: one more mail for one request id, and the same times."""
    challenge = (await app.register()).challenge
    request_id = str(uuid4())
    first = await app.client.send_otp(challenge_id=challenge.id, request_id=request_id)
    again = await app.client.send_otp(challenge_id=challenge.id, request_id=request_id)
    assert again == first
    await settled(app)
    assert len(app.mails.all()) == 2


async def test_a_retry_is_not_counted(database_url: str) -> None:
    """It is answered when the mailbox's limit is spent, known address or not; a new one is not."""
    async with running_app(database_url, LIMITS__ENABLED="true") as app:
        await app.register("ada", send_otp=False)
        for address in ("ada@example.com", "nobody@example.com"):
            request_id = str(uuid4())
            first = await app.client.send_otp(email=address, request_id=request_id)
            for _ in range(3):
                again = await app.client.send_otp(email=address, request_id=request_id)
                assert again == first
            with pytest.raises(RateLimited):
                await app.client.send_otp(email=address, request_id=str(uuid4()))


async def test_retries_at_once_spend_one_unit(database_url: str) -> None:
    """Of 8 calls with one id one is counted, and all get its challenge.

    Seen to fail with the second look left out: RATE_LIMITED for most of them.
    """
    async with running_app(database_url, LIMITS__ENABLED="true") as app:
        request_id = str(uuid4())
        answers = await asyncio.gather(
            *(app.client.send_otp(email="ada@example.com", request_id=request_id) for _ in range(8))
        )
        assert len({answer.challenge.id for answer in answers}) == 1


async def test_what_is_no_uuid_is_refused(app: RunningApp) -> None:
    """A request id that was cut would never be seen again as the same."""
    for text in ("x", str(uuid4())[:-1], "0" * 32, "\n" + str(uuid4())):
        with pytest.raises(RequestInvalid) as caught:
            await app.client.send_otp(email="ada@example.com", request_id=text)
        assert [violation.field for violation in caught.value.violations] == ["request_id"]
