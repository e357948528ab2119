"""The purger's statements: what is dead goes, what lives stays, whoever else is at work."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from tests.storage.database import (
    HOUR,
    LIFETIME,
    new_challenge,
    new_registration,
    open_database,
    subject,
)
from tests.support.age import age
from watchword.audit.model import Action, Event
from watchword.changes.model import Change, ChangeKind
from watchword.crypto import new_id, slot_of
from watchword.login import ports
from watchword.login.ports import PURGE_BATCH
from watchword.otp.model import Purpose
from watchword.otp.policy import FAILURE_BUDGET
from watchword.sessions.model import Client, NewSession
from watchword.storage.pool import Isolation
from watchword.storage.purge import PurgeStore
from watchword.storage.transactions import PgDatabase, PgTx
from watchword.users.model import User

Sql = asyncpg.Connection
Remove = Callable[[ports.PurgeStore, datetime], Awaitable[int]]

MICROSECOND = timedelta(microseconds=1)
YEAR = timedelta(days=365)
SLOT = 7
VERIFIER = bytes(32)

REMOVE: dict[str, Remove] = {
    "challenges": lambda store, before: store.challenges(dead_before=before),
    "budgets": lambda store, before: store.budgets(dead_before=before),
    "settled budgets": lambda store, before: store.settled_budgets(dead_before=before),
    "registrations": lambda store, before: store.registrations(dead_before=before),
    "holds": lambda store, before: store.holds(dead_before=before),
    "expired sessions": lambda store, before: store.expired_sessions(dead_before=before),
    "revoked sessions": lambda store, before: store.revoked_sessions(dead_before=before),
    "outdated sessions": lambda store, before: store.outdated_sessions(SLOT, dead_before=before),
    "audit events": lambda store, before: store.audit_events(dead_before=before),
    "changes": lambda store, before: store.changes(dead_before=before),
}
# Since when the row is dead.
ENDS = {
    "challenges": "SELECT expire_time FROM challenges",
    "budgets": "SELECT charge_time FROM subject_budgets",
    "settled budgets": "SELECT charge_time FROM subject_budgets",
    "registrations": "SELECT expire_time FROM registrations",
    "holds": "SELECT timestamptz 'epoch' + hold_expire_us * interval '1 us' FROM identifiers",
    "expired sessions": "SELECT expire_time FROM sessions",
    "revoked sessions": "SELECT revoke_time FROM sessions",
    "outdated sessions": "SELECT u.update_time FROM sessions s JOIN users u ON u.id = s.user_id",
    "audit events": "SELECT at FROM audit_events",
    "changes": "SELECT at FROM changes",
}
# What makes the row live, however it was before; audit events and changes never change.
REVIVE = {
    "challenges": "UPDATE challenges SET expire_time = now() + interval '2 years'",
    "budgets": "UPDATE subject_budgets SET charge_time = now() + interval '2 years'",
    "settled budgets": "UPDATE subject_budgets SET in_a_row = 1",
    "registrations": "UPDATE registrations SET expire_time = now() + interval '2 years'",
    "holds": "UPDATE identifiers SET hold_expire_us = hold_expire_us * 2",
    "expired sessions": "UPDATE sessions SET expire_time = now() + interval '2 years'",
    "revoked sessions": "UPDATE sessions SET revoke_time = NULL",
    "outdated sessions": "UPDATE sessions SET epoch = 1",
}
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def stored_user(tx: PgTx, name: str = "ada", *, slot: int = SLOT) -> User:
    """A user with both identifiers."""
    registration = replace(new_registration(name), user_id=new_id(slot))
    subject_key = registration.subject_key
    await tx.registrations.hold_username(name, subject_key=subject_key, lifetime=LIFETIME)
    user = await tx.users.insert(registration.account)
    assert await tx.users.claim_email(registration.email, user_id=user.id)
    assert await tx.users.claim_username(name, user_id=user.id, subject_key=subject_key)
    return user


async def stored_session(tx: PgTx, user: User, *, epoch: int = 0) -> NewSession:
    """A session of the user for an hour."""
    session = NewSession(
        id=new_id(slot_of(user.id)),
        user_id=user.id,
        verifier=VERIFIER,
        key_id=1,
        epoch=epoch,
        lifetime=HOUR,
        client=Client(),
    )
    await tx.sessions.insert(session)
    return session


async def store_row(tx: PgTx, sql: Sql, kind: str) -> None:
    """Stores the one row of this kind; a session also has its user, and its cause of death."""
    if kind == "challenges":
        await tx.challenges.insert(new_challenge())
    elif kind in ("budgets", "settled budgets"):
        challenge = await tx.challenges.insert(new_challenge())
        await tx.attempts.charge_by_id(
            challenge.id,
            purpose=Purpose.SIGN_IN,
            code_form=6,
            attempts_max=5,
            budget=FAILURE_BUDGET,
        )
        if kind == "settled budgets":
            await sql.execute("UPDATE subject_budgets SET in_a_row = 0")
    elif kind == "registrations":
        await tx.registrations.insert(new_registration(), lifetime=HOUR)
    elif kind == "holds":
        await tx.registrations.hold_username("ada", subject_key=subject(), lifetime=HOUR)
    elif kind == "audit events":
        await tx.audit.put(Event(id=new_id(SLOT), action=Action.REVOKE, actor="tests"))
    elif kind == "changes":
        await tx.changes.put(Change(id=new_id(SLOT), kind=ChangeKind.ROLE, role="auditor"))
    else:
        session = await stored_session(tx, await stored_user(tx))
        if kind == "revoked sessions":
            assert await tx.sessions.revoke(session.id, verifier=VERIFIER)
        elif kind == "outdated sessions":
            await sql.execute("UPDATE users SET auth_epoch = 1, update_time = now()")


async def left(sql: Sql, table: str) -> int:
    """How many rows the table has."""
    return await sql.fetchval(f"SELECT count(*) FROM {table}")


@pytest.mark.parametrize("kind", REMOVE)
async def test_a_row_goes_once_it_was_dead_before_the_cut_off(
    tx: PgTx, sql: Sql, kind: str
) -> None:
    """Not at the very moment of its end, but a microsecond later; and then it is gone."""
    await store_row(tx, sql, kind)
    end = await sql.fetchval(ENDS[kind])
    assert await REMOVE[kind](tx.purge, end) == 0
    assert await sql.fetchval(ENDS[kind]) == end
    assert await REMOVE[kind](tx.purge, end + MICROSECOND) == 1
    assert await sql.fetch(ENDS[kind]) == []
    assert await REMOVE[kind](tx.purge, end + MICROSECOND) == 0


@pytest.mark.parametrize("kind", REVIVE)
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_row_that_lives_again_meanwhile_stays(
    tx: PgTx, sql: Sql, database_url: str, isolation: Isolation, kind: str
) -> None:
    """A change that commits while the purger waits for the row's lock saves the row.

    Seen to fail at READ COMMITTED, for each kind, with the condition below the sub-select taken out
    of its DELETE.
    """
    await store_row(tx, sql, kind)
    far = await tx.purge.present() + YEAR
    async with open_database(database_url, isolation=isolation) as database:
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute(REVIVE[kind])
        purging = asyncio.create_task(database.run_statement(lambda t: REMOVE[kind](t.purge, far)))
        await waiting(tx, purging)
        await transaction.commit()
        assert await purging == 0
    assert len(await sql.fetch(ENDS[kind])) == 1


async def waiting(tx: PgTx, task: asyncio.Task[int]) -> None:
    """Returns once a statement of the database waits for a lock."""
    async with asyncio.timeout(10):
        while await tx._connection.fetchval(WAITING) == 0:
            assert not task.done(), "the purger did not wait"
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read"])
@pytest.mark.parametrize("change", ["claimed", "taken over"])
async def test_an_ended_hold_that_finds_an_owner_stays(
    tx: PgTx, sql: Sql, database_url: str, isolation: Isolation, change: str
) -> None:
    """The name of a user who is activated, or the next one's hold, outlives the purge of the old.

    Seen to fail at READ COMMITTED with the condition below the sub-select taken out of HOLDS.
    """
    await store_row(tx, sql, "holds")
    await age(database_url, HOUR * 3)
    dead_before = await tx.purge.present() - HOUR
    user_id = new_id(SLOT)
    async with open_database(database_url, isolation=isolation) as database:
        transaction = sql.transaction()
        await transaction.start()
        other = PgTx(sql)  # type: ignore[arg-type]  # like the pool's
        if change == "claimed":
            assert await other.users.claim_username("ada", user_id=user_id, subject_key=subject())
        else:
            assert await other.registrations.hold_username(
                "ada", subject_key=subject("eve"), lifetime=HOUR
            )
        purging = asyncio.create_task(
            database.run_statement(lambda t: t.purge.holds(dead_before=dead_before))
        )
        await waiting(tx, purging)
        await transaction.commit()
        assert await purging == 0
    assert await left(sql, "identifiers") == 1
    assert await tx.users.find_by_username("ada") == (user_id if change == "claimed" else None)


async def test_names_and_addresses_of_users_are_no_holds(tx: PgTx, sql: Sql) -> None:
    """However late it is, what a user owns stays; the hold beside it goes."""
    await stored_user(tx)
    await tx.registrations.hold_username("eve", subject_key=subject("eve"), lifetime=HOUR)
    assert await REMOVE["holds"](tx.purge, await tx.purge.present() + YEAR * 10) == 1
    assert await left(sql, "identifiers") == 2


async def test_a_challenge_takes_its_mails_along(tx: PgTx, sql: Sql, database_url: str) -> None:
    """Sent, dropped and forgotten ones; the mails of a challenge that stays, stay."""
    for name in ("old", "new"):
        issued = await tx.challenges.insert(new_challenge(name))
        for state in ("pending", "sent", "dropped"):
            mail_id = new_id(slot_of(issued.id))
            await tx.outbox.put(mail_id, challenge_id=issued.id, locale=None)
            await sql.execute("UPDATE outbox SET state = $1 WHERE id = $2", state, mail_id)
        if name == "old":
            await age(database_url, HOUR)
    assert await REMOVE["challenges"](tx.purge, await tx.purge.present()) == 1
    assert await left(sql, "outbox") == 3
    assert await sql.fetchval("SELECT challenge_id FROM outbox LIMIT 1") == issued.id


@pytest.mark.parametrize("column", ["consume_time", "end_time"])
async def test_a_used_challenge_is_kept_until_it_would_have_expired(
    tx: PgTx, sql: Sql, column: str
) -> None:
    """Used or ended long ago does not count: its expiry does, and that never moves."""
    await store_row(tx, sql, "challenges")
    await sql.execute(f"UPDATE challenges SET {column} = now() - interval '1 day'")
    assert await REMOVE["challenges"](tx.purge, await tx.purge.present()) == 0


async def test_sessions_go_for_their_own_cause_alone(tx: PgTx, sql: Sql) -> None:
    """A live session stays whichever statement looks; users, names and roles are never touched."""
    user, elsewhere = await stored_user(tx), await stored_user(tx, "eve", slot=SLOT + 1)
    await tx.roles.create("auditor", permissions=["read"])
    await tx.roles.assign("auditor", user_id=user.id)
    live = await stored_session(tx, user, epoch=1)
    outdated = await stored_session(tx, user)
    other_slot = await stored_session(tx, elsewhere)
    await sql.execute("UPDATE users SET auth_epoch = 1")
    present = await tx.purge.present()

    assert await REMOVE["expired sessions"](tx.purge, present) == 0
    assert await REMOVE["revoked sessions"](tx.purge, present + YEAR) == 0
    assert await REMOVE["outdated sessions"](tx.purge, present) == 1
    assert not await tx.sessions.exists(outdated.id)
    assert await tx.sessions.exists(live.id)
    assert await tx.sessions.exists(other_slot.id)
    assert await tx.purge.outdated_sessions(SLOT + 1, dead_before=present) == 1
    assert await REMOVE["expired sessions"](tx.purge, present + YEAR) == 1
    assert (await left(sql, "users"), await left(sql, "identifiers")) == (2, 4)
    assert (await tx.roles.grants_of(user.id)).roles == ("auditor",)


# $1 how many; they ended a second after each other, the last one a second ago.
MANY_CHALLENGES = """
    INSERT INTO challenges (slot, id, purpose, subject_key, nonce, key_id, code_form, attempts,
                            attempts_by_email, create_time, expire_time)
    SELECT n % 4096, gen_random_uuid(), 'sign-in', '', '', 1, 6, 0, 0, now(),
           now() - n * interval '1 second'
    FROM generate_series(1, $1) AS n
