"""What counts as alive by a key: sessions, tokens before a refresh, challenges."""

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from tests.storage.database import LIFETIME, new_challenge, open_database
from tests.storage.test_statements import VERIFIER, stored_session, stored_user
from watchword.crypto import SLOTS
from watchword.login.key_status import KeyStatus, Position, key_status
from watchword.login.ports import KeyUse
from watchword.login.slots import slot_batches
from watchword.sessions.model import Client
from watchword.storage.transactions import PgTx

Sql = asyncpg.Connection

IDLE = timedelta(minutes=30)
ALL_SLOTS = range(SLOTS)


async def in_use(tx: PgTx) -> dict[int, tuple[int, int]]:
    """How many sessions and challenges each key has."""
    found = await tx.key_use.in_slots(ALL_SLOTS, idle_lifetime=IDLE)
    return {use.key_id: (use.sessions, use.challenges) for use in found}


async def stored_challenge(tx: PgTx, name: str = "ada", *, key_id: int = 1) -> None:
    """A live challenge of this key."""
    challenge = new_challenge(name)
    await tx.challenges.insert(replace(challenge, source=replace(challenge.source, key_id=key_id)))


async def test_what_is_alive_is_counted(tx: PgTx, sql: Sql) -> None:
    """By its key, whosever it is, with the last end of all of them; nothing of other slots."""
    assert await in_use(tx) == {}
    ada, eve = await stored_user(tx), await stored_user(tx, "eve")
    sessions = [await stored_session(tx, user) for user in (ada, eve, eve)]
    await sql.execute("UPDATE sessions SET key_id = 2 WHERE id = $1", sessions[0].id)
    await stored_challenge(tx, "bob")
    await stored_challenge(tx, "cyd", key_id=3)
    assert await in_use(tx) == {1: (2, 1), 2: (1, 0), 3: (0, 1)}
    found = {use.key_id: use for use in await tx.key_use.in_slots(ALL_SLOTS, idle_lifetime=IDLE)}
    assert found[1].last_end_time == max(session.expire_time for session in sessions[1:])
    ended = await sql.fetchval("SELECT expire_time FROM challenges WHERE key_id = 3")
    assert found[3] == KeyUse(3, 0, 1, ended)
    taken = {row["slot"] for row in await sql.fetch("SELECT slot FROM sessions")}
    taken |= {row["slot"] for row in await sql.fetch("SELECT slot FROM challenges")}
    others = [slot for slot in ALL_SLOTS if slot not in taken]
    assert await tx.key_use.in_slots(others, idle_lifetime=IDLE) == []


@pytest.mark.parametrize(
    "death",
    [
        "UPDATE sessions SET revoke_time = now()",
        "UPDATE sessions SET expire_time = now()",
        "UPDATE sessions SET last_seen_time = now() - interval '30 minutes'",
        "UPDATE users SET auth_epoch = auth_epoch + 1",
        "UPDATE users SET state = 'disabled'",
    ],
)
async def test_a_dead_session_needs_no_key(tx: PgTx, sql: Sql, death: str) -> None:
    """Whatever it died of, neither by its token nor by the one before.

    Seen to fail with each condition taken out of either part of IN_SLOTS.
    """
    await stored_session(tx, await stored_user(tx))
    await sql.execute("UPDATE sessions SET previous_key_id = 2, previous_verifier = 'x'")
    assert await in_use(tx) == {1: (1, 0), 2: (1, 0)}
    await sql.execute(death)
    assert await in_use(tx) == {}


@pytest.mark.parametrize("column", ["consume_time", "end_time", "expire_time"])
async def test_a_challenge_that_is_over_needs_no_key(tx: PgTx, sql: Sql, column: str) -> None:
    """Used, ended or expired. Seen to fail with each of these conditions taken out of IN_SLOTS."""
    await stored_challenge(tx)
    assert await in_use(tx) == {1: (0, 1)}
    await sql.execute(f"UPDATE challenges SET {column} = now()")
    assert await in_use(tx) == {}


async def test_a_token_that_was_replaced_needs_its_key(tx: PgTx, sql: Sql) -> None:
    """Until its end, which comes with the first use of the next one; and no longer than the session
    lives. Somebody whose answer was lost holds nothing else.

    Seen to fail with `previous_key_id` taken out of ROTATE, and without the second part of
    IN_SLOTS.
    """
    session = await stored_session(tx, await stored_user(tx))
    found = await tx.rotations.find(session.id, idle_lifetime=IDLE)
    assert found is not None
    verifier = bytes(32)
    assert await tx.rotations.rotate(found, verifier=verifier, key_id=2, client=Client())
    assert await in_use(tx) == {2: (1, 0), 1: (1, 0)}
    (one, _) = sorted(
        await tx.key_use.in_slots(ALL_SLOTS, idle_lifetime=IDLE), key=lambda use: use.key_id
    )
    assert one.last_end_time == session.expire_time
    assert await tx.rotations.end_previous(session.id, verifier=verifier, overlap=LIFETIME)
    (one, _) = sorted(
        await tx.key_use.in_slots(ALL_SLOTS, idle_lifetime=IDLE), key=lambda use: use.key_id
    )
    assert one.last_end_time == await sql.fetchval("SELECT previous_end_time FROM sessions")
    await sql.execute("UPDATE sessions SET previous_end_time = now()")
    assert await in_use(tx) == {2: (1, 0)}


async def test_a_token_replaced_by_the_same_key_counts_once(tx: PgTx) -> None:
    """A refresh without a roll-out between."""
    session = await stored_session(tx, await stored_user(tx))
    found = await tx.rotations.find(session.id, idle_lifetime=IDLE)
    assert found is not None
    assert found.secrets.verifier == VERIFIER
    assert await tx.rotations.rotate(found, verifier=bytes(32), key_id=1, client=Client())
    assert await in_use(tx) == {1: (1, 0)}


async def test_a_ring_is_told_what_it_is_needed_for(database_url: str, tx: PgTx, sql: Sql) -> None:
    """In the ring's order, what is missing from it last; only a verifying key that nothing alive
    has may go. Every slot is in one batch.
    """
    assert [slot for slots in slot_batches() for slot in slots] == list(ALL_SLOTS)
    sessions = [await stored_session(tx, await stored_user(tx, name)) for name in ("ada", "eve")]
    await sql.execute("UPDATE sessions SET key_id = 9 WHERE id = $1", sessions[0].id)
    await stored_challenge(tx, "bob")
    async with open_database(database_url) as database:
        status = await key_status(database, [2, 1, 3], idle_lifetime=IDLE)
    assert status == [
        KeyStatus(2, Position.SIGNS, 0, 0, None),
        KeyStatus(1, Position.VERIFIES, 1, 1, sessions[1].expire_time),
        KeyStatus(3, Position.VERIFIES, 0, 0, None),
        KeyStatus(9, Position.NOT_IN_RING, 1, 0, sessions[0].expire_time),
    ]
    assert [one.removable for one in status] == [False, False, True, False]
