"""What Revoke answers as `change_token`, and what ValidateSession takes as `min_change_token`."""

from uuid import UUID

import pytest

from tests.rpc.wire import sent
from tests.support.running import RunningApp
from watchword.crypto import KeyRing, KnownChange, KnownKind, random_key
from watchword_client import RequestInvalid, SessionInvalid


async def test_the_token_of_a_revoke_names_the_user_and_its_version(app: RunningApp) -> None:
    """Each revoke of a person's sessions a version higher; nothing to end: no token."""
    signed_in = await app.sign_in()
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("ada@example.com", count=2)
    second = await app.client.verify_otp(challenge_id=challenge.id, code=code)
    user_id = UUID(signed_in.user.id)
    for version, token in enumerate((signed_in.session_token, second.session_token), 1):
        revoked = await app.client.revoke(token)
        known = app.keys.parse_change_token(revoked.change_token)
        assert known == [KnownChange(KnownKind.USER, user_id, epoch=0, version=version)]
        (row,) = await app.sql("SELECT version FROM users WHERE id = $1", user_id)
        assert row["version"] == version
        again = await app.client.revoke(token)
        assert (again.revoked_count, again.change_token) == (0, "")
    forged = app.keys.mint_session(0).token.reveal()
    assert (await app.client.revoke(forged)).change_token == ""


async def test_an_answer_is_at_least_as_new_as_the_token(app: RunningApp) -> None:
    """The revoked session is refused with the token of its end, another one is answered."""
    ended, other = await app.sign_in("ada"), await app.sign_in("eve")
    change_token = (await app.client.revoke(ended.session_token)).change_token
    with pytest.raises(SessionInvalid):
        await app.client.validate_session(ended.session_token, min_change_token=change_token)
    live = await app.client.validate_session(other.session_token, min_change_token=change_token)
    assert live.user == other.user


async def test_what_is_no_change_token_is_an_invalid_request(app: RunningApp) -> None:
    """Forged, of another installation, garbled or too long: the field is named, the text is not
    repeated, and the database is not asked.

    Seen to fail without the check of the tag.
    """
    token = (await app.sign_in()).session_token
    change = KnownChange(KnownKind.USER, UUID(int=7), 0, 1)
    right = app.keys.mint_change_token([change])
    elsewhere = KeyRing([(1, random_key())], random_key()).mint_change_token([change])
    assert (await app.client.validate_session(token, min_change_token=right)).user.id
    for wrong in (
        elsewhere,
        right[:-1],
        right + "A",
        right.swapcase(),
        "invented",
        "x" * 257,
        "é" * 129,
    ):
        app.statements.clear()
        with pytest.raises(RequestInvalid) as refused:
            await app.client.validate_session(token, min_change_token=wrong)
        assert [violation.field for violation in refused.value.violations] == ["min_change_token"]
        assert wrong not in str(refused.value)
        assert sent(app) == []