"""


async def test_a_batch_takes_the_longest_dead(tx: PgTx, sql: Sql) -> None:
    """PURGE_BATCH rows go at once, the oldest first, and then the rest."""
    await sql.execute(MANY_CHALLENGES, PURGE_BATCH + 10)
    ends = [row[0] for row in await sql.fetch(f"{ENDS['challenges']} ORDER BY 1")]
    present = await tx.purge.present()
    assert await tx.purge.challenges(dead_before=present) == PURGE_BATCH
    assert [row[0] for row in await sql.fetch(f"{ENDS['challenges']} ORDER BY 1")] == ends[-10:]
    assert await tx.purge.challenges(dead_before=present) == 10


@pytest.mark.parametrize("kind", REMOVE)
def test_every_batch_has_the_one_size(kind: str) -> None:
    """The number in the statement is the one that the purger takes for a full batch."""
    statement = getattr(PurgeStore, kind.replace(" ", "_").upper())
    assert statement.count("LIMIT") == 1
    assert f"LIMIT {PURGE_BATCH}\n" in statement


async def test_a_batch_costs_the_same_however_many_are_dead(tx: PgTx, sql: Sql) -> None:
    """The rows are found by the index on their end and fetched by their keys, by any plan.

    Seen to fail with IS TRUE taken out (all dead rows are walked through), and with the limit as a
    parameter (the whole table is read).
    """
    await sql.execute(MANY_CHALLENGES, 100_000)
    await sql.execute("ANALYZE challenges")
    for mode in ("force_custom_plan", "force_generic_plan"):
        await sql.execute(f"SET plan_cache_mode = {mode}")
        await sql.execute(f"PREPARE purge_{mode} AS {PurgeStore.CHALLENGES}")
        rows = await sql.fetch(f"EXPLAIN EXECUTE purge_{mode} (now())")
        plan = "\n".join(row[0] for row in rows)
        assert plan.count("Index Scan using challenges_expire") == 1, plan
        assert plan.count("Index Scan using challenges_pkey") == 1, plan
        assert plan.count(" Scan ") == 3, plan  # the third is that of the sub-select's result


async def test_two_purgers_remove_each_row_once(tx: PgTx, sql: Sql, database_url: str) -> None:
    """Four at the same rows: no error, every dead row is counted once, no live one is touched."""
    dead, live = 4_000, 50
    await sql.execute(MANY_CHALLENGES, dead)
    for number in range(live):
        await tx.challenges.insert(new_challenge(f"person{number}"))
    before = await tx.purge.present()
    start = asyncio.Barrier(4)

    async def purge(database: PgDatabase) -> int:
        removed = 0
        await start.wait()
        while batch := await database.run_statement(
            lambda t: t.purge.challenges(dead_before=before)
        ):
            removed += batch
        return removed

    async with open_database(database_url) as database:
        counts = await asyncio.gather(*(purge(database) for _ in range(4)))
        assert await database.run_statement(lambda t: t.purge.challenges(dead_before=before)) == 0
    assert sum(counts) == dead
    assert await left(sql, "challenges") == live
