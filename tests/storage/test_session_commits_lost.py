"""The connection is lost in the COMMIT of a refresh or a revoke, or a statement of it fails: OK is
answered for what was committed and for nothing else, and asking again is safe (row 29).
"""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from tests.storage.test_commit_lost import ADA, COMMIT, World, _asked_for, world
from tests.support.cutting_proxy import Cut
from watchword.errors import SessionInvalid, StorageUnavailable, WatchwordError
from watchword.login.email_change import (
    ConfirmEmailChangeCommand,
    StartEmailChangeCommand,
    confirm_email_change,
    start_email_change,
)
from watchword.login.refresh import refresh_session
from watchword.login.revoke import RevokeScope, revoke
from watchword.login.send_otp import send_otp
from watchword.login.sessions import live_session
from watchword.login.verify_otp import VerifyOtpCommand, verify_otp
from watchword.sessions.model import Client
from watchword.users.model import EmailAddress

__all__ = ["world"]

FORBID = "ALTER TABLE {} ADD CONSTRAINT forbidden CHECK (false) NOT VALID"
ALLOW = "ALTER TABLE {} DROP CONSTRAINT forbidden"


async def signed_in(world: World) -> str:
    """The token of Ada's session."""
    registered = await world.registered()
    assert registered.challenge is not None
    return (await world.sign_in(registered.challenge.id)).token.reveal()


async def signed_in_again(world: World) -> str:
    """The token of another one."""
    challenge = (await send_otp(world.ctx, _asked_for(ADA))).id
    code = await world.code_of(challenge)
    command = VerifyOtpCommand(target=challenge, code=code, client=Client())
    return (await verify_otp(world.ctx, command)).token.reveal()


async def is_live(world: World, token: str) -> bool:
    """What the look-up says of a token."""
    try:
        await live_session(world.ctx, token)
    except SessionInvalid:
        return False
    return True


async def refreshed(world: World, token: str) -> str:
    """RefreshSession."""
    return (await refresh_session(world.ctx, token, client=Client())).token.reveal()


async def test_a_refresh_answers_what_was_committed(world: World) -> None:
    """The token of the answer is the one that is stored, and is given again.

    Seen to fail with no look-up of what was committed.
    """
    token = await signed_in(world)
    world.proxy.arm(COMMIT, Cut.AFTER)
    following = await refreshed(world, token)
    assert world.proxy.has_cut
    assert await is_live(world, following)
    assert await refreshed(world, token) == following


async def test_a_refresh_changes_nothing_without_its_commit(world: World) -> None:
    """UNAVAILABLE; the old token is as good as before, and is refreshed then."""
    token = await signed_in(world)
    world.proxy.arm(COMMIT, Cut.BEFORE)
    with pytest.raises(StorageUnavailable):
        await refreshed(world, token)
    assert world.proxy.has_cut
    assert await is_live(world, token)
    assert await is_live(world, await refreshed(world, token))


@pytest.mark.parametrize("cut", Cut)
async def test_a_theft_is_no_ok(world: World, cut: Cut) -> None:
    """An old token, and the connection lost when its session is ended: never a token; the session
    is dead if that was committed, and is ended by the next try otherwise.
    """
    old = await signed_in(world)
    present = await refreshed(world, await refreshed(world, old))
    world.proxy.arm(COMMIT, cut)
    with pytest.raises(WatchwordError) as caught:
        await refreshed(world, old)
    assert world.proxy.has_cut
    if isinstance(caught.value, SessionInvalid):
        assert not await is_live(world, present)
    with pytest.raises(SessionInvalid):
        await refreshed(world, old)
    assert not await is_live(world, present)


Act = Callable[[World, str], Awaitable[object]]

ACTS: dict[str, Act] = {
    scope.value: lambda world, token, scope=scope: revoke(  # type: ignore[misc]  # a default
        world.ctx, token, target=scope, caller="tests"
    )
    for scope in RevokeScope
}


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("cut", Cut)
async def test_a_revoke_is_true(world: World, name: str, cut: Cut) -> None:
    """OK means ended, whatever the scope; UNAVAILABLE that it was not, and asking again ends it."""
    token, other = await signed_in(world), await signed_in_again(world)
    ended = {"this": [token], "others": [other], "all": [token, other]}[name]
    world.proxy.arm(COMMIT, cut)
    try:
        await ACTS[name](world, token)
    except StorageUnavailable:
        assert all([await is_live(world, one) for one in ended])
        await ACTS[name](world, token)
    assert world.proxy.has_cut
    assert not any([await is_live(world, one) for one in ended])
    assert await is_live(world, token) is (token not in ended)


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("step", ["start", "confirm"])
async def test_a_change_of_address_is_true(world: World, step: str, cut: Cut) -> None:
    """OK means that it was done; UNAVAILABLE that it was not, and the code is as good as before.

    Seen to fail with no look-up of what was committed.
    """
    token = await signed_in(world)
    new_email = EmailAddress("new@example.com", "new@example.com")

    async def start() -> UUID:
        command = StartEmailChangeCommand(
            session_token=token, new_email=new_email, locale=None, client=Client()
        )
        return (await start_email_change(world.ctx, command)).id

    async def confirm(challenge_id: UUID) -> str:
        command = ConfirmEmailChangeCommand(
            session_token=token,
            challenge_id=challenge_id,
            code=await world.code_of(challenge_id),
            client=Client(),
        )
        return (await confirm_email_change(world.ctx, command)).user.email

    challenge_id = None if step == "start" else await start()
    world.proxy.arm(COMMIT, cut)
    if cut is Cut.AFTER:
        challenge_id = challenge_id or await start()
        if step == "confirm":
            assert await confirm(challenge_id) == new_email.address
    else:
        with pytest.raises(StorageUnavailable):
            await (start() if challenge_id is None else confirm(challenge_id))
    assert world.proxy.has_cut
    done = step == "confirm" and cut is Cut.AFTER
    stored = await world.sql.fetchval("SELECT email FROM users")
    assert stored == (new_email.address if done else ADA.address)
    if not done:
        assert await confirm(challenge_id or await start()) == new_email.address
    notices = "SELECT count(*) FROM outbox WHERE kind = 'email_changed'"
    assert await world.sql.fetchval(notices) == 1


@pytest.mark.parametrize("table", ["sessions", "audit_events", "changes"])
@pytest.mark.parametrize("name", [*ACTS, "refresh"])
async def test_a_failing_statement_is_no_ok(world: World, name: str, table: str) -> None:
    """A row that one of its tables does not take: an error, and nothing was done; afterwards it is.

    Where a table is not written there is nothing to fail.
    """
    token, other = await signed_in(world), await signed_in_again(world)
    acts: dict[str, Act] = {**ACTS, "refresh": refreshed}
    before = await world.sql.fetch("SELECT id, verifier, revoke_time FROM sessions ORDER BY id")
    await world.sql.execute(FORBID.format(table))
    untouched = (name, table) in {("refresh", "audit_events"), ("all", "sessions")}
    try:
        if untouched:
            await acts[name](world, token)
            return
        with pytest.raises(Exception, match="forbidden"):
            await acts[name](world, token)
    finally:
        await world.sql.execute(ALLOW.format(table))
    after = await world.sql.fetch("SELECT id, verifier, revoke_time FROM sessions ORDER BY id")
    assert after == before
    assert await is_live(world, token)
    assert await is_live(world, other)
    await acts[name](world, token)
