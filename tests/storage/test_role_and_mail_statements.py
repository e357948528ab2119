"""The stores of roles and of the mails that wait."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from tests.storage.conftest import Connect
from tests.storage.database import LIFETIME, new_challenge, new_registration
from tests.support.age import age
from watchword.crypto import new_id, new_user_id, slot_of
from watchword.mail.outbox import (
    Candidate,
    CodeMail,
    EmailChangedMail,
    LeasedMail,
    MailKind,
    OutboxKey,
    Recipient,
)
from watchword.roles.model import Grants, Role
from watchword.storage.transactions import PgTx
from watchword.users.model import EmailChange

Sql = asyncpg.Connection

LEASE = timedelta(seconds=30)


async def queued(tx: PgTx, *, locale: str | None = None, **signs_in: object) -> OutboxKey:
    """Queues the mail of a new challenge."""
    issued = await tx.challenges.insert(new_challenge(**signs_in))
    key = OutboxKey(slot_of(issued.id), new_id(slot_of(issued.id)))
    await tx.outbox.put(key.id, challenge_id=issued.id, locale=locale)
    return key


async def lease(tx: PgTx, key: OutboxKey) -> LeasedMail | None:
    """Leases the mail under a new lease id."""
    return await tx.outbox.lease(
        Candidate(key, MailKind.CODE, known_device=False), lease_id=new_id(0), lifetime=LEASE
    )


async def leased(tx: PgTx, **signs_in: object) -> LeasedMail:
    """Queues a mail and leases it."""
    mail = await lease(tx, await queued(tx, **signs_in))
    assert mail is not None
    return mail


def _waiting(*keys: OutboxKey) -> list[Candidate]:
    return [Candidate(key, MailKind.CODE, known_device=False) for key in keys]


async def state_of(sql: Sql, key: OutboxKey) -> str:
    """Returns the state of a mail."""
    return await sql.fetchval("SELECT state FROM outbox WHERE id = $1", key.id)


async def test_grants_are_sorted_and_each_is_there_once(tx: PgTx) -> None:
    """Roles and permissions in the order of their bytes, a permission of two roles once."""
    user = await tx.users.insert(new_registration().account)
    for name, permissions in (("b-role", ["z", "b.x"]), ("a_role", ["z", "B"]), ("b.role", [])):
        assert await tx.roles.create(name, permissions=permissions)
        assert await tx.roles.assign(name, user_id=user.id)
    grants = await tx.roles.grants_of(user.id)
    assert grants == Grants(("a_role", "b-role", "b.role"), ("B", "b.x", "z"))
    assert await tx.roles.grants_of(new_user_id()) == Grants()


async def test_a_role_is_made_once(tx: PgTx, sql: Sql) -> None:
    """A second one of the name leaves the first as it is; a permission given twice counts once."""
    assert await tx.roles.create("auditor", permissions=["read", "read"])
    assert not await tx.roles.create("auditor", permissions=["write"])
    assert [row["permission"] for row in await sql.fetch("SELECT * FROM role_permissions")] == [
        "read"
    ]
    assert await tx.roles.exists("auditor")
    assert not await tx.roles.exists("Auditor")


async def test_a_role_is_assigned_once(tx: PgTx) -> None:
    """The second assignment says that there was one."""
    user = await tx.users.insert(new_registration().account)
    await tx.roles.create("auditor", permissions=["read"])
    assert await tx.roles.assign("auditor", user_id=user.id)
    assert not await tx.roles.assign("auditor", user_id=user.id)
    assert (await tx.roles.grants_of(user.id)).roles == ("auditor",)


async def test_a_role_is_unassigned_from_one_user_once(tx: PgTx) -> None:
    """It goes from this user alone, the user's other roles stay; the second time says so."""
    ada, eve = [await tx.users.insert(new_registration(name).account) for name in ("ada", "eve")]
    for name in ("auditor", "writer"):
        await tx.roles.create(name, permissions=[])
        for user in (ada, eve):
            await tx.roles.assign(name, user_id=user.id)
    assert await tx.roles.unassign("auditor", user_id=ada.id)
    assert not await tx.roles.unassign("auditor", user_id=ada.id)
    assert (await tx.roles.grants_of(ada.id)).roles == ("writer",)
    assert (await tx.roles.grants_of(eve.id)).roles == ("auditor", "writer")


