"""Users by AdminService: made, found, listed, changed, disabled, deleted, and what ends by it (rows
30 and 42).
"""

import random
import re
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.rpc.test_revoke import live, signed_in_again
from tests.rpc.wire import admin_wire_to, mail_states, settled
from tests.support.running import RunningApp, running_app
from watchword_client import (
    EmailTaken,
    OtpInvalid,
    RequestInvalid,
    SessionInvalid,
    UsernameTaken,
    UserNotFound,
    WatchwordError,
    admin_service_pb2,
)

UNKNOWN = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"
ADA = {"full_name": "Ada Lovelace", "username": "ada", "email": "Ada@example.com"}


@pytest.fixture
async def cached(database_url: str) -> AsyncIterator[RunningApp]:
    """A server that answers checks from its cache."""
    async with running_app(database_url, GATE__CACHE_MIB="16") as app:
        yield app


async def test_who_was_made_signs_in(app: RunningApp) -> None:
    """By a code to the address as it was written; no account is made by that."""
    user = (await app.admin.create_user(**ADA, locale="de")).user
    assert (user.username, user.email, user.locale) == ("ada", "Ada@example.com", "de")
    assert user.state == admin_service_pb2.USER_STATE_ACTIVE
    challenge = (await app.client.send_otp(email="ada@example.com")).challenge
    code = await app.mails.code_for("Ada@example.com")
    signed_in = await app.client.verify_otp(challenge_id=challenge.id, code=code)
    assert (signed_in.user.id, signed_in.first_sign_in) == (user.id, False)
    for target in ({"user_id": user.id}, {"username": "ada"}, {"email": "ADA@example.com"}):
        assert (await app.admin.get_user(**target)).user == user


async def test_names_are_taken_once(app: RunningApp) -> None:
    """An address of an account, a username of one, and one that a registration holds."""
    await app.admin.create_user(**ADA)
    await app.register("eve", send_otp=False)
    for changes, error in (
        ({"username": "countess"}, EmailTaken),
        ({"email": "other@example.com"}, UsernameTaken),
        ({"email": "other@example.com", "username": "eve"}, UsernameTaken),
    ):
        with pytest.raises(error):
            await app.admin.create_user(**{**ADA, **changes})
    assert len((await app.admin.list_users()).users) == 1
    await app.sql("UPDATE identifiers SET hold_expire_us = 0 WHERE hold_expire_us > 0")
    made = await app.admin.create_user(full_name="Eve", username="eve", email="other@example.com")
    assert made.user.username == "eve"


@pytest.mark.parametrize(
    "method",
    [
        "get_user",
        "disable_user",
        "enable_user",
        "delete_user",
        "list_user_sessions",
        "revoke_user_sessions",
    ],
)
async def test_nobody_is_not_found(app: RunningApp, method: str) -> None:
    """By whichever call; nothing is told of it."""
    call = getattr(app.admin, method)
    with pytest.raises(UserNotFound):
        await (call(user_id=UNKNOWN) if method == "get_user" else call(UNKNOWN))
    with pytest.raises(UserNotFound):
        await app.admin.update_user(UNKNOWN, full_name="Nobody", email="new@example.com")
    assert not await app.sql("SELECT 1 FROM audit_events WHERE outcome = 'ok'")
    assert not await app.sql("SELECT 1 FROM outbox")


async def people(app: RunningApp, count: int) -> list[str]:
    """Makes so many users, every third of them disabled; their ids in the order of a listing."""
    ids = []
    for number in range(count):
        user = (
            await app.admin.create_user(
                full_name="Somebody", username=f"user{number}", email=f"{number}@example.com"
            )
        ).user
        ids.append(user.id)
        if number % 3 == 0:
            await app.admin.disable_user(user.id)
    return sorted(ids, key=lambda it: (int(it[-3:], 16), it))


async def listed(app: RunningApp, **asked: object) -> list[str]:
    """The ids of every page."""
    found: list[str] = []
    page_token = ""
    while True:
        page = await app.admin.list_users(page_token=page_token, **asked)  # type: ignore[arg-type]  # a test's own mix
        found += [user.id for user in page.users]
        page_token = page.next_page_token
        if not page_token:
            return found


async def test_pages_of_users_are_the_whole(app: RunningApp) -> None:
    """Each once, in one order, whatever the size of a page; by state and by role as well."""
    ids = await people(app, 13)
    states = {user.id: user.state for user in (await app.admin.list_users(page_size=100)).users}
    await app.admin.create_role("editor")
    held = ids[::2]
    for user_id in held:
        await app.admin.assign_role(user_id, "editor")
    active, disabled = admin_service_pb2.USER_STATE_ACTIVE, admin_service_pb2.USER_STATE_DISABLED
    for size in (1, 4, 13, 100):
        assert await listed(app, page_size=size) == ids
        for state in (active, disabled):
            of_state = [id for id in ids if states[id] == state]
            assert await listed(app, page_size=size, state=state) == of_state
            both = [id for id in held if states[id] == state]
            assert await listed(app, page_size=size, state=state, role="editor") == both
        assert await listed(app, page_size=size, role="editor") == held
    assert await listed(app, role="nobody-has-it") == []
    await app.sql("UPDATE user_roles SET expire_time = now()")
    assert await listed(app, role="editor") == []


