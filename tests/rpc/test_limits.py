"""Send and call limits, as a caller meets them: which call is refused, and what it is told."""

import ipaddress
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta

import pytest

from tests.rpc.wire import contents, sent, settled, wire_to, wrong
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword.callers.model import Scope
from watchword.crypto import parse_code
from watchword.sessions.model import Client
from watchword_client import ChallengeClosed, OtpInvalid, RateLimited
from watchword_client import auth_service_pb2 as service_pb
from watchword_client import resources_pb2 as pb

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
pytestmark = pytest.mark.timeout(900 if FULL else 120)

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
# No limit but the one that a test is about.
NO_MAILBOX = {"MAILBOX_MINUTE": "off", "MAILBOX_HOUR": "off", "MAILBOX_DAY": "off"}
NO_CLIENT = {"CLIENT_SENDS": "off", "CLIENT_NETWORK_SENDS": "off", "CALLER_SENDS": "off"}
ADDRESSES = 10_000 if FULL else 200


def on(**limits: str) -> dict[str, str]:
    """Settings with limits on, these over the defaults."""
    return {"LIMITS__ENABLED": "true"} | {f"LIMITS__{name}": it for name, it in limits.items()}


@pytest.fixture
async def limited(database_url: str) -> AsyncIterator[RunningApp]:
    """A server with the limits that it has by default."""
    async with running_app(database_url, **on()) as app:
        yield app


def at(ip: str) -> pb.ClientContext:
    """An end user there."""
    return pb.ClientContext(ip=ip)


async def refusal(app: RunningApp, **target: object) -> RateLimited:
    """SendOtp, which is refused."""
    with pytest.raises(RateLimited) as raised:
        await app.client.send_otp(**target)  # type: ignore[arg-type]  # a test's own mix
    return raised.value


async def test_a_mailbox_gets_one_mail_a_minute_five_an_hour_ten_a_day(
    limited: RunningApp,
) -> None:
    """Whoever asks, from 40 clients in turn (threats row 17)."""
    await limited.register("ada", send_otp=False)
    minutes: list[int] = []
    for minute in range(0, 26 * 60, 7):
        try:
            await limited.client.send_otp(
                email="ada@example.com", client=at(f"192.0.2.{minute % 40}")
            )
            minutes.append(minute)
        except RateLimited as error:
            assert error.metadata == {"limit": "mailbox"}
        await _drain(limited, 7 * MINUTE)
    assert all(b - a >= 60 for a, b in zip(minutes, minutes[5:], strict=False))
    assert all(b - a >= 24 * 60 for a, b in zip(minutes, minutes[10:], strict=False))
    assert len([minute for minute in minutes if minute < 60]) == 5


async def _drain(app: RunningApp, by: timedelta) -> None:
    """As if the time had gone by for the limits; the first gate, which has its own, forgets."""
    app.app.limits._gate._ends.clear()
    await app.sql(
        "UPDATE rate_limits"
        " SET tat1_us = tat1_us - $1, tat2_us = tat2_us - $1, tat3_us = tat3_us - $1",
        by // timedelta(microseconds=1),
    )


@pytest.mark.parametrize("asker", ["registered", "known", "disabled", "unknown"])
async def test_every_address_is_refused_at_the_same_call(limited: RunningApp, asker: str) -> None:
    """Account, registration, disabled account or nobody: the second within a minute.

    The refusal is the same too, and costs the same statements (threats row 13). Seen to fail with
    the units taken after the look-up, for addresses that somebody is at.
    """
    if asker in {"known", "disabled"}:
        await limited.sign_in("ada")
    elif asker == "registered":
        await limited.register("ada", send_otp=False)
    if asker == "disabled":
        await limited.sql("UPDATE users SET state = 'disabled'")
    await settled(limited)
    await age(limited.database_url, timedelta(days=2))
    limited.app.limits._gate._ends.clear()
    if asker == "registered":
        await limited.register("ada", send_otp=False)
    await limited.client.send_otp(email="ada@example.com", client=at("192.0.2.1"))
    await settled(limited)
    limited.statements.clear()
    error = await refusal(limited, email="ada@example.com", client=at("192.0.2.1"))
    assert (error.reason, error.metadata) == ("RATE_LIMITED", {"limit": "mailbox"})
    assert error.retry_after is not None
    assert 55 * SECOND <= error.retry_after <= 66 * SECOND
    assert [text.split()[0] for text in sent(limited)] == ["INSERT", "SELECT"]
    # Refused again by this process alone.
    limited.statements.clear()
    await refusal(limited, email="ada@example.com", client=at("192.0.2.1"))
    assert sent(limited) == []


