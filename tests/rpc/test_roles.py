"""What a person may do, as each check answers it."""

from uuid import UUID

import pytest

from tests.support.running import RunningApp
from watchword.audit.model import CLI
from watchword.errors import RoleNotFound
from watchword.login.role_admin import assign_role, create_role, unassign_role
from watchword_client import SessionInvalid, UserNotFound

UNKNOWN = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"


async def id_of(app: RunningApp, username: str) -> UUID:
    """The id of a user who is there."""
    found = await app.app.database.run_tx(lambda tx: tx.users.find_by_username(username))
    assert found is not None
    return found


async def assign(app: RunningApp, username: str, role: str, *permissions: str) -> None:
    """Makes a role and gives it to someone, as the command line does."""
    user_id = await id_of(app, username)
    await create_role(app.app.database, role, permissions, actor=CLI)
    assert (await assign_role(app.app.database, role, user_id, actor=CLI)).done


async def test_roles_appear_at_the_next_check(app: RunningApp) -> None:
    """A role that is given shows in the very next answer of every RPC, sorted, each permission
    once, and goes as soon as it is taken.
    """
    signed_in = await app.sign_in()
    assert (await app.client.get_roles(user_id=signed_in.user.id)).roles == []
    await assign(app, "ada", "writer", "doc:write", "doc:read")
    await assign(app, "ada", "auditor", "doc:read", "log:read")
    expected = (["auditor", "writer"], ["doc:read", "doc:write", "log:read"])
    by_id = await app.client.get_roles(user_id=signed_in.user.id)
    by_token = await app.client.get_roles(session_token=signed_in.session_token)
    user = (await app.client.validate_session(signed_in.session_token)).user
    for answer in (by_id, by_token, user):
        assert (answer.roles, answer.permissions) == expected
    user_id = await id_of(app, "ada")
    assert (await unassign_role(app.app.database, "writer", user_id, actor=CLI)).done
    by_id = await app.client.get_roles(user_id=signed_in.user.id)
    by_token = await app.client.get_roles(session_token=signed_in.session_token)
    user = (await app.client.validate_session(signed_in.session_token)).user
    for answer in (by_id, by_token, user):
        assert (answer.roles, answer.permissions) == (["auditor"], ["doc:read", "log:read"])


async def test_taking_a_role_away_says_what_was(app: RunningApp) -> None:
    """Not held, unknown, and one that outlived its role, which can still be taken away."""
    await app.sign_in()
    await create_role(app.app.database, "reader", ["doc:read"], actor=CLI)
    user_id = await id_of(app, "ada")

    async def unassign(role: str) -> bool | None:
        try:
            return (await unassign_role(app.app.database, role, user_id, actor=CLI)).done
        except RoleNotFound:
            return None

    assert await unassign("reader") is False
    assert await unassign("nothing") is None
    await assign_role(app.app.database, "reader", user_id, actor=CLI)
    await app.sql("DELETE FROM roles WHERE name = 'reader'")
    assert await unassign("reader") is True
    assert await unassign("reader") is None


async def test_a_sign_in_answers_the_roles(app: RunningApp) -> None:
    """VerifyOtp's user has them, so that a caller need not ask again."""
    await app.sign_in()
    await assign(app, "ada", "reader", "doc:read")
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com", count=2)
    user = (await app.client.verify_otp(challenge_id=challenge.id, code=code)).user
    assert (user.roles, user.permissions) == (["reader"], ["doc:read"])


async def test_roles_are_ones_own(app: RunningApp) -> None:
    """Nobody sees or gets another person's roles."""
    await app.sign_in("ada")
    eve = await app.sign_in("eve")
    await assign(app, "ada", "owner", "everything")
    assert (await app.client.get_roles(user_id=eve.user.id)).roles == []
    assert (await app.client.get_roles(session_token=eve.session_token)).permissions == []


async def test_who_is_not_there_has_no_roles(app: RunningApp) -> None:
    """An unknown id, a registration's promised id, a disabled person: NOT_FOUND alike."""
    promised = (await app.register("late")).user_id
    off = (await app.sign_in("off")).user.id
    await app.sql("UPDATE users SET state = 'disabled' WHERE username = 'off'")
    messages = set()
    for user_id in (UNKNOWN, UNKNOWN.upper(), promised, off):
        with pytest.raises(UserNotFound) as caught:
            await app.client.get_roles(user_id=user_id)
        messages.add(str(caught.value))
    assert len(messages) == 1


async def test_a_dead_session_has_no_roles(app: RunningApp) -> None:
    """By token a dead session is SESSION_INVALID, never an empty list."""
    signed_in = await app.sign_in()
    await assign(app, "ada", "reader", "doc:read")
    await app.client.revoke(signed_in.session_token)
    with pytest.raises(SessionInvalid):
        await app.client.get_roles(session_token=signed_in.session_token)
    assert (await app.client.get_roles(user_id=signed_in.user.id.upper())).roles == ["reader"]