async def test_a_page_token_of_users_is_of_its_list(app: RunningApp) -> None:
    """Flipped, of other filters, of another list: REQUEST_INVALID (row 35)."""
    await people(app, 3)
    good = (await app.admin.list_users(page_size=1)).next_page_token
    sessions = (await app.admin.list_audit_events(page_size=1)).next_page_token
    chance = random.Random(35)
    wrong = ["x", good[:-1], good + "A", sessions]
    while len(wrong) < 200:
        at, letter = chance.randrange(len(good)), chance.choice("ABCabc012-_")
        if good[at] != letter:
            wrong.append(good[:at] + letter + good[at + 1 :])
    for page_token in wrong:
        with pytest.raises(RequestInvalid) as caught:
            await app.admin.list_users(page_token=page_token)
        assert [violation.field for violation in caught.value.violations] == ["page_token"]
    for filters in ({"role": "editor"}, {"state": admin_service_pb2.USER_STATE_ACTIVE}):
        with pytest.raises(RequestInvalid):
            await app.admin.list_users(page_token=good, **filters)  # type: ignore[arg-type]  # likewise
    assert (await app.admin.list_users(page_token=good)).users


async def test_an_update_changes_what_the_mask_names(cached: RunningApp) -> None:
    """And nothing else; the very next check shows it, and the session goes on."""
    ada = await cached.sign_in("ada")
    for _ in range(2):
        await cached.client.validate_session(ada.session_token)
    updated = await cached.admin.update_user(ada.user.id, full_name="Countess", locale="de")
    assert (updated.user.full_name, updated.user.locale) == ("Countess", "de")
    assert (updated.user.username, updated.user.email) == ("ada", "ada@example.com")
    assert updated.revoked_count == 0
    checked = await cached.client.validate_session(
        ada.session_token, min_change_token=updated.change_token
    )
    assert checked.user.full_name == "Countess"
    assert (await cached.client.validate_session(ada.session_token)).user == checked.user
    renamed = await cached.admin.update_user(ada.user.id, username="countess")
    assert (await cached.admin.get_user(username="countess")).user == renamed.user
    await cached.admin.create_user(full_name="Eve", username="ada", email="eve@example.com")


async def test_a_mask_is_needed(app: RunningApp) -> None:
    """None, an unknown field, and one that does not change; a wrong value is named only if it
    counts.
    """
    user = (await app.admin.create_user(**ADA)).user
    request = admin_service_pb2.UpdateUserRequest(user_id=user.id, full_name="Countess")
    async with admin_wire_to(app) as wire:
        for paths in ([], ["nothing"], ["full_name", "state"], ["user_id"], ["roles"]):
            request.update_mask.paths[:] = paths
            answer = await wire.call("UpdateUser", request)
            assert (answer.reason, answer.fields) == ("REQUEST_INVALID", ["update_mask"])
        request.update_mask.paths[:] = ["full_name"]
        request.email = "no address"
        assert (await wire.call("UpdateUser", request)).code is grpc.StatusCode.OK
        request.update_mask.paths[:] = ["full_name", "email"]
        assert (await wire.call("UpdateUser", request)).fields == ["email"]
    assert (await app.admin.get_user(user_id=user.id)).user.full_name == "Countess"


async def test_another_address_ends_everything(cached: RunningApp) -> None:
    """Every session and every code to the old one, which is told; the new one signs in."""
    ada = await cached.sign_in("ada")
    other = await signed_in_again(cached, mails=2)
    tokens = [ada.session_token, other.session_token]
    challenge = (await cached.client.send_otp(email="ada@example.com")).challenge
    code = await cached.mails.code_for("ada@example.com", count=3)
    assert await live(cached, tokens) == [True, True]
    updated = await cached.admin.update_user(ada.user.id, email="new@example.com")
    assert (updated.user.email, updated.revoked_count) == ("new@example.com", 2)
    assert await live(cached, tokens) == [False, False]
    with pytest.raises(OtpInvalid):
        await cached.client.verify_otp(challenge_id=challenge.id, code=code)
    notice = (await cached.mails.wait_for("ada@example.com", count=4))[-1]
    assert re.search("changed", str(notice["Subject"]))
    await cached.client.send_otp(email="new@example.com")
    assert await cached.mails.code_for("new@example.com")
    await cached.admin.create_user(full_name="Eve", username="eve", email="eve@example.com")
    with pytest.raises(EmailTaken):
        await cached.admin.update_user(ada.user.id, email="EVE@example.com")
    challenge = (await cached.client.send_otp(email="new@example.com")).challenge
    code = await cached.mails.code_for("new@example.com", count=2)
    same = await cached.admin.update_user(ada.user.id, email="new@example.com")
    assert same.revoked_count == 0
    assert await cached.client.verify_otp(challenge_id=challenge.id, code=code)