async def test_a_refused_call_does_nothing(limited: RunningApp) -> None:
    """No challenge, no registration, no mail, and no unit of any other bucket.

    Seen to fail with COMMIT sent however many keys had room.
    """
    await limited.register("ada", client=at("192.0.2.1"))
    await settled(limited)
    before = await contents(limited)
    limited.app.limits._gate._ends.clear()
    await refusal(limited, email="ada@example.com", client=at("192.0.2.2"))
    limited.app.limits._gate._ends.clear()
    with pytest.raises(RateLimited):
        await limited.register("grace", email="ada+2@example.com", client=at("192.0.2.3"))
    assert await contents(limited) == before


async def test_another_form_of_an_address_is_the_same_mailbox(limited: RunningApp) -> None:
    """Case, +tags and a webmail's dots buy no second mail.

    Seen to fail with the limit key made of the address as it was sent, and of the account key.
    """
    await limited.client.send_otp(email="ada.l@gmail.com")
    for form in ("ADA.L@gmail.com", "ada.l+1@gmail.com", "adal@gmail.com", "ad.al@googlemail.com"):
        assert (await refusal(limited, email=form)).metadata == {"limit": "mailbox"}


async def test_a_resend_counts_for_its_mailbox(limited: RunningApp) -> None:
    """By the challenge's id as by the address; a dead challenge is closed and counts nothing.

    Seen to fail with `mailbox_key` left out of the INSERT of challenges.
    """
    challenge = (await limited.register("ada")).challenge
    error = await refusal(limited, challenge_id=challenge.id)
    assert error.metadata == {"limit": "mailbox"}
    await _drain(limited, MINUTE)
    assert (await limited.client.send_otp(challenge_id=challenge.id)).challenge.id == challenge.id
    await limited.mails.wait_for("ada@example.com", count=2)
    await settled(limited)
    await limited.sql("UPDATE challenges SET end_time = now()")
    before = await contents(limited)
    with pytest.raises(ChallengeClosed):
        await limited.client.send_otp(challenge_id=challenge.id)
    assert await contents(limited) == before


async def test_a_challenge_of_an_older_program_can_be_resent(limited: RunningApp) -> None:
    """It has no mailbox key, so that its client alone is counted."""
    challenge = (await limited.register("ada")).challenge
    await limited.sql("UPDATE challenges SET mailbox_key = NULL")
    assert (await limited.client.send_otp(challenge_id=challenge.id)).challenge.id == challenge.id


async def test_a_client_is_an_address_or_a_64(database_url: str) -> None:
    """200 addresses of one /64, in full 10,000, register and ask as often as one may: 15 at once.

    In full size threats row 16. Seen to fail with the whole address taken for the client.
    """
    first = ipaddress.IPv6Address("2001:db8::")
    addresses = [first + 7**number % 2**64 for number in range(ADDRESSES)]
    async with running_app(database_url, **on(**NO_MAILBOX)) as app:
        taken = 0
        for number, address in enumerate(addresses):
            try:
                client = at(str(address))
                if number % 2:
                    await app.client.send_otp(email=f"user{number}@example.com", client=client)
                else:
                    await app.register(f"user{number}", send_otp=False, client=client)
                taken += 1
            except RateLimited as error:
                assert error.metadata == {"limit": "client"}
        assert taken == 15
        await app.client.send_otp(email="y@example.com", client=at("2001:db8:0:1::1"))


