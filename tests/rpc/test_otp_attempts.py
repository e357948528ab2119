"""How often a code may be tried, and what a code is good for (threats rows 2, 4, 7 and 8).

Every test shares one server; each person has a name of its own.
"""

from datetime import timedelta
from uuid import UUID

import pytest

from tests.rpc.wire import contents, count, mail_states, settled, wrong
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword.crypto import CodeSource
from watchword_client import OtpInvalid, RequestInvalid
from watchword_client import auth_service_pb2 as pb


async def challenged(app: RunningApp, username: str) -> tuple[str, str]:
    """Registers someone; returns the challenge's id and the mailed code."""
    registered = await app.register(username)
    return registered.challenge.id, await app.mails.code_for(f"{username}@example.com")


async def refuse(app: RunningApp, code: str, **target: str) -> None:
    """The code is refused, with the one answer that says nothing more."""
    with pytest.raises(OtpInvalid, match="the code is not valid"):
        await app.client.verify_otp(code=code, **target)


async def attempts(app: RunningApp, challenge_id: str) -> tuple[int, int]:
    """What the two lanes have counted."""
    (row,) = await app.sql(
        "SELECT attempts, attempts_by_email FROM challenges WHERE id = $1", challenge_id
    )
    return row["attempts"], row["attempts_by_email"]


async def forget_failures(app: RunningApp) -> None:
    """Empties the failure budgets, where a test is about the lanes of challenges alone."""
    await app.sql("DELETE FROM subject_budgets")


async def test_five_wrong_codes_by_id_spend_the_challenge(shared_app: RunningApp) -> None:
    """After 5 wrong codes the right one is refused (the guard: `attempts < $5` in the charge)."""
    challenge_id, code = await challenged(shared_app, "five")
    for _ in range(5):
        await refuse(shared_app, wrong(code), challenge_id=challenge_id)
    await refuse(shared_app, code, challenge_id=challenge_id)
    assert await attempts(shared_app, challenge_id) == (5, 0)


async def test_the_fifth_code_may_be_the_right_one(shared_app: RunningApp) -> None:
    """Four wrong ones leave one attempt."""
    challenge_id, code = await challenged(shared_app, "fifth")
    for _ in range(4):
        await refuse(shared_app, wrong(code), challenge_id=challenge_id)
    assert (await shared_app.client.verify_otp(challenge_id=challenge_id, code=code)).session_token


async def test_the_lanes_have_counters_of_their_own(shared_app: RunningApp) -> None:
    """A stranger who knows the address alone spends 3 attempts by e-mail, and the person with the
    challenge's id still signs in (the guard: two columns).
    """
    challenge_id, code = await challenged(shared_app, "lanes")
    for _ in range(3):
        await refuse(shared_app, wrong(code), email="lanes@example.com")
    await refuse(shared_app, code, email="lanes@example.com")
    assert await attempts(shared_app, challenge_id) == (0, 3)
    assert (await shared_app.client.verify_otp(challenge_id=challenge_id, code=code)).session_token


async def test_the_lane_by_id_does_not_spend_the_other(shared_app: RunningApp) -> None:
    """The reverse: 5 by id, and by e-mail the code still works."""
    challenge_id, code = await challenged(shared_app, "reverse")
    for _ in range(5):
        await refuse(shared_app, wrong(code), challenge_id=challenge_id)
    assert (await shared_app.client.verify_otp(email="reverse@example.com", code=code)).user.id


async def test_an_address_is_found_in_any_case(shared_app: RunningApp) -> None:
    """The lane by e-mail goes by the account key."""
    _, code = await challenged(shared_app, "anycase")
    signed_in = await shared_app.client.verify_otp(email="AnyCase@EXAMPLE.com", code=code)
    assert signed_in.user.email == "anycase@example.com"


async def test_by_email_the_newest_three_are_tried(shared_app: RunningApp) -> None:
    """Of four live challenges the oldest is out of the lane's reach; the code of the third works
    and ends the others.
    """
    codes, ids = [], []
    await shared_app.register("several", send_otp=False)
    for number in range(1, 5):
        challenge = (await shared_app.client.send_otp(email="several@example.com")).challenge
        ids.append(challenge.id)
        codes.append(await shared_app.mails.code_for("several@example.com", count=number))
    if codes[0] not in codes[1:]:
        await refuse(shared_app, codes[0], email="several@example.com")
        assert [await attempts(shared_app, id) for id in ids] == [(0, 0), (0, 1), (0, 1), (0, 1)]
        await forget_failures(shared_app)
    await shared_app.client.verify_otp(email="several@example.com", code=codes[1])
    for id, code in zip(ids, codes, strict=True):
        await refuse(shared_app, code, challenge_id=id)


