"""Mailing a challenge again: the same code, no more time and no more attempts (threats row 4)."""

from datetime import timedelta

import pytest

from tests.rpc.wire import mail_states, settled, wrong
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword_client import ChallengeClosed, OtpInvalid


async def test_a_resend_mails_the_same_code_and_extends_nothing(app: RunningApp) -> None:
    """Same id, same end, same code; `resend_time` is 60 s after this mail."""
    first = (await app.register()).challenge
    code = await app.mails.code_for("ada@example.com")
    await settled(app)
    await age(app.database_url, timedelta(seconds=90))
    (before,) = await app.sql("SELECT expire_time, now() AS now FROM challenges")
    again = (await app.client.send_otp(challenge_id=first.id)).challenge
    assert await app.mails.code_for("ada@example.com", count=2) == code
    assert again.id == first.id
    assert again.code_length == first.code_length == 6
    assert abs(again.expire_time.ToDatetime() - before["expire_time"].replace(tzinfo=None)) < (
        timedelta(milliseconds=1)
    )
    wait = again.resend_time.ToDatetime() - before["now"].replace(tzinfo=None)
    assert timedelta(seconds=60) <= wait < timedelta(seconds=65)
    (after,) = await app.sql("SELECT expire_time FROM challenges")
    assert after["expire_time"] == before["expire_time"]


async def test_a_first_mail_may_be_repeated_after_a_minute(app: RunningApp) -> None:
    """`resend_time` is now + 60 s and the end now + 5 min, by the database's clock."""
    challenge = (await app.register()).challenge
    (row,) = await app.sql("SELECT create_time FROM challenges")
    begun = row["create_time"].replace(tzinfo=None)
    assert challenge.resend_time.ToDatetime() - begun == timedelta(seconds=60)
    assert challenge.expire_time.ToDatetime() - begun == timedelta(minutes=5)


async def test_a_resend_gives_no_attempt_back(app: RunningApp) -> None:
    """Wrong codes before and after resends share 5 attempts, and a spent challenge is mailed again
    all the same (the guard: a resend writes the outbox alone).
    """
    challenge_id = (await app.register()).challenge.id
    code = await app.mails.code_for("ada@example.com")
    for number in range(5):
        with pytest.raises(OtpInvalid):
            await app.client.verify_otp(challenge_id=challenge_id, code=wrong(code))
        await app.client.send_otp(challenge_id=challenge_id)
        assert await app.mails.code_for("ada@example.com", count=number + 2) == code
    with pytest.raises(OtpInvalid):
        await app.client.verify_otp(challenge_id=challenge_id, code=code)
    (row,) = await app.sql("SELECT attempts FROM challenges")
    assert row["attempts"] == 5


async def test_a_challenge_that_is_over_is_closed(app: RunningApp) -> None:
    """Consumed, ended by another's success, expired, never made: CHALLENGE_CLOSED, no mail."""
    consumed = (await app.register("ada")).challenge.id
    code = await app.mails.code_for("ada@example.com")
    ended = (await app.client.send_otp(email="ada@example.com")).challenge.id
    expired = (await app.register("late")).challenge.id
    await settled(app)
    await app.client.verify_otp(challenge_id=consumed, code=code)
    mails = len(app.mails.all())
    unknown = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"
    for challenge_id in (consumed, ended, unknown):
        with pytest.raises(ChallengeClosed):
            await app.client.send_otp(challenge_id=challenge_id)
    await app.client.send_otp(challenge_id=expired)
    await app.mails.wait_for("late@example.com", count=2)
    await settled(app)
    await age(app.database_url, timedelta(minutes=5))
    with pytest.raises(ChallengeClosed):
        await app.client.send_otp(challenge_id=expired)
    await settled(app)
    assert len(app.mails.all()) == mails + 1


async def test_a_shadow_is_resent_like_any_other_and_mails_nothing(app: RunningApp) -> None:
    """Who asks again for an address without account sees what the others see."""
    challenge = (await app.client.send_otp(email="nobody@example.com")).challenge
    again = (await app.client.send_otp(challenge_id=challenge.id)).challenge
    assert (again.id, again.expire_time) == (challenge.id, challenge.expire_time)
    assert await mail_states(app, challenge.id) == ["dropped", "dropped"]
    assert app.mails.all() == []


@pytest.mark.parametrize("length", [6, 8, 10])
async def test_the_length_of_codes_is_a_setting(database_url: str, length: int) -> None:
    """`code_length` says it, the mail has it, and a code of it signs in."""
    async with running_app(database_url, OTP__CODE_LENGTH=str(length)) as app:
        challenge = (await app.register()).challenge
        code = await app.mails.code_for("ada@example.com")
        assert len(code) == challenge.code_length == length
        assert (await app.client.verify_otp(challenge_id=challenge.id, code=code)).user.id


async def test_attempts_and_lifetime_are_settings(database_url: str) -> None:
    """OTP__ATTEMPTS_MAX=1 leaves one attempt, OTP__LIFETIME=90s ends after 90 seconds."""
    async with running_app(database_url, OTP__ATTEMPTS_MAX="1", OTP__LIFETIME="90s") as app:
        challenge = (await app.register()).challenge
        assert challenge.expire_time.seconds - challenge.resend_time.seconds == 30
        code = await app.mails.code_for("ada@example.com")
        for tried in (wrong(code), code):
            with pytest.raises(OtpInvalid):
                await app.client.verify_otp(challenge_id=challenge.id, code=tried)
