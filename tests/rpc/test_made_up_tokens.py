"""Tokens that Watchword has not minted, or not for this sign-in: none is taken (threats rows 21 and
22). The token by itself is in tests/unit/crypto/test_crypto_tokens.py and rust_core/core.
"""

import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

import pytest

from tests.races.bursts import FULL
from tests.rpc.wire import Wire, sent, settled, wire_to
from tests.support.running import RunningApp
from tests.unit.crypto.test_crypto_tokens import mutants
from watchword.crypto import slot_of
from watchword.storage.rotations import RotationStore
from watchword_client import SessionInvalid
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

MUTANTS = 1_000_000 if FULL else 10_000
A_CALL = 256
SOME = 100
CHALLENGE = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"
TAKERS: dict[str, Callable[[RunningApp, str], Awaitable[object]]] = {
    "ValidateSession": lambda app, token: app.client.validate_session(token),
    "GetRoles": lambda app, token: app.client.get_roles(session_token=token),
    "RefreshSession": lambda app, token: app.client.refresh_session(token),
    "ListSessions": lambda app, token: app.client.list_sessions(token),
    "StartEmailChange": lambda app, token: app.client.start_email_change(
        token, new_email="new@example.com"
    ),
    "ConfirmEmailChange": lambda app, token: app.client.confirm_email_change(
        token, challenge_id=CHALLENGE, code="123456"
    ),
}


def batches(tokens: Iterator[str]) -> Iterator[list[str]]:
    """As many as one call takes."""
    while batch := list(itertools.islice(tokens, A_CALL)):
        yield batch


async def is_live(app: RunningApp, token: str) -> bool:
    """What a check says of a token."""
    answer = await app.client.batch_validate_sessions([token])
    return answer.results[0].HasField("session")


async def test_no_mutant_of_a_live_token_is_accepted(server: RunningApp) -> None:
    """Every single-bit, single-symbol, case, padding and length mutant of live tokens: 0 accepted,
    0 statements. 10,000 mutants, in full 1,000,000, each way that checks are answered.

    Seen to fail with blanks and padding cut off before a token is read (crypto.py).
    """
    token, seen = (await server.sign_in("ada")).session_token, 0
    await settled(server)
    while seen < MUTANTS:
        token = (await server.client.refresh_session(token)).session_token
        assert await is_live(server, token)
        server.statements.clear()
        for batch in batches(each for each in dict.fromkeys(mutants(token)) if each):
            answer = await server.client.batch_validate_sessions(batch)
            assert not [result for result in answer.results if result.HasField("session")]
            seen += len(batch)
        # What follows the first use of a new token comes at a time of its own.
        own = [text for text in sent(server) if text != RotationStore.END_PREVIOUS.strip()]
        assert [text for text in own if "sessions" in text] == []
        assert await is_live(server, token)


@pytest.mark.parametrize("taker", TAKERS)
async def test_nobody_takes_a_mutant(shared_app: RunningApp, taker: str) -> None:
    """Each RPC that a token opens refuses 100 mutants of a live one, without a statement."""
    token = (await shared_app.sign_in(f"ada-{taker.lower()}")).session_token
    await settled(shared_app)
    chosen = random.Random(22).sample([each for each in mutants(token) if each], SOME)
    shared_app.statements.clear()
    for mutant in chosen:
        with pytest.raises(SessionInvalid):
            await TAKERS[taker](shared_app, mutant)
        assert (await shared_app.client.revoke(mutant)).revoked_count == 0
    assert sent(shared_app) == []
    assert (await shared_app.client.validate_session(token)).HasField("session")


def planted_in(request: pb.VerifyOtpRequest, token: str) -> bytes:
    """The request with the token in every field that a newer contract could have for it."""
    value = bytes((len(token),)) + token.encode()
    known = set(request.DESCRIPTOR.fields_by_number)
    fields = (number for number in range(1, 64) if number not in known)
    tags = (bytes((n << 3 | 2,)) if n < 16 else bytes((n << 3 & 127 | 130, n >> 4)) for n in fields)
    return request.SerializeToString() + b"".join(tag + value for tag in tags)


@pytest.mark.parametrize("kind", ["another's, live", "another's, dead", "minted, of no session"])
async def test_no_sign_in_takes_a_token_over(app: RunningApp, kind: str) -> None:
    """Fixation: whoever signs in gets a token of their own, of a new session, whatever token their
    client brought along, in fields and in metadata; and that token is what it was.

    Seen to fail with one token for all sessions of a slot.
    """
    mallory = await app.sign_in("mallory")
    registered = await app.register("ada")
    planted = mallory.session_token
    if "dead" in kind:
        await app.client.revoke(planted)
    elif "minted" in kind:
        planted = app.keys.mint_session(slot_of(UUID(registered.user_id))).token.reveal()
    request = pb.VerifyOtpRequest(
        challenge_id=registered.challenge.id, code=await app.mails.code_for("ada@example.com")
    )
    async with wire_to(app) as wire:
        answer = await wire.call(
            "VerifyOtp", planted_in(request, planted), metadata=brought(wire, planted)
        )
    signed_in = pb.VerifyOtpResponse.FromString(answer.body)
    assert signed_in.session_token not in ("", planted)
    assert signed_in.session.id != mallory.session.id
    if "live" in kind:
        assert (await app.client.validate_session(planted)).user == mallory.user
        await app.client.revoke(planted)
    else:
        with pytest.raises(SessionInvalid):
            await app.client.refresh_session(planted)
    assert (await app.client.validate_session(signed_in.session_token)).user == signed_in.user
    assert len(await app.sql("SELECT id FROM sessions")) == 2


def brought(wire: Wire, token: str) -> list[tuple[str, str]]:
    """The metadata of a caller that passes on what a client has sent."""
    names = ("cookie", "x-session-token", "session_token", "x-authorization", "set-cookie")
    return [("authorization", f"Bearer {wire.key}"), *((name, token) for name in names)]
