"""Who gets a username and whose an account becomes (threats rows 42 and 43)."""

from datetime import timedelta

import pytest

from tests.rpc.wire import count, mail_states, settled
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword_client import EmailTaken, OtpInvalid, RequestInvalid, UsernameTaken
from watchword_client import auth_service_pb2 as pb

VICTIM = {"full_name": "Vera Victim", "username": "vera", "email": "vera@example.com"}
ATTACKER = {"full_name": "Mallory", "username": "mallory", "email": "vera@example.com"}


async def verify(
    app: RunningApp, challenge_id: str, address: str, *, mails: int = 1
) -> pb.VerifyOtpResponse:
    """Signs in with the code of the latest mail to the address."""
    code = await app.mails.code_for(address, count=mails)
    return await app.client.verify_otp(challenge_id=challenge_id, code=code)


async def test_the_promised_id_is_the_id_that_comes(app: RunningApp) -> None:
    """`user_id` of Register is the account's, and nothing exists before the code is verified."""
    registered = await app.register()
    assert await count(app, "users") == 0
    signed_in = await verify(app, registered.challenge.id, "ada@example.com")
    assert signed_in.user.id == registered.user_id
    assert signed_in.first_sign_in
    assert (signed_in.user.roles, signed_in.user.permissions) == ([], [])


async def test_register_mails_nothing_unless_asked(app: RunningApp) -> None:
    """Without `send_otp` there is no challenge and no mail; SendOtp binds the registration."""
    registered = await app.register(send_otp=False)
    assert not registered.HasField("challenge")
    assert await count(app, "challenges") == await count(app, "outbox") == 0
    (row,) = await app.sql("SELECT create_time FROM registrations")
    begun = row["create_time"].replace(tzinfo=None)
    assert registered.expire_time.ToDatetime() - begun == timedelta(hours=1)
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    signed_in = await verify(app, challenge.id, "ada@example.com")
    assert signed_in.user.id == registered.user_id


async def test_a_held_username_is_taken(app: RunningApp) -> None:
    """Another address cannot register a username that a live registration holds, in any case, and
    nothing of the refused registration stays (the guard: the WHERE of HOLD_USERNAME).
    """
    await app.register("ada")
    for username in ("ada", "ADA"):
        with pytest.raises(UsernameTaken):
            await app.register(username, email="eve@example.com")
    assert await count(app, "registrations") == 1
    await settled(app)
    assert {mail["To"] for mail in app.mails.all()} == {"ada@example.com"}


async def test_an_owned_username_is_taken_for_good(app: RunningApp) -> None:
    """An account's username is taken by no one, an hour later neither, not even by its owner."""
    await app.sign_in("ada")
    await settled(app)
    await age(app.database_url, timedelta(hours=2))
    for email in ("eve@example.com", "ada@example.com"):
        with pytest.raises(UsernameTaken):
            await app.register("ada", email=email)


async def test_registering_again_takes_over_ones_own_hold(app: RunningApp) -> None:
    """A retry by the same address is safe; what is bound is the newest."""
    await app.register("ada", full_name="Ada Lovelcae")
    await app.mails.wait_for("ada@example.com")
    again = await app.register("ada", full_name="Ada Lovelace")
    signed_in = await verify(app, again.challenge.id, "ada@example.com", mails=2)
    assert signed_in.user.full_name == "Ada Lovelace"
    assert signed_in.user.id == again.user_id


async def test_a_hold_ends_after_an_hour(app: RunningApp) -> None:
    """At 59 minutes the username is held, at 60 it is anybody's, and the first registration makes
    no account any more.
    """
    await app.register("ada", send_otp=False)
    await age(app.database_url, timedelta(minutes=59))
    with pytest.raises(UsernameTaken):
        await app.register("ada", email="eve@example.com")
    await age(app.database_url, timedelta(minutes=1))
    taken = await app.register("ada", email="eve@example.com")
    late = (await app.client.send_otp(email="ada@example.com")).challenge.id
    assert await mail_states(app, late) == ["dropped"]
    signed_in = await verify(app, taken.challenge.id, "eve@example.com")
    assert signed_in.user.username == "ada"


async def test_a_challenge_keeps_its_registration_alive(app: RunningApp) -> None:
    """A code that was sent in the last minute of the hour still makes the account (the guard: the
    binding moves the ends of registration and hold to the challenge's).
    """
    await app.register("ada", send_otp=False)
    await age(app.database_url, timedelta(minutes=59))
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com")
    await settled(app)
    await age(app.database_url, timedelta(minutes=3))
    with pytest.raises(UsernameTaken):
        await app.register("ada", email="eve@example.com")
    signed_in = await app.client.verify_otp(challenge_id=challenge.id, code=code)
    assert signed_in.user.username == "ada"


async def test_an_attacker_who_registers_first_gets_nothing(app: RunningApp) -> None:
    """Pre-hijack, before: the attacker's registration of the victim's address is older; the account
    is what the victim registered, and the victim is told that it is new.
    """
    await app.client.register(**ATTACKER)
    registered = await app.client.register(**VICTIM, send_otp=True)
    signed_in = await verify(app, registered.challenge.id, "vera@example.com")
    assert signed_in.user.username == "vera"
    assert signed_in.user.full_name == "Vera Victim"
    assert signed_in.first_sign_in
    assert await count(app, "sessions") == 1