async def test_a_spent_challenge_still_counts_among_the_newest(shared_app: RunningApp) -> None:
    """Spending the newest three does not open the lane to the fourth: a guesser gets no more
    codes compared by making more of them spent.
    """
    await shared_app.register("newest", send_otp=False)
    ids, codes = [], []
    for number in range(1, 5):
        ids.append((await shared_app.client.send_otp(email="newest@example.com")).challenge.id)
        codes.append(await shared_app.mails.code_for("newest@example.com", count=number))
    for _ in range(3):
        await refuse(shared_app, "0000000000"[:6], email="newest@example.com")
        await forget_failures(shared_app)
    await refuse(shared_app, codes[0], email="newest@example.com")
    assert await attempts(shared_app, ids[0]) == (0, 0)


@pytest.mark.parametrize(
    "code", ["1234567", "12345678", "1234567890", "K7PQXK7PQXK7P", "k7pqx-k7pqx-k7p"]
)
async def test_a_code_of_another_form_charges_nothing(shared_app: RunningApp, code: str) -> None:
    """7 to 10 digits and 13 characters are codes, but not of this challenge: OTP_INVALID, and the
    attempts stay (the guard: `code_form = $4` in the charge).
    """
    username = f"form{len(code)}"
    challenge_id, right = await challenged(shared_app, username)
    for _ in range(6):
        await refuse(shared_app, code, challenge_id=challenge_id)
        await refuse(shared_app, code, email=f"{username}@example.com")
    assert await attempts(shared_app, challenge_id) == (0, 0)
    assert (await shared_app.client.verify_otp(challenge_id=challenge_id, code=right)).user.id


@pytest.mark.parametrize("spelling", ["{0}{1}{2} {3}{4}{5}", " {0}-{1}-{2}-{3}-{4}-{5} "])
async def test_a_code_may_be_typed_with_spaces_and_dashes(
    shared_app: RunningApp, spelling: str
) -> None:
    """What a person puts between the digits is ignored."""
    username = f"typed{len(spelling)}"
    challenge_id, code = await challenged(shared_app, username)
    typed = spelling.format(*code)
    assert (await shared_app.client.verify_otp(challenge_id=challenge_id, code=typed)).user.id


async def test_a_code_belongs_to_its_challenge(shared_app: RunningApp) -> None:
    """The code of one challenge is wrong on another of the same person and on another person's;
    the full size is 10^5 pairs.
    """
    id_a, code_a = await challenged(shared_app, "cross-a")
    id_b, code_b = await challenged(shared_app, "cross-b")
    second = (await shared_app.client.send_otp(email="cross-a@example.com")).challenge.id
    code_2 = await shared_app.mails.code_for("cross-a@example.com", count=2)
    if len({code_a, code_b, code_2}) == 3:
        await refuse(shared_app, code_a, challenge_id=id_b)
        await refuse(shared_app, code_a, challenge_id=second)
        await refuse(shared_app, code_2, challenge_id=id_a)
        await refuse(shared_app, code_a, email="cross-b@example.com")


async def test_a_success_ends_the_other_challenges(shared_app: RunningApp) -> None:
    """Codes that were mailed before a success are worth nothing after it."""
    first, code_1 = await challenged(shared_app, "ended")
    second = (await shared_app.client.send_otp(email="ended@example.com")).challenge.id
    code_2 = await shared_app.mails.code_for("ended@example.com", count=2)
    await shared_app.client.verify_otp(challenge_id=second, code=code_2)
    await refuse(shared_app, code_1, challenge_id=first)
    await refuse(shared_app, code_1, email="ended@example.com")
    assert await attempts(shared_app, first) == (0, 0)


async def test_a_code_works_until_its_end_and_no_longer(app: RunningApp) -> None:
    """Just before 5 minutes it verifies, at 5 minutes it does not, charged or not (the guard:
    `expire_time > now()`, the database's clock).
    """
    early, code = await challenged(app, "early")
    late, late_code = await challenged(app, "late")
    await settled(app)
    await age(app.database_url, timedelta(minutes=4, seconds=50))
    await app.client.verify_otp(challenge_id=early, code=code)
    await age(app.database_url, timedelta(seconds=10))
    await refuse(app, late_code, challenge_id=late)
    await refuse(app, late_code, email="late@example.com")
    assert await attempts(app, late) == (0, 0)


