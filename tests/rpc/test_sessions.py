"""When a session is live, and who may end it (threats rows 21, 22, 30 and 42)."""

from datetime import timedelta

import pytest

from tests.rpc.wire import contents, count, settled
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword_client import RequestInvalid, SessionInvalid, UserNotFound
from watchword_client import auth_service_pb2 as pb

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


async def is_live(app: RunningApp, token: str) -> bool:
    """Asks by both RPCs that take a token; they have to agree."""
    answers = []
    for call in (app.client.validate_session(token), app.client.get_roles(session_token=token)):
        try:
            await call
        except SessionInvalid:
            answers.append(False)
        else:
            answers.append(True)
    assert len(set(answers)) == 1
    return answers[0]


async def test_a_session_says_whose_it_is(app: RunningApp) -> None:
    """ValidateSession answers session, user and the database's time; the token is in neither."""
    signed_in = await app.sign_in()
    live = await app.client.validate_session(signed_in.session_token)
    assert live.session == signed_in.session
    assert live.user == signed_in.user
    assert live.session.user_id == live.user.id
    assert live.session.create_time == live.session.auth_time
    assert live.session.expire_time.seconds - live.session.create_time.seconds == 30 * 86_400
    assert live.session.create_time.ToDatetime() <= live.as_of_time.ToDatetime()
    assert signed_in.session_token not in str(live)


async def test_a_session_ends_at_its_lifetime(database_url: str) -> None:
    """Live at 30 days less a minute, dead at 30 days; nothing moves the end, no use either."""
    async with running_app(database_url, SESSION__IDLE_LIFETIME="60d") as app:
        token = (await app.sign_in()).session_token
        await settled(app)
        await age(app.database_url, timedelta(days=30) - timedelta(minutes=1))
        assert await is_live(app, token)
        await age(app.database_url, timedelta(minutes=1))
        assert not await is_live(app, token)
        assert (await app.client.revoke(token)).revoked_count == 0


async def test_the_lifetime_is_a_setting(database_url: str) -> None:
    """SESSION__LIFETIME=1h."""
    async with running_app(database_url, SESSION__LIFETIME="1h") as app:
        session = (await app.sign_in()).session
        assert session.expire_time.seconds - session.create_time.seconds == 3_600


async def test_a_session_below_the_epoch_is_dead(app: RunningApp) -> None:
    """Raising `auth_epoch` ends every session from before; a new one lives (the guard:
    `s.epoch >= u.auth_epoch`).
    """
    token = (await app.sign_in()).session_token
    await app.sql("UPDATE users SET auth_epoch = auth_epoch + 1")
    assert not await is_live(app, token)
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com", count=2)
    again = await app.client.verify_otp(challenge_id=challenge.id, code=code)
    assert await is_live(app, again.session_token)
    assert not await is_live(app, token)


async def test_a_disabled_person_has_no_session(app: RunningApp) -> None:
    """At the next check, and by id neither (the guard: `u.state = 'active'`)."""
    signed_in = await app.sign_in()
    await app.sql("UPDATE users SET state = 'disabled'")
    assert not await is_live(app, signed_in.session_token)
    with pytest.raises(UserNotFound):
        await app.client.get_roles(user_id=signed_in.user.id)


async def test_revoke_ends_one_session_once(app: RunningApp) -> None:
    """1, then 0; the person's other session and other people's live on."""
    first = (await app.sign_in("ada")).session_token
    other = (await app.sign_in("eve")).session_token
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com", count=2)
    second = (await app.client.verify_otp(challenge_id=challenge.id, code=code)).session_token
    assert first != second
    assert (await app.client.revoke(first)).revoked_count == 1
    for _ in range(2):
        assert (await app.client.revoke(first)).revoked_count == 0
    assert not await is_live(app, first)
    assert await is_live(app, second)
    assert await is_live(app, other)


async def test_what_is_no_token_is_revoked_without_complaint(app: RunningApp) -> None:
    """Unknown, garbled and foreign texts: OK with 0 (RFC 7009, 2.2), and nothing is written."""
    token = (await app.sign_in()).session_token
    await settled(app)
    before = await contents(app)
    for dead in (
        app.keys.mint_session(7).token.reveal(),
        token[:-1],
        token + "A",
        token.swapcase(),
        "garbage",
        "ww_",
        " " + token,
        "é" * 128,
        "x" * 256,
    ):
        assert (await app.client.revoke(dead)).revoked_count == 0
        assert not await is_live(app, dead)
    assert await contents(app) == before
    assert await is_live(app, token)


@pytest.mark.parametrize("token", ["", "x" * 257, "é" * 129])
async def test_what_cannot_be_a_token_is_an_invalid_request(app: RunningApp, token: str) -> None:
    """Absent, empty and over 256 bytes: INVALID_ARGUMENT by every RPC that takes a token."""
    for call in (
        app.client.validate_session(token),
        app.client.revoke(token),
        app.client.get_roles(session_token=token),
    ):
        with pytest.raises(RequestInvalid):
            await call


async def test_no_mutant_of_a_token_is_live(app: RunningApp) -> None:
    """Every character of a live token replaced, cut and doubled, and other prefixes: 0 accepted and
    0 statements; many more are in test_made_up_tokens.py. The tag and the canonical form (Zitadel
    CVE-2026-27840: a truncated token was accepted).
    """
    token = (await app.sign_in()).session_token
    mutants = {token[:at] for at in range(1, len(token), 6)}
    for at in range(len(token)):
        letter = ALPHABET[(ALPHABET.find(token[at]) + 1) % len(ALPHABET)]
        mutants.add(token[:at] + letter + token[at + 1 :])
    mutants |= {
        token + "=",
        token + token,
        token[3:],
        "wwk_" + token[3:],
        token.upper(),
        "\t" + token,
    }
    mutants.discard("")
    app.statements.clear()
    for mutant in sorted(mutants):
        with pytest.raises(SessionInvalid):
            await app.client.validate_session(mutant)
    assert not [text for text in app.statements.seen if "sessions" in text]
    assert (await app.client.validate_session(token)).user.username == "ada"


async def test_a_right_tag_with_another_secret_is_refused(app: RunningApp) -> None:
    """A token minted by the same keys for a stored session's id is not that session: the verifier
    decides, and ends nothing either (the guards: verifier_matches, `verifier = $3`).
    """
    token = (await app.sign_in()).session_token
    await app.sql("UPDATE sessions SET verifier = sha256(verifier)")
    assert not await is_live(app, token)
    assert (await app.client.revoke(token)).revoked_count == 0
    assert not await app.sql("SELECT 1 FROM sessions WHERE revoke_time IS NOT NULL")


async def test_a_client_cannot_choose_its_token(app: RunningApp) -> None:
    """Session fixation: no request that begins a session has a field for a token, a token from
    before stays dead, and each sign-in mints another.
    """
    fields = {field.name for field in pb.VerifyOtpRequest.DESCRIPTOR.fields}
    assert fields == {"challenge_id", "email", "code", "client"}
    planted = app.keys.mint_session(1).token.reveal()
    assert not await is_live(app, planted)
    signed_in = await app.sign_in()
    assert signed_in.session_token != planted
    assert not await is_live(app, planted)


async def test_a_session_keeps_what_the_caller_said_of_the_client(app: RunningApp) -> None:
    """Absent fields stay absent; metadata is never read for them (threats row 15)."""
    await app.sign_in()
    (row,) = await app.sql("SELECT client_ip, client_user_agent, client_device_name FROM sessions")
    assert tuple(row) == (None, None, None)
    assert await count(app, "sessions") == 1