async def test_a_mapped_address_is_its_ipv4_address(database_url: str) -> None:
    """`::ffff:192.0.2.1` and its spellings are 192.0.2.1; the next address is another client."""
    async with running_app(database_url, **on(CLIENT_SENDS="1/1h", **NO_MAILBOX)) as app:
        await app.client.send_otp(email="a@example.com", client=at("192.0.2.1"))
        for text in ("::ffff:192.0.2.1", "::FFFF:c000:201", "0:0:0:0:0:ffff:192.0.2.1"):
            error = await refusal(app, email="b@example.com", client=at(text))
            assert error.metadata == {"limit": "client"}
        await app.client.send_otp(email="b@example.com", client=at("192.0.2.2"))


async def test_a_site_is_a_48(database_url: str) -> None:
    """Each /64 of a /48 is a client of its own until the site has had its share."""
    settings = on(CLIENT_SENDS="1/1h", CLIENT_NETWORK_SENDS="3/1h", **NO_MAILBOX)
    async with running_app(database_url, **settings) as app:
        for site in range(2):
            for number in range(2):
                client = at(f"2001:db8:{site}:{number}::1")
                await app.client.send_otp(email="a@example.com", client=client)
            error = await refusal(app, email="a@example.com", client=at(f"2001:db8:{site}:9::1"))
            assert error.metadata == {"limit": "network"}


async def test_without_an_address_the_caller_is_counted(database_url: str) -> None:
    """All its calls together; another caller, and calls with an address, are not touched."""
    async with running_app(database_url, **on(CALLER_SENDS="4/1h", **NO_MAILBOX)) as app:
        await app.client.send_otp(email="a@example.com")
        await app.register("ada", send_otp=False)
        error = await refusal(app, email="b@example.com")
        assert error.metadata == {"limit": "caller"}
        await app.client.send_otp(email="b@example.com", client=at("192.0.2.1"))
        async with app.client_with(Scope.LOGIN) as other:
            await other.send_otp(email="c@example.com")


async def test_metadata_names_no_client(database_url: str) -> None:
    """X-Forwarded-For and its like are never read: forged values are one bucket (threats row 15).

    50 values, in full 10,000.
    """
    settings = on(CALLER_SENDS="4/1h", **NO_MAILBOX)
    async with running_app(database_url, **settings) as app, wire_to(app) as wire:
        reasons = Counter[str]()
        for number in range(10_000 if FULL else 50):
            ip = f"192.0.{number // 250}.{number % 250}"
            forged = [("x-forwarded-for", ip), ("forwarded", f"for={ip}"), ("x-real-ip", ip)]
            metadata = [("authorization", f"Bearer {wire.key}"), *forged]
            request = service_pb.SendOtpRequest(email="ada@example.com")
            reasons[(await wire.call("SendOtp", request, metadata=metadata)).reason] += 1
        assert reasons[""] == 2
        assert reasons["RATE_LIMITED"] == reasons.total() - 2


async def test_failures_are_counted_and_successes_are_not(database_url: str) -> None:
    """Wrong codes of one client run out; right ones before cost it nothing, to the last bit.

    Seen to fail with the unit taken after the comparison (the attempt was spent), and with none
    given back.
    """
    settings = on(CLIENT_FAILURES="6/1h", **NO_MAILBOX, **NO_CLIENT)
    async with running_app(database_url, **settings) as app:
        client = at("192.0.2.1")
        await app.register("ada", send_otp=False)
        for number in range(5):
            challenge = (await app.client.send_otp(email="ada@example.com")).challenge
            code = await app.mails.code_for("ada@example.com", count=number + 1)
            await app.client.verify_otp(challenge_id=challenge.id, code=code, client=client)
        challenge = (await app.client.send_otp(email="ada@example.com")).challenge
        code = await app.mails.code_for("ada@example.com", count=6)
        for _ in range(3):
            with pytest.raises(OtpInvalid):
                await app.client.verify_otp(
                    challenge_id=challenge.id, code=wrong(code), client=client
                )
        with pytest.raises(RateLimited) as raised:
            await app.client.verify_otp(challenge_id=challenge.id, code=code, client=client)
        assert raised.value.metadata == {"limit": "failures"}
        ((attempts,),) = await app.sql(
            "SELECT attempts FROM challenges WHERE id = $1", challenge.id
        )
        assert attempts == 3
        # Another client, and one of whom nothing is said, can still sign in.
        await app.client.verify_otp(challenge_id=challenge.id, code=code, client=at("192.0.2.2"))


