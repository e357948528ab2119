"""How many statements each RPC sends, on a warm connection, BEGIN and COMMIT not counted.

Round trips are what a sign-in costs: each number here is exact, so that one more is seen. The
limits that must hold are 7 for SendOtp, one of them the failure budget's, 11 for VerifyOtp (2 of
them for budget and audit), 1 for ValidateSession, 3 for Revoke (2 of them for audit and change),
and 0 for a caller's credential and for a token whose tag is wrong (threats row 22).
"""

from collections.abc import Awaitable
from uuid import uuid4

import pytest

from tests.rpc.wire import sent, settled
from tests.support.running import RunningApp
from watchword.callers.model import Scope
from watchword_client import (
    CallerRefused,
    OtpInvalid,
    SessionInvalid,
    UserNotFound,
    WatchwordError,
    resources_pb2,
)

SEND_OTP_MAX = 7
VERIFY_OTP_MAX = 11


async def statements_of(
    app: RunningApp, call: Awaitable[object], *, raises: type[WatchwordError] | None = None
) -> int:
    """Returns how many statements the call sent; the dispatcher's and the probe's do not count."""
    app.statements.clear()
    if raises is None:
        await call
    else:
        with pytest.raises(raises):
            await call
    return len(sent(app))


@pytest.fixture(scope="module")
async def people(shared_app: RunningApp) -> RunningApp:
    """`ada` and `off` have accounts, `off` is disabled, and every connection has been used."""
    await shared_app.sign_in("ada")
    await shared_app.sign_in("off")
    await shared_app.sql("UPDATE users SET state = 'disabled' WHERE username = 'off'")
    await settled(shared_app)
    return shared_app


ADDRESSES = ("ada", "waiting", "nobody", "off")


async def test_send_otp(people: RunningApp) -> None:
    """An account, a registration, nobody and a disabled account: the same 7, in the same order.

    Seen to fail with the look-up of registrations left out for accounts (`wanted`), and with the
    mail of shadows left out.
    """
    await people.register("waiting", send_otp=False)
    of_each = []
    for name in ADDRESSES:
        sending = people.client.send_otp(email=f"{name}@example.com")
        assert await statements_of(people, sending) == SEND_OTP_MAX
        of_each.append(sent(people))
    assert all(statements == of_each[0] for statements in of_each)


async def test_send_otp_again(people: RunningApp) -> None:
    """A resend looks the challenge up and queues a mail, which a shadow has dropped at once."""
    await people.register("waiting", send_otp=False)
    for name in ADDRESSES:
        challenge = (await people.client.send_otp(email=f"{name}@example.com")).challenge
        assert await statements_of(people, people.client.send_otp(challenge_id=challenge.id)) == 2


async def test_a_repeated_request_costs_one_statement(people: RunningApp) -> None:
    """With a request id one look-up comes first, and a repeated one is that look-up alone."""
    request_id = str(uuid4())

    async def send() -> None:
        await people.client.send_otp(email="ada@example.com", request_id=request_id)

    assert await statements_of(people, send()) == 1 + SEND_OTP_MAX
    assert await statements_of(people, send()) == 1


@pytest.mark.parametrize(
    ("username", "send_otp", "expected"),
    [("new-one", False, 3), ("new-two", True, 7)],
)
async def test_register(people: RunningApp, username: str, send_otp: bool, expected: int) -> None:
    """A registration and its hold, and with `send_otp` the budget, a challenge and its mail."""
    assert await statements_of(people, people.register(username, send_otp=send_otp)) == expected


@pytest.mark.parametrize(
    ("lane", "is_new", "expected"),
    [
        ("challenge_id", True, 10),
        ("email", True, 10),
        ("challenge_id", False, 7),
        ("email", False, 7),
    ],
)
async def test_verify_otp(people: RunningApp, lane: str, is_new: bool, expected: int) -> None:
    """A right code for a new and for an existing account, by either lane: at most 11.

    An existing one has its sessions counted.
    """
    username = f"new-{lane.replace('_', '-')}" if is_new else "ada"
    address = f"{username}@example.com"
    before = len([mail for mail in people.mails.all() if mail["To"] == address])
    if is_new:
        challenge = (await people.register(username)).challenge
    else:
        challenge = (await people.client.send_otp(email=address)).challenge
    code = await people.mails.code_for(address, count=before + 1)
    target = {"challenge_id": challenge.id} if lane == "challenge_id" else {"email": address}
    number = await statements_of(people, people.client.verify_otp(code=code, **target))
    assert number == expected <= VERIFY_OTP_MAX


