"""Revoke of other sessions than the token's own, and whose sessions nobody ends (row 42)."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tests.rpc.wire import Wire, wire_to
from tests.support.running import RunningApp, running_app
from watchword.audit.model import CLI
from watchword.login.user_admin import revoke_session_of
from watchword_client import SessionInvalid
from watchword_client import auth_service_pb2 as pb

# What others may hear of a session that was ended (docs/validation.md).
SEEN_SECONDS = 1.0
OTHERS, ALL = pb.REVOKE_SCOPE_OTHERS, pb.REVOKE_SCOPE_ALL


@pytest.fixture
async def cached(database_url: str) -> AsyncIterator[RunningApp]:
    """A server that answers checks from its cache."""
    async with running_app(database_url, GATE__CACHE_MIB="16") as app:
        yield app


@pytest.fixture
async def wire(cached: RunningApp) -> AsyncIterator[Wire]:
    """A channel to it."""
    async with wire_to(cached) as wire:
        yield wire


async def signed_in_again(app: RunningApp, *, mails: int) -> pb.VerifyOtpResponse:
    """Another session of Ada's, to whom so many mails have gone by then."""
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com", count=mails)
    return await app.client.verify_otp(challenge_id=challenge.id, code=code)


async def live(app: RunningApp, tokens: list[str]) -> list[bool]:
    """Which of the tokens are those of live sessions; the next call to this server knows."""
    answer = await app.client.batch_validate_sessions(tokens)
    return [result.HasField("session") for result in answer.results]


async def three_sessions(app: RunningApp) -> list[pb.VerifyOtpResponse]:
    """Three of Ada's; all of them are known to the cache."""
    sessions = [await app.sign_in("ada")]
    sessions += [await signed_in_again(app, mails=mails) for mails in (2, 3)]
    tokens = [session.session_token for session in sessions]
    for _ in range(2):
        await live(app, tokens)
        await asyncio.sleep(0.1)
    return sessions


@pytest.mark.parametrize("scope", [None, pb.REVOKE_SCOPE_UNSPECIFIED, pb.REVOKE_SCOPE_THIS])
async def test_this_one_is_the_default(cached: RunningApp, scope: pb.RevokeScope | None) -> None:
    """Without a target, and with either word for it."""
    tokens = [session.session_token for session in await three_sessions(cached)]
    revoked = await cached.client.revoke(tokens[1], scope=scope)
    assert revoked.revoked_count == 1
    assert await live(cached, tokens) == [True, False, True]


async def test_the_others_end_at_once(cached: RunningApp) -> None:
    """All but the token's own; its next check knows with the change token, and a second time there
    is nothing to end. The audit has one event of two sessions.
    """
    tokens = [session.session_token for session in await three_sessions(cached)]
    revoked = await cached.client.revoke(tokens[1], scope=OTHERS)
    assert revoked.revoked_count == 2
    assert await live(cached, tokens) == [False, True, False]
    await cached.client.validate_session(tokens[1], min_change_token=revoked.change_token)
    again = await cached.client.revoke(tokens[1], scope=OTHERS)
    assert (again.revoked_count, again.change_token) == (0, "")
    events = await cached.sql("SELECT action, count FROM audit_events ORDER BY at DESC LIMIT 1")
    assert [tuple(event) for event in events] == [("revoke_others", 2)]


async def test_all_end_at_once(cached: RunningApp) -> None:
    """The token's own as well; who signs in afterwards is signed in."""
    tokens = [session.session_token for session in await three_sessions(cached)]
    assert (await cached.client.revoke(tokens[1], scope=ALL)).revoked_count == 3
    assert await live(cached, tokens) == [False] * 3
    assert (await cached.client.revoke(tokens[0], scope=ALL)).revoked_count == 0
    new = (await signed_in_again(cached, mails=4)).session_token
    assert await live(cached, [new]) == [True]
    with pytest.raises(SessionInvalid):
        await cached.client.refresh_session(tokens[0])