async def test_a_failure_that_comes_back_makes_room_at_once(database_url: str) -> None:
    """Who was refused while somebody signed in is let through as soon as that has succeeded.

    Seen to fail with refusals of failures remembered by the first gate.
    """
    async with running_app(database_url, **on(CLIENT_FAILURES="1/1h")) as app:

        async def wrong_code() -> None:
            await app.client.verify_otp(
                email="ada@example.com", code="123456", client=at("192.0.2.1")
            )

        code = parse_code("123456")
        assert code is not None
        taken = await app.app.limits.take_failure(Client(ip="192.0.2.1"), code)
        with pytest.raises(RateLimited):
            await wrong_code()
        await app.app.limits.give_back(taken)
        with pytest.raises(OtpInvalid):
            await wrong_code()
        with pytest.raises(RateLimited):
            await wrong_code()


async def test_long_codes_are_counted_without_an_address_too(database_url: str) -> None:
    """13 characters: by client, else by caller; short codes of that caller are not touched."""
    settings = on(LONG_CODE_FAILURES="2/1h", **NO_MAILBOX)
    async with running_app(database_url, **settings) as app:
        for client in (None, at("192.0.2.1")):
            with pytest.raises(OtpInvalid):
                await app.client.verify_otp(
                    email="ada@example.com", code="0123456789ABC", client=client
                )
            with pytest.raises(RateLimited) as raised:
                await app.client.verify_otp(
                    email="ada@example.com", code="0123456789ABC", client=client
                )
            assert raised.value.metadata == {"limit": "long_code"}
            with pytest.raises(OtpInvalid):
                await app.client.verify_otp(email="ada@example.com", code="123456", client=client)


async def test_the_table_knows_no_address(limited: RunningApp) -> None:
    """Neither an e-mail address nor a client's can be read from it.

    Seen to fail with the network itself for the key.
    """
    client = at("203.0.113.77")
    await limited.client.send_otp(email="canary@example.com", client=client)
    with pytest.raises(OtpInvalid):
        await limited.client.verify_otp(email="canary@example.com", code="123456", client=client)
    rows = json.dumps((await contents(limited))["rate_limits"])
    assert rows.count("\\\\x") == 3
    for needle in ("canary", "203.0.113", b"canary".hex(), bytes([203, 0, 113, 77]).hex()):
        assert needle not in rows


async def test_limits_that_are_off_cost_nothing(app: RunningApp) -> None:
    """No statement and no row."""
    for _ in range(20):
        await app.client.send_otp(email="ada@example.com", client=at("192.0.2.1"))
    assert (await app.sql("SELECT count(*) FROM rate_limits"))[0][0] == 0


async def test_statements_that_limits_cost(database_url: str) -> None:
    """BEGIN and COMMIT not counted: one more for a mail, two for a resend and for a sign-in."""
    # The dispatcher's own are off: it may take a mail while the call that has queued it goes on.
    settings = {"LIMITS__INSTALLATION_MAILS": "off", "LIMITS__DOMAIN_MAILS": "off"}
    async with running_app(database_url, **on(), **settings) as app:
        await _statements_that_limits_cost(app)


async def _statements_that_limits_cost(limited: RunningApp) -> None:

    async def statements(call: Awaitable[object]) -> int:
        limited.statements.clear()
        await call
        return len(sent(limited))

    client = at("2001:db8::1")
    await limited.register("ada", send_otp=False)
    await limited.client.send_otp(email="grace@example.com")  # every statement is prepared
    await settled(limited)
    send = limited.client.send_otp(email="ada@example.com", client=client)
    assert await statements(send) == 7 + 1
    await settled(limited)
    ((challenge,),) = await limited.sql(
        "SELECT id::text FROM challenges WHERE registration_id IS NOT NULL"
    )
    await _drain(limited, MINUTE)
    resend = limited.client.send_otp(challenge_id=challenge, client=client)
    assert await statements(resend) == 2 + 2
    code = await limited.mails.code_for("ada@example.com", count=2)
    await settled(limited)
    verify = limited.client.verify_otp(challenge_id=challenge, code=code, client=client)
    assert await statements(verify) == 10 + 2