async def test_all_roles_are_listed(tx: PgTx) -> None:
    """In the order of their bytes, each with its own permissions, also one that has none."""
    assert await tx.roles.list_all(after="", limit=9) == []
    await tx.roles.create("b-role", permissions=["z", "b.x"])
    await tx.roles.create("a_role", permissions=["z"])
    await tx.roles.create("b.role", permissions=[])
    expected = [Role("a_role", ("z",)), Role("b-role", ("b.x", "z")), Role("b.role", ())]
    assert await tx.roles.list_all(after="", limit=9) == expected
    assert await tx.roles.list_all(after="a_role", limit=1) == expected[1:2]
    assert await tx.roles.get("b-role") == expected[1]
    assert await tx.roles.get("b") is None


async def test_a_role_that_is_gone_grants_nothing(tx: PgTx, sql: Sql) -> None:
    """Its permissions go with it; an assignment that still names it gives none."""
    user = await tx.users.insert(new_registration().account)
    await tx.roles.create("auditor", permissions=["read"])
    await tx.roles.assign("auditor", user_id=user.id)
    await sql.execute("DELETE FROM roles")
    assert (await tx.roles.grants_of(user.id)).permissions == ()


async def test_a_queued_mail_holds_references_only(tx: PgTx, sql: Sql) -> None:
    """The row names its challenge and a language, and nothing of the person or the code."""
    await queued(tx, locale="de")
    [row] = await sql.fetch("SELECT * FROM outbox")
    assert set(row.keys()) == {
        *(
            "slot",
            "id",
            "kind",
            "challenge_id",
            "user_id",
            "email_change_id",
            "locale",
            "state",
            "known_device",
            "attempts",
        ),
        *("create_time", "next_time", "lease_id", "lease_expire_time", "end_time"),
    }
    assert (row["kind"], row["locale"], row["state"], row["attempts"]) == (
        "otp",
        "de",
        "pending",
        0,
    )


async def test_a_mail_needs_its_challenge(tx: PgTx, sql: Sql) -> None:
    """A mail of no challenge is refused, and one whose challenge is purged goes with it."""
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await tx.outbox.put(new_id(1), challenge_id=new_id(1), locale=None)
    await queued(tx)
    await sql.execute("DELETE FROM challenges")
    assert await sql.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_oldest_due_mails_are_the_candidates(
    tx: PgTx, sql: Sql, database_url: str
) -> None:
    """Leased, settled and later ones are none; a lease that has ended makes it one again."""
    first = await queued(tx)
    await age(database_url, timedelta(seconds=1))
    second, taken, later, sent = [await queued(tx) for _ in range(4)]
    assert await lease(tx, taken) is not None
    await sql.execute(
        "UPDATE outbox SET next_time = now() + interval '1 hour' WHERE id = $1", later.id
    )
    await sql.execute("UPDATE outbox SET state = 'sent' WHERE id = $1", sent.id)
    assert await tx.outbox.candidates(limit=10) == _waiting(first, second)
    assert await tx.outbox.candidates(limit=1) == _waiting(first)
    await age(database_url, LEASE)
    assert await tx.outbox.candidates(limit=10) == _waiting(first, second, taken)


async def test_a_known_device_goes_first(tx: PgTx, database_url: str) -> None:
    """Its mail comes before those that wait longer; among equals the oldest is the first."""
    old = await queued(tx)
    await age(database_url, timedelta(seconds=9))
    known = [await _queued_by_known_device(tx) for _ in range(2)]
    new = await queued(tx)
    assert await tx.outbox.candidates(limit=10) == [
        *(Candidate(key, MailKind.CODE, known_device=True) for key in known),
        *_waiting(old, new),
    ]
    assert await tx.outbox.candidates(limit=1) == [
        Candidate(known[0], MailKind.CODE, known_device=True)
    ]


async def _queued_by_known_device(tx: PgTx) -> OutboxKey:
    issued = await tx.challenges.insert(new_challenge())
    assert issued is not None
    key = OutboxKey(slot_of(issued.id), new_id(slot_of(issued.id)))
    await tx.outbox.put(key.id, challenge_id=issued.id, locale=None, known_device=True)
    return key


