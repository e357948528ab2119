"""What people notice of the purger: nothing."""

import asyncio
import io
import json
from datetime import timedelta

import pytest

from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword.observability.logging import LogSettings, configure_logging
from watchword_client import ChallengeClosed, OtpInvalid, SessionInvalid

LEFT = """
    SELECT (SELECT count(*) FROM challenges) AS challenges,
           (SELECT count(*) FROM outbox) AS mails,
           (SELECT count(*) FROM registrations) AS registrations,
           (SELECT count(*) FROM identifiers WHERE user_id IS NULL) AS holds,
           (SELECT count(*) FROM sessions) AS sessions
"""


async def left(app: RunningApp) -> dict[str, int]:
    """How many rows of each kind there are."""
    [row] = await app.sql(LEFT)
    return dict(row)


async def purged(app: RunningApp, kind: str, *, to: int) -> dict[str, int]:
    """Waits until so many rows of the kind are left; returns the numbers of all."""
    async with asyncio.timeout(20):
        while (found := await left(app))[kind] != to:
            await asyncio.sleep(0.05)
    return found


async def test_answers_stay_what_they_were(database_url: str) -> None:
    """Live rows stay, dead ones go, and a call that names a purged one is answered as before."""
    log = io.StringIO()
    async with running_app(database_url, PURGE__INTERVAL="1s", SESSION__IDLE_LIFETIME="30d") as app:
        configure_logging(LogSettings(format="json"), stream=log)
        ada = await app.sign_in("ada")
        eve = await app.sign_in("eve")
        dead = (await app.register("dora")).challenge.id
        await app.mails.wait_for("dora@example.com")
        await age(database_url, timedelta(days=2))
        live = (await app.client.send_otp(email="ada@example.com")).challenge.id
        code = await app.mails.code_for("ada@example.com", count=2)
        for kind in ("challenges", "registrations", "holds"):
            found = await purged(app, kind, to=1 if kind == "challenges" else 0)
        assert found == {
            "challenges": 1, "mails": 1, "registrations": 0, "holds": 0, "sessions": 2
        }  # fmt: skip

        with pytest.raises(OtpInvalid):
            await app.client.verify_otp(challenge_id=dead, code="123456")
        with pytest.raises(ChallengeClosed):
            await app.client.send_otp(challenge_id=dead)
        await app.client.verify_otp(challenge_id=live, code=code)
        await app.register("dora", email="another@example.com")

        await app.client.revoke(eve.session_token)
        await age(database_url, timedelta(days=8))
        await purged(app, "sessions", to=2)
        assert (await app.client.revoke(eve.session_token)).revoked_count == 0
        with pytest.raises(SessionInvalid):
            await app.client.validate_session(eve.session_token)
        answer = await app.client.validate_session(ada.session_token)
        assert answer.user.username == "ada"
        # A pass tells at its end.
        async with asyncio.timeout(20):
            while '"sessions":' not in log.getvalue():
                await asyncio.sleep(0.05)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [line for line in lines if line["event"] == "purged"]
    assert sum(line.get("challenges", 0) for line in told) >= 3
    assert sum(line.get("sessions", 0) for line in told) == 1
    assert all(line["seconds"] >= line["longest_batch_seconds"] >= 0 for line in told)
