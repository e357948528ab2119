"""Whose sessions end: by id, and of a user who has too many; sign-ins that come together."""

import asyncio
from dataclasses import replace

import asyncpg

from tests.storage.database import new_registration, open_database, raw
from tests.storage.test_statements import stored_session, stored_user
from watchword.crypto import new_id, slot_of
from watchword.login.ports import Tx
from watchword.storage.transactions import PgTx
from watchword.users.model import User

Sql = asyncpg.Connection

LIVE = "SELECT count(*) FROM sessions WHERE revoke_time IS NULL"


async def test_the_newest_stay(tx: PgTx, sql: Sql) -> None:
    """Of five sessions the two that began last, whatever is dead counts for nothing; there is a
    change when there is something to end, and none a second time.
    """
    user = await stored_user(tx)
    other = await stored_user(tx, "eve")
    await stored_session(tx, other)
    sessions = [await stored_session(tx, user) for _ in range(5)]
    for age, session in enumerate(reversed(sessions)):
        await sql.execute(
            "UPDATE sessions SET create_time = now() - $2 * interval '1 hour' WHERE id = $1",
            session.id,
            age,
        )
    await sql.execute("UPDATE sessions SET revoke_time = now() WHERE id = $1", sessions[4].id)
    assert await tx.sessions.end_oldest(user.id, kept=4) is None
    ended = await tx.sessions.end_oldest(user.id, kept=2)
    assert ended is not None
    assert (ended.count, ended.user_id) == (2, user.id)
    assert ended.user_version == await sql.fetchval(
        "SELECT version FROM users WHERE id = $1", user.id
    )
    rows = await sql.fetch("SELECT id FROM sessions WHERE revoke_time IS NULL")
    assert {row["id"] for row in rows} >= {session.id for session in sessions[2:4]}
    assert len(rows) == 3
    assert await tx.sessions.end_oldest(user.id, kept=2) is None


async def test_a_session_ends_by_its_own_users_id(tx: PgTx) -> None:
    """Not by that of another user, even of the same slot.

    Seen to fail with `s.user_id = raised.id` taken out of REVOKE_BY_ID.
    """
    ada = await stored_user(tx)
    registration = replace(new_registration("eve"), user_id=new_id(slot_of(ada.id)))
    eve = await tx.users.insert(registration.account)
    session = await stored_session(tx, ada)
    assert await tx.sessions.revoke_by_id(session.id, user_id=eve.id) is None
    assert await tx.sessions.revoke_by_id(session.id, user_id=ada.id) is not None
    assert await tx.sessions.revoke_by_id(session.id, user_id=ada.id) is None


async def test_sign_ins_together_count_each_other(database_url: str, sql: Sql) -> None:
    """Eight at once with one session each at most: one is live. Seen to fail with GET for LOCK."""
    async with open_database(database_url, pool_size=8) as database:

        async def made(tx: Tx) -> User:
            assert isinstance(tx, PgTx)
            return await stored_user(tx)

        user = await database.run_tx(made)

        async def sign_in(tx: Tx) -> None:
            assert isinstance(tx, PgTx)
            assert await tx.users.lock(user.id) == user
            await stored_session(tx, user)
            await raw(tx).execute("SELECT pg_sleep(0.02)")
            await tx.sessions.end_oldest(user.id, kept=1)

        await asyncio.gather(*(database.run_tx(sign_in) for _ in range(8)))
        assert await sql.fetchval(LIVE) == 1