async def test_a_mail_is_queued_once(tx: PgTx, sql: Sql) -> None:
    """The same id again changes nothing, and says when the first was queued."""
    issued = await tx.challenges.insert(new_challenge())
    assert issued is not None
    outbox_id = new_id(slot_of(issued.id))
    assert await tx.outbox.queued_time(outbox_id) is None
    for locale in ("de", "en"):
        await tx.outbox.put(outbox_id, challenge_id=issued.id, locale=locale)
    [row] = await sql.fetch("SELECT * FROM outbox")
    assert row["locale"] == "de"
    assert await tx.outbox.queued_time(outbox_id) == row["create_time"]


async def test_the_mail_of_a_shadow_is_never_due(tx: PgTx) -> None:
    """It is written like any other, and dropped."""
    issued = await tx.challenges.insert(new_challenge())
    assert issued is not None
    key = OutboxKey(slot_of(issued.id), new_id(slot_of(issued.id)))
    await tx.outbox.put(key.id, challenge_id=issued.id, locale=None, is_shadow=True)
    assert await tx.outbox.candidates(limit=10) == []
    assert await lease(tx, key) is None


async def test_a_leased_mail_has_what_the_dispatcher_needs(tx: PgTx) -> None:
    """The source of the code, its length, the language and whom it is for."""
    user_id = new_user_id()
    challenge = new_challenge(form=8, user_id=user_id)
    issued = await tx.challenges.insert(challenge)
    key = OutboxKey(slot_of(issued.id), new_id(slot_of(issued.id)))
    await tx.outbox.put(key.id, challenge_id=issued.id, locale="fr")
    mail = await lease(tx, key)
    assert mail is not None
    assert (mail.key, mail.locale) == (key, "fr")
    assert mail.about == CodeMail(challenge.source, 8, user_id, None, None)
    assert (mail.attempts, mail.wanted) == (1, True)


async def test_a_lease_is_for_one_dispatcher_until_it_ends(tx: PgTx, database_url: str) -> None:
    """A second lease is refused until the first has ended; it counts as another attempt."""
    key = await queued(tx)
    first = await lease(tx, key)
    assert first is not None
    assert await lease(tx, key) is None
    await age(database_url, LEASE - timedelta(seconds=5))
    assert await lease(tx, key) is None
    await age(database_url, timedelta(seconds=5))
    second = await lease(tx, key)
    assert second is not None
    assert second.attempts == 2
    assert first.queued_time - second.queued_time == LEASE, "the rows were aged, the date is kept"


@pytest.mark.parametrize("settle", ["mark_sent", "drop", "retry_later"])
async def test_a_dispatcher_whose_lease_was_lost_settles_nothing(
    tx: PgTx, sql: Sql, database_url: str, settle: str
) -> None:
    """Guards the fence: the first dispatcher woke up late, the mail is the second's."""
    first = await leased(tx)
    await age(database_url, LEASE)
    second = await lease(tx, first.key)
    assert second is not None

    async def by(mail: LeasedMail) -> bool:
        if settle == "retry_later":
            return await tx.outbox.retry_later(mail, delay=timedelta(0))
        done: bool = await getattr(tx.outbox, settle)(mail)
        return done

    assert not await by(first)
    assert await state_of(sql, first.key) == "pending"
    assert await lease(tx, first.key) is None, "the lease is still the second's"
    assert await by(second)
    assert not await by(second), "it is settled once"


@pytest.mark.parametrize(("settle", "state"), [("mark_sent", "sent"), ("drop", "dropped")])
async def test_a_settled_mail_is_never_sent_again(
    tx: PgTx, sql: Sql, database_url: str, settle: str, state: str
) -> None:
    """Sent and dropped are final: no candidate and no lease, however much later."""
    mail = await leased(tx)
    assert await getattr(tx.outbox, settle)(mail)
    assert await state_of(sql, mail.key) == state
    await age(database_url, LEASE * 10)
    assert await tx.outbox.candidates(limit=10) == []
    assert await lease(tx, mail.key) is None