async def test_what_all_has_ended_is_not_ended_again(cached: RunningApp) -> None:
    """A dead token counts 0, by itself, by its id and by the operator, and leaves no event.

    Seen to fail without the epoch in REVOKE and REVOKE_BY_ID.
    """
    sessions = await three_sessions(cached)
    await cached.client.revoke(sessions[0].session_token, scope=ALL)
    new = await signed_in_again(cached, mails=4)
    before = await cached.sql("SELECT id FROM audit_events")
    by_token = await cached.client.revoke(sessions[0].session_token)
    by_id = await cached.client.revoke(new.session_token, session_id=sessions[1].session.id)
    assert (by_token.revoked_count, by_token.change_token) == (0, "")
    assert (by_id.revoked_count, by_id.change_token) == (0, "")
    user_id, session_id = UUID(new.user.id), UUID(sessions[2].session.id)
    ended = await revoke_session_of(cached.app.database, user_id, session_id, actor=CLI)
    assert not ended.done
    assert len(await cached.sql("SELECT id FROM audit_events")) == len(before)
    assert await live(cached, [new.session_token]) == [True]


async def test_one_by_its_id(cached: RunningApp) -> None:
    """That one alone, once; the token's own as well."""
    sessions = await three_sessions(cached)
    tokens = [session.session_token for session in sessions]
    for count in (1, 0):
        revoked = await cached.client.revoke(tokens[0], session_id=sessions[2].session.id)
        assert revoked.revoked_count == count
        assert await live(cached, tokens) == [True, True, False]
    assert (
        await cached.client.revoke(tokens[0], session_id=sessions[0].session.id)
    ).revoked_count == 1
    assert await live(cached, tokens) == [False, True, False]


async def test_nobody_ends_anothers_session(cached: RunningApp) -> None:
    """By no target and no token: another person's id, an id that never was, a token that is dead.

    People of one slot are in tests/storage/test_session_limit.py.
    """
    sessions = await three_sessions(cached)
    tokens = [session.session_token for session in sessions]
    eve = await cached.sign_in("eve")
    never = sessions[0].session.id[:9] + "0000" + sessions[0].session.id[13:]
    for session_id in (sessions[0].session.id, never):
        revoked = await cached.client.revoke(eve.session_token, session_id=session_id)
        assert (revoked.revoked_count, revoked.change_token) == (0, "")
    for scope in (OTHERS, ALL):
        await cached.client.revoke(eve.session_token, scope=scope)
        assert await live(cached, tokens) == [True] * 3
    dead = tokens.pop()
    await cached.client.revoke(dead)
    for target in ({"scope": OTHERS}, {"scope": ALL}, {"session_id": sessions[0].session.id}):
        assert (await cached.client.revoke(dead, **target)).revoked_count == 0
        assert (await cached.client.revoke("none", **target)).revoked_count == 0
    assert await live(cached, tokens) == [True] * 2


async def test_what_no_target_is(wire: Wire) -> None:
    """A scope of a newer program, and an id that is no UUID, end nothing and are named."""
    request = pb.RevokeRequest(session_token="t")
    request.scope = 9  # type: ignore[assignment]  # of a newer contract
    answer = await wire.call("Revoke", request)
    assert (answer.reason, answer.fields) == ("REQUEST_INVALID", ["scope"])
    answer = await wire.call("Revoke", pb.RevokeRequest(session_token="t", session_id="x"))
    assert (answer.reason, answer.fields) == ("REQUEST_INVALID", ["session_id"])


async def test_a_sign_in_ends_the_oldest(database_url: str) -> None:
    """With two sessions at most the third sign-in ends the first one, at once, and says so in the
    audit. Seen to fail with `end_oldest` left out.
    """
    settings = {"GATE__CACHE_MIB": "16", "SESSION__MAX_PER_USER": "2"}
    async with running_app(database_url, **settings) as app:
        sessions = await three_sessions(app)
        tokens = [session.session_token for session in sessions]
        assert await live(app, tokens) == [False, True, True]
        events = await app.sql(
            "SELECT action, count FROM audit_events WHERE action <> 'sign_in' ORDER BY at"
        )
        assert [tuple(event) for event in events] == [
            ("first_sign_in", 1),
            ("end_oldest_sessions", 1),
        ]
