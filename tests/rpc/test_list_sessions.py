"""ListSessions: whose, which, how many, and what a page token is worth (rows 35 and 42)."""

import random

import pytest

from tests.rpc.test_revoke import signed_in_again
from tests.rpc.wire import Wire, wire_to
from tests.support.running import RunningApp, running_app
from watchword_client import RequestInvalid, SessionInvalid, resources_pb2
from watchword_client import auth_service_pb2 as pb

SESSIONS = 7


@pytest.fixture
async def several(app: RunningApp) -> tuple[RunningApp, list[str]]:
    """Ada has seven sessions, the oldest first."""
    first = await app.sign_in("ada")
    others = [await signed_in_again(app, mails=mails) for mails in range(2, SESSIONS + 1)]
    return app, [signed_in.session_token for signed_in in (first, *others)]


async def test_the_newest_come_first(several: tuple[RunningApp, list[str]]) -> None:
    """Every live session with its times and device, and which of them asks."""
    app, tokens = several
    client = resources_pb2.ClientContext(ip="192.0.2.9", user_agent="curl", device_name="phone")
    present = (await app.client.refresh_session(tokens[2], client=client)).session_token
    await app.client.revoke(tokens[0])
    answer = await app.client.list_sessions(present)
    assert answer.next_page_token == ""
    sessions = [(await app.client.validate_session(token)).session for token in tokens[:0:-1]]
    assert [listed.session for listed in answer.sessions] == sessions
    (mine,) = [listed for listed in answer.sessions if listed.current]
    assert mine.session == sessions[SESSIONS - 3]
    assert (mine.client_ip, mine.client_user_agent) == ("192.0.2.9", "curl")
    assert mine.client_device_name == "phone"
    assert mine.last_seen_time.seconds >= mine.session.create_time.seconds > 0
    assert answer.sessions[0].client_ip == ""


@pytest.mark.parametrize("size", [1, 3, SESSIONS, 100, 1_000])
async def test_pages_are_the_whole(several: tuple[RunningApp, list[str]], size: int) -> None:
    """Page after page each session comes once, and no page is longer than asked."""
    app, tokens = several
    whole = [one.session.id for one in (await app.client.list_sessions(tokens[0])).sessions]
    found, page_token = [], ""
    while True:
        page = await app.client.list_sessions(tokens[0], page_size=size, page_token=page_token)
        assert len(page.sessions) <= size
        found += [one.session.id for one in page.sessions]
        page_token = page.next_page_token
        if not page_token:
            break
        assert len(page.sessions) == size
    assert found == whole
    assert len(whole) == SESSIONS


async def test_a_page_token_is_of_its_list(several: tuple[RunningApp, list[str]]) -> None:
    """Flipped anywhere, cut, of another person's list, another kind of token: REQUEST_INVALID.

    1,000 of them. Seen to fail with the tag not looked at.
    """
    app, tokens = several
    page = await app.client.list_sessions(tokens[0], page_size=2)
    eve = (await app.sign_in("eve")).session_token
    good, chance = page.next_page_token, random.Random(35)
    wrong = ["x", "wwp_", good[:-1], good + "A", good.upper(), page.sessions[0].session.id]
    while len(wrong) < 1_000:
        at, letter = chance.randrange(len(good)), chance.choice("ABCabc012-_")
        if good[at] != letter:
            wrong.append(good[:at] + letter + good[at + 1 :])
    for page_token in wrong:
        with pytest.raises(RequestInvalid) as caught:
            await app.client.list_sessions(tokens[0], page_token=page_token)
        assert [violation.field for violation in caught.value.violations] == ["page_token"]
    with pytest.raises(RequestInvalid):
        await app.client.list_sessions(eve, page_token=good)
    assert await app.client.list_sessions(tokens[0], page_token=good)


async def test_nobody_sees_anothers(several: tuple[RunningApp, list[str]]) -> None:
    """A dead token, one that was not minted here and an old one see nothing."""
    app, tokens = several
    eve = await app.sign_in("eve")
    listed = await app.client.list_sessions(eve.session_token)
    assert [one.session.id for one in listed.sessions] == [eve.session.id]
    await app.client.revoke(tokens[0])
    refreshed = tokens[1]
    for _ in range(2):
        refreshed = (await app.client.refresh_session(refreshed)).session_token
    for token in (tokens[0], tokens[1], "none", app.keys.mint_session(1).token.reveal()):
        with pytest.raises(SessionInvalid):
            await app.client.list_sessions(token)
    assert len((await app.client.list_sessions(refreshed)).sessions) == SESSIONS - 1


async def test_what_no_size_is(database_url: str) -> None:
    """Below zero is named."""
    async with running_app(database_url) as app, wire_to(app) as wire:
        assert isinstance(wire, Wire)
        request = pb.ListSessionsRequest(session_token="t", page_size=-1)
        answer = await wire.call("ListSessions", request)
        assert (answer.reason, answer.fields) == ("REQUEST_INVALID", ["page_size"])