async def test_a_disabled_user_is_out_at_once(server: RunningApp) -> None:
    """The very next call on this server; neither a refresh nor a code helps, and what was ended
    stays so when the user is enabled. Again it is OK, and counts 0.
    """
    ada = await server.sign_in("ada")
    for _ in range(2):
        await server.client.validate_session(ada.session_token)
    assert (await server.admin.disable_user(ada.user.id)).revoked_count == 1
    for call in (server.client.validate_session, server.client.refresh_session):
        with pytest.raises(SessionInvalid):
            await call(ada.session_token)
    again = await server.admin.disable_user(ada.user.id)
    assert (again.revoked_count, again.change_token != "") == (0, True)
    shadow = (await server.client.send_otp(email="ada@example.com")).challenge
    await settled(server)
    assert await mail_states(server, shadow.id) == ["dropped"]
    enabled = await server.admin.enable_user(ada.user.id)
    with pytest.raises(SessionInvalid):
        await server.client.validate_session(
            ada.session_token, min_change_token=enabled.change_token
        )
    challenge = (await server.client.send_otp(email="ada@example.com")).challenge
    code = await server.mails.code_for("ada@example.com", count=2)
    assert await server.client.verify_otp(challenge_id=challenge.id, code=code)
    assert (await server.admin.enable_user(ada.user.id)).change_token


async def test_a_deleted_user_leaves_the_names_free(cached: RunningApp) -> None:
    """Sessions and roles are gone, too; a retry is USER_NOT_FOUND."""
    ada = await cached.sign_in("ada")
    await cached.client.validate_session(ada.session_token)
    assert (await cached.admin.delete_user(ada.user.id)).revoked_count == 1
    with pytest.raises(SessionInvalid):
        await cached.client.validate_session(ada.session_token)
    with pytest.raises(UserNotFound):
        await cached.admin.delete_user(ada.user.id)
    made = await cached.admin.create_user(**{**ADA, "email": "ada@example.com"})
    assert made.user.id != ada.user.id


async def test_sessions_of_a_user(cached: RunningApp) -> None:
    """Listed page by page, one ended by its id and by nobody else's, then all."""
    sessions = [await cached.sign_in("ada")]
    sessions += [await signed_in_again(cached, mails=mails) for mails in (2, 3)]
    eve = await cached.sign_in("eve")
    tokens = [session.session_token for session in sessions]
    ids = [session.session.id for session in reversed(sessions)]
    user_id = sessions[0].user.id
    first = await cached.admin.list_user_sessions(user_id, page_size=2)
    second = await cached.admin.list_user_sessions(
        user_id, page_size=2, page_token=first.next_page_token
    )
    found = [*first.sessions, *second.sessions]
    assert [one.session.id for one in found] == ids
    assert second.next_page_token == ""
    with pytest.raises(RequestInvalid):
        await cached.admin.list_user_sessions(eve.user.id, page_token=first.next_page_token)
    nobodys = await cached.admin.revoke_user_sessions(eve.user.id, session_id=ids[0])
    assert nobodys.revoked_count == 0
    assert await live(cached, tokens) == [True, True, True]
    one = await cached.admin.revoke_user_sessions(user_id, session_id=ids[0])
    assert one.revoked_count == 1
    assert await live(cached, tokens) == [True, True, False]
    rest = await cached.admin.revoke_user_sessions(user_id)
    assert rest.revoked_count == 2
    assert await live(cached, [*tokens, eve.session_token]) == [False, False, False, True]


async def test_every_change_has_its_event(app: RunningApp) -> None:
    """By the caller's name, with the user, once each."""
    user_id = (await app.admin.create_user(**ADA)).user.id
    calls = {
        "update_user": app.admin.update_user(user_id, full_name="Countess"),
        "disable_user": app.admin.disable_user(user_id),
        "enable_user": app.admin.enable_user(user_id),
        "revoke_all": app.admin.revoke_user_sessions(user_id),
        "delete_user": app.admin.delete_user(user_id),
    }
    for call in calls.values():
        assert (await call).change_token.startswith("wwc_")
    events = (await app.admin.list_audit_events(user_id=user_id)).events
    assert [event.action for event in events] == [*reversed(calls), "create_user"]
    assert {(event.actor, event.outcome) for event in events} == {("tests", "ok")}


async def test_no_error_tells_what_was_sent(app: RunningApp) -> None:
    """Neither an address nor a name."""
    await app.admin.create_user(**ADA)
    with pytest.raises(WatchwordError) as caught:
        await app.admin.create_user(**ADA)
    assert not re.search("ada", str(caught.value), re.IGNORECASE)