async def test_a_mail_to_be_retried_waits(tx: PgTx, database_url: str) -> None:
    """It is nobody's until its time, and then anybody's; its attempts go on counting."""
    mail = await leased(tx)
    assert await tx.outbox.retry_later(mail, delay=timedelta(seconds=60))
    assert await tx.outbox.candidates(limit=10) == []
    await age(database_url, timedelta(seconds=60))
    assert await tx.outbox.candidates(limit=10) == _waiting(mail.key)
    again = await lease(tx, mail.key)
    assert again is not None
    assert again.attempts == 2


@pytest.mark.parametrize(
    "change", ["consume_time = now()", "end_time = now()", "expire_time = now()"]
)
async def test_a_mail_whose_challenge_is_closed_is_not_wanted(
    tx: PgTx, sql: Sql, change: str
) -> None:
    """A code that verifies no more is not mailed; the dispatcher is told when it leases."""
    key = await queued(tx)
    await sql.execute(f"UPDATE challenges SET {change}")
    mail = await lease(tx, key)
    assert mail is not None
    assert not mail.wanted


async def test_a_mail_goes_to_the_stored_address(tx: PgTx, sql: Sql) -> None:
    """A user's, while active; a registration's; nobody's for a shadow or somebody unknown."""
    registration = new_registration("eve")
    user = await tx.users.insert(new_registration("ada").account)
    await tx.registrations.insert(registration, lifetime=LIFETIME)
    to_user = await leased(tx, user_id=user.id)
    to_registration = await leased(tx, registration_id=registration.id)
    assert await tx.outbox.recipient(to_user) == Recipient("ada@example.com", "de")
    assert await tx.outbox.recipient(to_registration) == Recipient("eve@example.com", "de")
    assert await tx.outbox.recipient(await leased(tx)) is None
    assert await tx.outbox.recipient(await leased(tx, user_id=new_user_id())) is None
    await sql.execute("UPDATE users SET state = 'disabled'")
    assert await tx.outbox.recipient(to_user) is None


async def test_a_change_of_address_has_two_recipients(tx: PgTx, sql: Sql) -> None:
    """The code goes to the new address while that is wanted and the user active, the notice to the
    old one, whatever has become of the user since; either to nobody before its time.
    """
    user = await tx.users.insert(new_registration("ada").account)
    to_new = await leased(tx, changes_user_id=user.id)
    assert isinstance(to_new.about, CodeMail)
    assert await tx.outbox.recipient(to_new) is None
    change = EmailChange(to_new.about.source.challenge_id, user.id, "new@example.org")
    await tx.email_changes.begin(change, lifetime=LIFETIME)
    assert await tx.outbox.recipient(to_new) == Recipient("new@example.org", "de")
    notice = OutboxKey(slot_of(user.id), new_id(slot_of(user.id)))
    await tx.outbox.put_email_changed(notice.id, user_id=user.id, email_change_id=change.id)
    candidate = Candidate(notice, MailKind.EMAIL_CHANGED, known_device=False)
    assert candidate in await tx.outbox.candidates(limit=10)
    to_old = await tx.outbox.lease(candidate, lease_id=new_id(0), lifetime=LEASE)
    assert to_old is not None
    assert to_old.about == EmailChangedMail(user.id, change.id)
    assert await tx.outbox.recipient(to_old) is None
    assert await tx.email_changes.finish(change, old_email="ada@example.com", kept=LIFETIME)
    assert not await tx.email_changes.finish(change, old_email="eve@example.com", kept=LIFETIME)
    await sql.execute("UPDATE users SET state = 'disabled'")
    assert await tx.outbox.recipient(to_old) == Recipient("ada@example.com", "de")
    assert await tx.outbox.recipient(to_new) is None
    assert to_old.wanted
    await sql.execute("UPDATE email_changes SET expire_time = now()")
    assert await tx.purge.email_changes(dead_before=await tx.purge.present()) == 1
    assert await sql.fetchval("SELECT count(*) FROM outbox WHERE id = $1", notice.id) == 0


async def test_leases_at_once_have_one_winner(tx: PgTx, connect: Connect) -> None:
    """Guards the condition in the UPDATE: of eight dispatchers that want a mail one gets it."""
    stores = [PgTx(await connect()) for _ in range(8)]  # type: ignore[arg-type]  # like the pool's
    for _ in range(5):
        key = await queued(tx)
        won = [mail for mail in await asyncio.gather(*(lease(s, key) for s in stores)) if mail]
        assert len(won) == 1
        assert won[0].attempts == 1
