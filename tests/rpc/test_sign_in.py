"""The main job over a real server: register, code by mail, session, sign-out."""

import pytest

from tests.support.running import RunningApp
from watchword_client import OtpInvalid, SessionInvalid


async def test_a_registered_person_signs_in_and_out(app: RunningApp) -> None:
    """Register, verify, validate, revoke: each answers what the person would expect."""
    registered = await app.register()
    code = await app.mails.code_for("ada@example.com")
    signed_in = await app.client.verify_otp(challenge_id=registered.challenge.id, code=code)
    assert signed_in.first_sign_in
    assert signed_in.user.id == registered.user_id
    live = await app.client.validate_session(signed_in.session_token)
    assert live.session.id == signed_in.session.id
    assert live.user.username == "ada"
    assert (await app.client.revoke(signed_in.session_token)).revoked_count == 1
    assert (await app.client.revoke(signed_in.session_token)).revoked_count == 0
    with pytest.raises(SessionInvalid):
        await app.client.validate_session(signed_in.session_token)


async def test_a_code_works_once(app: RunningApp) -> None:
    """The second use of a right code is refused like a wrong one."""
    registered = await app.register()
    code = await app.mails.code_for("ada@example.com")
    await app.client.verify_otp(challenge_id=registered.challenge.id, code=code)
    with pytest.raises(OtpInvalid):
        await app.client.verify_otp(challenge_id=registered.challenge.id, code=code)
