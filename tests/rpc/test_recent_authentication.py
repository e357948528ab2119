"""`max_auth_age` of ValidateSession: from the cache, by a read, and by Python."""

from datetime import timedelta

import grpc
import pytest

from tests.rpc.wire import SERVICE, sent, settled, wire_to
from tests.support.running import RunningApp, running_app
from watchword_client import ReauthenticationNeeded, SessionInvalid
from watchword_client import auth_service_pb2 as pb

ENOUGH, TOO_LITTLE = timedelta(minutes=11), timedelta(minutes=9)


async def test_an_old_authentication_is_not_enough(server: RunningApp) -> None:
    """Ten minutes after the sign-in, as often as it is asked; without the field the session lives,
    a refresh does not make it young, and a dead session is SESSION_INVALID.
    """
    token = (await server.sign_in("ada")).session_token
    assert await server.client.validate_session(token, max_auth_age=timedelta(minutes=1))
    await server.sql("UPDATE sessions SET auth_time = now() - interval '10 minutes' RETURNING id")
    token = (await server.client.refresh_session(token)).session_token
    for _ in range(4):
        assert await server.client.validate_session(token)
        assert await server.client.validate_session(token, max_auth_age=ENOUGH)
        for age in (TOO_LITTLE, timedelta(0)):
            with pytest.raises(ReauthenticationNeeded) as caught:
                await server.client.validate_session(token, max_auth_age=age)
            assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    await server.client.revoke(token)
    with pytest.raises(SessionInvalid):
        await server.client.validate_session(token, max_auth_age=TOO_LITTLE)


async def test_a_known_session_costs_no_statement(database_url: str) -> None:
    """Yes and no come from the cache."""
    async with running_app(database_url, GATE__CACHE_MIB="16") as app:
        token = (await app.sign_in("ada")).session_token
        await settled(app)
        statements = 1
        while statements:
            app.statements.clear()
            await app.client.validate_session(token, max_auth_age=ENOUGH)
            with pytest.raises(ReauthenticationNeeded):
                await app.client.validate_session(token, max_auth_age=timedelta(0))
            statements = len(sent(app))


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(-1, 0), (0, -1), (-1, 500), (315_576_000_001, 0), (0, 1_000_000_000), (2**63 - 1, 0)],
)
async def test_what_no_age_is(server: RunningApp, seconds: int, nanos: int) -> None:
    """Below zero, more than 10,000 years, more than a second of nanoseconds: named, by all ways."""
    token = (await server.sign_in("ada")).session_token
    request = pb.ValidateSessionRequest(session_token=token)
    request.max_auth_age.seconds, request.max_auth_age.nanos = seconds, nanos
    async with wire_to(server) as wire:
        answer = await wire.call("ValidateSession", request, service=SERVICE)
    assert (answer.reason, answer.fields) == ("REQUEST_INVALID", ["max_auth_age"])