@pytest.mark.parametrize("send_otp", [False, True])
async def test_an_attacker_who_registers_after_changes_nothing(
    app: RunningApp, send_otp: bool
) -> None:
    """Pre-hijack, after: the victim's challenge is bound to the victim's registration, whatever is
    registered before its code is verified (the guard: registration_id in the challenge).
    """
    registered = await app.client.register(**VICTIM, send_otp=True)
    code = await app.mails.code_for("vera@example.com")
    await app.client.register(**ATTACKER, send_otp=send_otp)
    await app.client.register(**{**ATTACKER, "username": "vera"}, send_otp=send_otp)
    signed_in = await app.client.verify_otp(challenge_id=registered.challenge.id, code=code)
    assert signed_in.user.id == registered.user_id
    assert signed_in.user.username == "vera"
    assert signed_in.user.full_name == "Vera Victim"


async def test_a_send_otp_of_the_victim_stays_bound(app: RunningApp) -> None:
    """The same by SendOtp: bound when the code was sent, not when it is verified."""
    registered = await app.client.register(**VICTIM)
    challenge = (await app.client.send_otp(email="vera@example.com")).challenge
    code = await app.mails.code_for("vera@example.com")
    await app.client.register(**ATTACKER)
    signed_in = await app.client.verify_otp(challenge_id=challenge.id, code=code)
    assert signed_in.user.id == registered.user_id


async def test_registering_an_existing_account_signs_in_to_it(app: RunningApp) -> None:
    """Register with the address of an account answers like any other; its code signs in to the
    account, whose name stays, and there is no second user (threats row 42).
    """
    first = await app.sign_in("ada")
    registered = await app.client.register(
        full_name="Someone Else", username="other", email="ada@example.com", send_otp=True
    )
    assert registered.user_id != first.user.id
    signed_in = await verify(app, registered.challenge.id, "ada@example.com", mails=2)
    assert signed_in.user.id == first.user.id
    assert signed_in.user.username == "ada"
    assert signed_in.user.full_name == "Ada Lovelace"
    assert not signed_in.first_sign_in
    assert await count(app, "users") == 1


async def test_mail_goes_to_the_stored_spelling_alone(app: RunningApp) -> None:
    """An address that differs from an account's in case alone is the account's; the mail goes to
    the account's own spelling, by SendOtp and by Register: another mail server might give the other
    spelling to somebody else (threats row 14; the guard: ProvesFor(user_id=...) in `register`).
    """
    await app.sign_in("ada")
    await app.client.send_otp(email="ADA@example.com")
    await app.client.register(
        full_name="Eve", username="eve", email="Ada@EXAMPLE.com", send_otp=True
    )
    await app.mails.wait_for("ada@example.com", count=3)
    await settled(app)
    assert {mail["To"] for mail in app.mails.all()} == {"ada@example.com"}


async def test_a_registration_from_before_the_account_in_another_case_gets_no_session(
    app: RunningApp,
) -> None:
    """Two spellings register, one becomes the account: the other's challenge is over, by id and by
    e-mail, and resending it is refused.
    """
    other = await app.client.register(
        full_name="Eve", username="eve", email="VERA@example.com", send_otp=True
    )
    code = await app.mails.code_for("VERA@example.com")
    registered = await app.client.register(**VICTIM, send_otp=True)
    await verify(app, registered.challenge.id, "vera@example.com")
    with pytest.raises(OtpInvalid):
        await app.client.verify_otp(challenge_id=other.challenge.id, code=code)
    with pytest.raises(OtpInvalid):
        await app.client.verify_otp(email="VERA@example.com", code=code)
    assert await count(app, "sessions") == 1


async def test_a_disabled_account_gets_no_mail_by_any_door(app: RunningApp) -> None:
    """Register with `send_otp` and SendOtp: a challenge is answered, nothing is mailed."""
    await app.sign_in("ada")
    await app.sql("UPDATE users SET state = 'disabled'")
    await settled(app)
    registered = await app.register("other", email="ada@example.com")
    assert registered.challenge.id
    await app.client.send_otp(email="ada@example.com")
    await app.client.send_otp(challenge_id=registered.challenge.id)
    await settled(app)
    assert await mail_states(app, registered.challenge.id) == ["dropped", "dropped"]
    assert len(app.mails.all()) == 1


async def test_a_taken_address_is_told_only_where_that_is_set(database_url: str) -> None:
    """LOGIN__DISCLOSE_TAKEN_EMAIL answers EMAIL_TAKEN for an account and writes nothing; an address
    that is merely registered is not taken.
    """
    async with running_app(database_url, LOGIN__DISCLOSE_TAKEN_EMAIL="true") as app:
        await app.register("waiting")
        await app.register("waiting-too", email="waiting@example.com")
        await app.sign_in("ada")
        registrations = await count(app, "registrations")
        with pytest.raises(EmailTaken):
            await app.register("other", email="ADA@example.com")
        assert await count(app, "registrations") == registrations
        assert not await app.sql("SELECT 1 FROM identifiers WHERE value = 'other'")


async def test_addresses_that_differ_are_different_people(app: RunningApp) -> None:
    """Tags and dots belong to the address as far as accounts go: no variant is merged."""
    variants = ["a.d.a@gmail.com", "ada@gmail.com", "ada+x@gmail.com", "ada@googlemail.com"]
    ids = set()
    for number, email in enumerate(variants):
        registered = await app.register(f"ada{number}", email=email)
        ids.add((await verify(app, registered.challenge.id, email)).user.id)
    assert len(ids) == len(variants)


async def test_nobody_registers_their_own_id_or_role(app: RunningApp) -> None:
    """The request has no field for them; unknown fields that pretend to be some are ignored."""
    assert {field.name for field in pb.RegisterRequest.DESCRIPTOR.fields} == {
        "full_name",
        "username",
        "email",
        "locale",
        "send_otp",
        "client",
    }
    with pytest.raises(RequestInvalid):
        await app.client.register(full_name="", username="", email="")
