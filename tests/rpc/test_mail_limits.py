"""How many mails leave: the installation's and a domain's limit. Mail waits, calls do not differ.

A rate of N/period lets ceil(N/2) leave at once.
"""

import asyncio
from collections import Counter
from datetime import timedelta

from tests.rpc.wire import settled
from tests.support.age import age
from tests.support.running import RunningApp, running_app
from watchword_client import resources_pb2

MAILBOXES_OFF = {
    "LIMITS__ENABLED": "true",
    "LIMITS__MAILBOX_MINUTE": "off",
    "LIMITS__MAILBOX_HOUR": "off",
    "LIMITS__MAILBOX_DAY": "off",
    "LIMITS__CALLER_SENDS": "off",
}
STATES = "SELECT state, count(*) FROM outbox GROUP BY state"


async def _send(app: RunningApp, *addresses: str) -> None:
    for address in addresses:
        username = address.replace("@", "-").replace(".", "-")
        await app.register(username, email=address)


async def _come_to_rest(app: RunningApp) -> Counter[str]:
    """Returns the states of all mails once each was sent or put off to a later time."""
    async with asyncio.timeout(10):
        while await app.sql(
            "SELECT 1 FROM outbox WHERE state = 'pending'"
            " AND (next_time <= now() OR lease_expire_time > now())"
        ):
            await asyncio.sleep(0.01)
    return Counter({row["state"]: row["count"] for row in await app.sql(STATES)})


async def test_the_installation_sends_no_faster(database_url: str) -> None:
    """Of 6 mails at 4 an hour 2 leave; the others wait and leave when it is their time.

    Seen to fail with the bucket of the installation left out of MailLimits.
    """
    async with running_app(database_url, **MAILBOXES_OFF, LIMITS__INSTALLATION_MAILS="4/1h") as app:
        await _send(app, *(f"person{number}@gmail.com" for number in range(6)))
        assert await _come_to_rest(app) == {"sent": 2, "pending": 4}
        # Less than the lives of their codes.
        for sent in (4, 6):
            await _let_pass(app, timedelta(hours=1))
            assert (await _come_to_rest(app))["sent"] == sent
        assert len(app.mails.all()) == 6


async def _let_pass(app: RunningApp, by: timedelta) -> None:
    """As if the time had gone by for the limits and for what waits, but not for the codes."""
    await app.sql("UPDATE rate_limits SET tat1_us = tat1_us - $1", by // timedelta(microseconds=1))
    await app.sql("UPDATE outbox SET next_time = create_time WHERE state = 'pending'")


async def test_a_domain_gets_no_more(database_url: str) -> None:
    """At 2 an hour 1 leaves for each domain, however it is written; a provider in the list has no
    such limit, and nobody waits for another domain.

    Seen to fail with the bucket of the domain left out.
    """
    async with running_app(
        database_url,
        **MAILBOXES_OFF,
        LIMITS__DOMAIN_MAILS="2/1h",
        LIMITS__DOMAIN_EXEMPT="large.org",
    ) as app:
        await _send(app, "ada@small.org", "eve@SMALL.org", "grace@other.org")
        await _send(app, *(f"person{number}@large.org" for number in range(4)))
        assert await _come_to_rest(app) == {"sent": 6, "pending": 1}
        domains = Counter(mail["To"].partition("@")[2].lower() for mail in app.mails.all())
        assert domains == {"small.org": 1, "other.org": 1, "large.org": 4}


async def test_a_known_device_has_no_domain(database_url: str) -> None:
    """When a domain's limit is spent, what a known device asked for leaves all the same.

    Seen to fail with `not known_device` left out of MailLimits.
    """
    async with running_app(database_url, **MAILBOXES_OFF, LIMITS__DOMAIN_MAILS="4/1h") as app:
        token = (await app.sign_in("ada")).device_token
        await _send(app, *(f"person{number}@example.com" for number in range(4)))
        assert await _come_to_rest(app) == {"sent": 2, "pending": 3}
        device = resources_pb2.ClientContext(device_token=token)
        await app.client.send_otp(email="ada@example.com", client=device)
        assert await _come_to_rest(app) == {"sent": 3, "pending": 3}


async def test_a_mail_that_waits_too_long_is_dropped(database_url: str) -> None:
    """Nobody is sent a code that has expired."""
    async with running_app(database_url, **MAILBOXES_OFF, LIMITS__INSTALLATION_MAILS="1/1h") as app:
        await _send(app, "ada@example.com", "eve@example.com")
        assert await _come_to_rest(app) == {"sent": 1, "pending": 1}
        await age(database_url, timedelta(hours=1))
        await settled(app)
        assert len(app.mails.all()) == 1


async def test_known_devices_go_first(database_url: str) -> None:
    """Of 48 mails that wait, 24 may leave, and those of 6 known devices are among them, though they
    were queued last. As 8 are under way at a time, not even they are in a strict order.

    Seen to fail with `known_device DESC` taken out of OutboxStore.CANDIDATES, and with all
    candidates shuffled as one.
    """
    async with running_app(
        database_url, **MAILBOXES_OFF, LIMITS__INSTALLATION_MAILS="48/1h"
    ) as app:
        people = [f"person{number}@example.com" for number in range(24 + 48)]
        await _send(app, *people)
        assert await _come_to_rest(app) == {"sent": 24, "pending": 48}
        await app.sql(
            "UPDATE outbox SET known_device = true WHERE (slot, id) IN"
            " (SELECT slot, id FROM outbox ORDER BY create_time DESC LIMIT 6)"
        )
        await _let_pass(app, timedelta(hours=1))
        assert await _come_to_rest(app) == {"sent": 48, "pending": 24}
        assert {mail["To"] for mail in app.mails.all()} >= set(people[-6:])


async def test_without_limits_mail_leaves_at_once(database_url: str) -> None:
    """LIMITS__ENABLED=false, and `off`, count nothing."""
    for domain, settings in (
        ("one.org", {"LIMITS__ENABLED": "false", "LIMITS__INSTALLATION_MAILS": "1/1h"}),
        ("two.org", {"LIMITS__INSTALLATION_MAILS": "off", "LIMITS__DOMAIN_MAILS": "off"}),
    ):
        async with running_app(database_url, **{**MAILBOXES_OFF, **settings}) as app:
            await _send(app, *(f"person{number}@{domain}" for number in range(4)))
            await settled(app)
            assert len(app.mails.all()) == 4