async def test_an_unknown_challenge_is_a_wrong_code(shared_app: RunningApp) -> None:
    """What never was answers like what is wrong, and nothing is written."""
    await settled(shared_app)
    before = await contents(shared_app)
    await refuse(shared_app, "123456", challenge_id="01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770")
    await refuse(shared_app, "123456", email="never@example.com")
    assert await contents(shared_app) == before


def masked(challenge: pb.SendOtpResponse) -> tuple[object, ...]:
    """What an answer shows once ids and times are masked; times as spans."""
    c = challenge.challenge
    return (
        c.code_length,
        c.expire_time.ToMicroseconds() - c.resend_time.ToMicroseconds(),
        len(c.id),
        len(challenge.SerializeToString()),
    )


async def test_an_address_without_account_answers_alike(app: RunningApp) -> None:
    """Known, registered, unknown and disabled addresses answer alike; for the latter two there is
    a challenge that signs nobody in, and a mail that was dropped from the start (threats row 11).
    """
    await app.sign_in("known")
    await app.sign_in("off")
    await app.sql("UPDATE users SET state = 'disabled' WHERE username = 'off'")
    await app.register("waiting", send_otp=False)
    await settled(app)
    mails = len(app.mails.all())
    answers = {
        name: await app.client.send_otp(email=f"{name}@example.com")
        for name in ("known", "waiting", "nobody", "off")
    }
    # A timestamp of whole seconds or milliseconds is shorter on the wire.
    shapes = {masked(answer)[:3] for answer in answers.values()}
    assert shapes == {(6, 240_000_000, 36)}
    await settled(app)
    assert len(app.mails.all()) == mails + 2
    for name in ("nobody", "off"):
        challenge_id = answers[name].challenge.id
        (row,) = await app.sql("SELECT * FROM challenges WHERE id = $1", challenge_id)
        assert row["user_id"] is None
        assert row["registration_id"] is None
        assert await mail_states(app, challenge_id) == ["dropped"]
        await refuse(app, "123456", challenge_id=challenge_id)
        await refuse(app, "123456", email=f"{name}@example.com")
        assert await attempts(app, challenge_id) == (1, 1)


async def test_the_lane_by_email_can_be_closed(database_url: str) -> None:
    """OTP__REQUIRE_CHALLENGE_ID: a code by `email` is INVALID_ARGUMENT naming it, nothing is
    charged, and the code signs in by its challenge (threats row 9; ASVS 5.0 6.6.2).
    """
    async with running_app(database_url, OTP__REQUIRE_CHALLENGE_ID="true") as app:
        challenge = (await app.register()).challenge
        code = await app.mails.code_for("ada@example.com")
        with pytest.raises(RequestInvalid) as caught:
            await app.client.verify_otp(email="ada@example.com", code=code)
        assert [violation.field for violation in caught.value.violations] == ["email"]
        assert await attempts(app, challenge.id) == (0, 0)
        assert (await app.client.verify_otp(challenge_id=challenge.id, code=code)).user.id


async def test_a_shadow_signs_nobody_in_even_by_its_right_code(app: RunningApp) -> None:
    """The code of a shadow was never mailed; who derives it all the same gets no session."""
    challenge_id = (await app.client.send_otp(email="nobody@example.com")).challenge.id
    (row,) = await app.sql("SELECT * FROM challenges")
    source = CodeSource(
        row["key_id"], row["purpose"], UUID(challenge_id), row["subject_key"], row["nonce"]
    )
    code = app.keys.derive_code(source, length=6).reveal()
    await refuse(app, code, challenge_id=challenge_id)
    assert await count(app, "sessions") == await count(app, "users") == 0


async def test_a_person_disabled_after_the_mail_is_refused(app: RunningApp) -> None:
    """The right code of someone who was disabled meanwhile is a wrong code."""
    await app.sign_in("ada")
    challenge_id = (await app.client.send_otp(email="ada@example.com")).challenge.id
    code = await app.mails.code_for("ada@example.com", count=2)
    await app.sql("UPDATE users SET state = 'disabled'")
    await refuse(app, code, challenge_id=challenge_id)
    assert await count(app, "sessions") == 1
