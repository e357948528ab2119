"""BatchValidateSessions without a cache: one statement for all tokens, one result for each."""

import pytest

from tests.rpc.wire import sent
from tests.support.running import RunningApp
from watchword.callers.model import Scope
from watchword_client import AsyncClient, CallerRefused, RequestInvalid
from watchword_client import auth_service_pb2 as pb

REFUSED = pb.SessionResult(error_reason="ERROR_REASON_SESSION_INVALID")


async def statements_of_a_batch(app: RunningApp, tokens: list[str]) -> int:
    """How many statements it costs."""
    app.statements.clear()
    await app.client.batch_validate_sessions(tokens)
    return len(sent(app))


async def test_each_token_has_its_result(app: RunningApp) -> None:
    """Live, revoked, of a disabled user, forged, and somebody else's token of that id, in one
    statement, each as ValidateSession answers it.

    Seen to fail without the comparison of verifiers in `Turn::take`.
    """
    live, revoked, disabled = [await app.sign_in(name) for name in ("ada", "eve", "off")]
    single = await app.client.validate_session(live.session_token)
    await app.client.revoke(revoked.session_token)
    await app.sql("UPDATE users SET state = 'disabled' WHERE username = 'off'")
    unknown = app.keys.mint_session(7).token.reveal()
    tokens = [
        live.session_token,
        revoked.session_token,
        disabled.session_token,
        live.session_token[:-1],
        unknown,
        "no token",
        live.session_token,
    ]
    assert await statements_of_a_batch(app, tokens) == 1
    batch = await app.client.batch_validate_sessions(tokens)
    good = pb.SessionResult(session=single.session, user=single.user)
    assert list(batch.results) == [good, *[REFUSED] * 5, good]
    assert batch.as_of_time.ToDatetime() >= single.as_of_time.ToDatetime()


async def test_another_secret_of_a_known_session_is_refused(app: RunningApp) -> None:
    """A token whose tag is right and whose secret is not the session's.

    Seen to fail without the comparison of verifiers in `Turn::take`.
    """
    live = await app.sign_in("ada")
    await app.sql("UPDATE sessions SET verifier = decode(repeat('00', 32), 'hex')")
    batch = await app.client.batch_validate_sessions([live.session_token])
    assert list(batch.results) == [REFUSED]
    assert batch.HasField("as_of_time")


async def test_tokens_that_were_not_minted_here_cost_no_statement(app: RunningApp) -> None:
    """A whole batch of inventions is refused by tags alone."""
    app.statements.clear()
    batch = await app.client.batch_validate_sessions([f"invented {n}" for n in range(256)])
    assert sent(app) == []
    assert list(batch.results) == [REFUSED] * 256
    assert not batch.HasField("as_of_time")


async def test_a_full_batch_is_answered(app: RunningApp) -> None:
    """256 times the same token: one look-up, 256 results."""
    token = (await app.sign_in("ada")).session_token
    assert await statements_of_a_batch(app, [token] * 256) == 1
    batch = await app.client.batch_validate_sessions([token] * 256)
    assert len(batch.results) == 256
    assert all(result == batch.results[0] for result in batch.results)


async def test_what_no_batch_may_hold(app: RunningApp) -> None:
    """Nothing, too many, empty and endless tokens: the list or the member is named, the database
    is not asked.
    """
    app.statements.clear()
    for tokens, named in (
        ([], ["session_tokens"]),
        (["t"] * 257, ["session_tokens"]),
        (["t", "", "x" * 257], ["session_tokens[1]", "session_tokens[2]"]),
    ):
        with pytest.raises(RequestInvalid) as refused:
            await app.client.batch_validate_sessions(tokens)
        assert [violation.field for violation in refused.value.violations] == named
    with pytest.raises(RequestInvalid) as refused:
        await app.client.batch_validate_sessions([""] * 256)
    assert len(refused.value.violations) == 20
    assert sent(app) == []


async def test_a_batch_needs_the_scope(app: RunningApp) -> None:
    """A caller that may sign people in may not ask whose sessions there are."""
    key = app.service_key(Scope.LOGIN)
    async with AsyncClient(app.app.api_address, service_key=key) as client:
        with pytest.raises(CallerRefused):
            await client.batch_validate_sessions(["t"])