@pytest.mark.parametrize(("lane", "expected"), [("challenge_id", 8), ("email", 7)])
async def test_a_known_device(people: RunningApp, lane: str, expected: int) -> None:
    """By id one more, the look-up of the subject, and not for what cannot be a token; otherwise no
    statement more than without a device.
    """
    name = f"device-{lane.replace('_', '-')}"
    address, token = f"{name}@example.com", (await people.sign_in(name)).device_token
    for sent_token, number, mails in ((token, expected, 2), (token[:-1], 7, 3)):
        end_user = resources_pb2.ClientContext(device_token=sent_token)
        send = people.client.send_otp(email=address, client=end_user)
        assert await statements_of(people, send) == SEND_OTP_MAX
        code = await people.mails.code_for(address, count=mails)
        (row,) = await people.sql(
            "SELECT id::text FROM challenges ORDER BY create_time DESC LIMIT 1"
        )
        target = {"challenge_id": row[0]} if lane == "challenge_id" else {"email": address}
        verify = people.client.verify_otp(code=code, client=end_user, **target)
        assert await statements_of(people, verify) == number <= VERIFY_OTP_MAX


async def test_a_code_of_no_challenge_costs_one_statement(people: RunningApp) -> None:
    """The charge, and nothing after it where nothing was compared."""
    challenge = (await people.client.send_otp(email="ada@example.com")).challenge
    for target in (
        {"challenge_id": challenge.id},
        {"email": "ada@example.com"},
        {"email": "nobody@example.com"},
        {"challenge_id": "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"},
    ):
        call = people.client.verify_otp(code="0000000000", **target)
        assert await statements_of(people, call, raises=OtpInvalid) == 1


async def test_a_wrong_code_costs_two_statements(people: RunningApp) -> None:
    """The charge, and the count of the installation, once for all that were compared; a wrong long
    code is looked up and not counted.
    """
    challenge = (await people.client.send_otp(email="nobody@example.com")).challenge
    for target in ({"challenge_id": challenge.id}, {"email": "nobody@example.com"}):
        call = people.client.verify_otp(code="000000", **target)
        assert await statements_of(people, call, raises=OtpInvalid) == 2
    await people.sql("UPDATE challenges SET code_form = 13 WHERE id = $1", challenge.id)
    call = people.client.verify_otp(code="0" * 13, challenge_id=challenge.id)
    assert await statements_of(people, call, raises=OtpInvalid) == 1


async def test_a_session_costs_one_statement_at_each_check(people: RunningApp) -> None:
    """ValidateSession, GetRoles by token, Revoke: 1, live or dead; a revoke's event and change 1
    more each.
    """
    client = people.client
    token = (await people.sign_in("checked")).session_token
    assert await statements_of(people, client.validate_session(token)) == 1
    assert await statements_of(people, client.get_roles(session_token=token)) == 1
    assert await statements_of(people, client.revoke(token)) == 3
    assert await statements_of(people, client.revoke(token)) == 1
    dead = client.validate_session(token)
    assert await statements_of(people, dead, raises=SessionInvalid) == 1


async def test_get_roles_by_user(people: RunningApp) -> None:
    """The user and its grants: 2, and 1 for nobody."""
    user_id = (await people.sign_in("granted")).user.id
    client = people.client
    assert await statements_of(people, client.get_roles(user_id=user_id)) == 2
    nobody = client.get_roles(user_id="01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770")
    assert await statements_of(people, nobody, raises=UserNotFound) == 1


async def test_a_forged_token_costs_no_statement(people: RunningApp) -> None:
    """A wrong tag is refused before the database (the guard: parse_session_token at the head of
    `live_session` and `revoke`): a flood of invented tokens is no load on it.
    """
    token = (await people.sign_in("forged")).session_token
    client = people.client
    for at in (4, 30, 60, len(token) - 2):
        forged = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        refused = client.validate_session(forged)
        assert await statements_of(people, refused, raises=SessionInvalid) == 0
        refused = client.get_roles(session_token=forged)
        assert await statements_of(people, refused, raises=SessionInvalid) == 0
        assert await statements_of(people, client.revoke(forged)) == 0


async def test_a_caller_costs_no_statement(people: RunningApp) -> None:
    """A caller is known or refused without the database: the count of a call is that of its use
    case alone, and a refused one sends nothing.
    """
    async with people.client_with(Scope.WATCH) as client:
        refused = client.validate_session("ww_x")
        assert await statements_of(people, refused, raises=CallerRefused) == 0
