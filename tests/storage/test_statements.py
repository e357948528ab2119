"""The stores of users, registrations and sessions: constraints and statements, one by one."""

from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from tests.storage.database import HOUR, LIFETIME, new_registration, subject
from tests.support.age import age
from watchword.crypto import new_id, new_user_id, slot_of
from watchword.sessions.model import Client, NewSession, Secrets, Session
from watchword.storage.transactions import PgTx
from watchword.users.model import User, UserState

Sql = asyncpg.Connection

VERIFIER = bytes(range(32))
SECOND = timedelta(seconds=1)


async def stored_user(tx: PgTx, name: str = "ada") -> User:
    """A user with both identifiers, as VerifyOtp makes one."""
    registration = new_registration(name)
    assert await tx.registrations.hold_username(
        registration.username, subject_key=registration.subject_key, lifetime=HOUR
    )
    user = await tx.users.insert(registration.account)
    assert await tx.users.claim_email(registration.email, user_id=user.id)
    assert await tx.users.claim_username(
        registration.username, user_id=user.id, subject_key=registration.subject_key
    )
    return user


async def stored_session(tx: PgTx, user: User, *, epoch: int = 0) -> Session:
    """A session of the user."""
    return await tx.sessions.insert(
        NewSession(
            id=new_id(slot_of(user.id)),
            user_id=user.id,
            verifier=VERIFIER,
            key_id=1,
            epoch=epoch,
            lifetime=HOUR,
            client=Client("192.0.2.1", "curl", "laptop"),
        )
    )


async def hold(tx: PgTx, name: str = "ada", *, lifetime: timedelta = HOUR) -> bool:
    """Holds the username `x` for `<name>@example.com`."""
    return await tx.registrations.hold_username("x", subject_key=subject(name), lifetime=lifetime)


async def hold_left(sql: Sql) -> timedelta:
    """How long the hold on `x` has left, to the second."""
    seconds = await sql.fetchval(
        "SELECT hold_expire_us / 1e6 - extract(epoch FROM now()) FROM identifiers"
        " WHERE kind = 'username' AND value = 'x'"
    )
    return timedelta(seconds=round(seconds))


async def test_a_hold_belongs_to_a_subject(tx: PgTx) -> None:
    """The same subject takes its hold over, another is refused."""
    assert await hold(tx)
    assert await hold(tx)
    assert not await hold(tx, "eve")


async def test_a_refused_hold_changes_nothing(tx: PgTx, sql: Sql) -> None:
    """Somebody else's attempt neither takes nor prolongs the hold."""
    await hold(tx)
    before = await sql.fetch("SELECT * FROM identifiers")
    assert not await hold(tx, "eve", lifetime=HOUR * 2)
    assert await sql.fetch("SELECT * FROM identifiers") == before


async def test_a_hold_that_has_ended_is_anybodys(tx: PgTx, database_url: str) -> None:
    """A second before its end it is the holder's; after it the next subject takes it."""
    await hold(tx)
    await age(database_url, HOUR - 5 * SECOND)
    assert not await hold(tx, "eve")
    await age(database_url, 5 * SECOND)
    # The end is the hold's, not that of the one who asks.
    assert await hold(tx, "eve", lifetime=HOUR * 24)
    assert not await hold(tx)


async def test_an_owned_username_is_never_held(tx: PgTx, database_url: str) -> None:
    """Neither its owner nor anybody else holds it, however long ago it was claimed."""
    user = await stored_user(tx)
    await age(database_url, HOUR * 1000)
    for name in ("ada", "eve"):
        assert not await tx.registrations.hold_username(
            "ada", subject_key=subject(name), lifetime=HOUR
        )
    assert await tx.users.find_by_username("ada") == user.id


async def test_extending_moves_a_hold_forward_only(tx: PgTx, sql: Sql) -> None:
    """A hold that ends later stays, one that ends sooner is prolonged, a stranger's is let be."""
    await hold(tx)
    await tx.registrations.extend_hold("x", subject_key=subject(), lifetime=LIFETIME)
    assert await hold_left(sql) == HOUR
    await tx.registrations.extend_hold("x", subject_key=subject(), lifetime=HOUR * 2)
    assert await hold_left(sql) == HOUR * 2
    await tx.registrations.extend_hold("x", subject_key=subject("eve"), lifetime=HOUR * 3)
    assert await hold_left(sql) == HOUR * 2


async def test_a_username_is_claimed_by_its_holder_once(tx: PgTx) -> None:
    """Only the holding subject makes it its own; a hold does not lead to a user."""
    ada, eve = new_user_id(), new_user_id()
    assert not await tx.users.claim_username("x", user_id=ada, subject_key=subject())
    await hold(tx)
    assert await tx.users.find_by_username("x") is None
    assert not await tx.users.claim_username("x", user_id=eve, subject_key=subject("eve"))
    assert await tx.users.claim_username("x", user_id=ada, subject_key=subject())
    assert not await tx.users.claim_username("x", user_id=eve, subject_key=subject())
    assert await tx.users.find_by_username("x") == ada
    assert await tx.users.find_by_email("x") is None, "the kinds are apart"


async def test_an_address_is_claimed_once(tx: PgTx) -> None:
    """The first claim stands."""
    ada, eve = new_user_id(), new_user_id()
    assert await tx.users.claim_email("ada@example.com", user_id=ada)
    assert not await tx.users.claim_email("ada@example.com", user_id=eve)
    assert await tx.users.find_by_email("ada@example.com") == ada
    assert await tx.users.find_by_email("eve@example.com") is None


async def test_a_user_is_what_was_registered(tx: PgTx) -> None:
    """A new user has the id and fields of the registration, is active, and is found by its id."""
    registration = new_registration()
    user = await tx.users.insert(registration.account)
    assert user == User(
        registration.user_id, "ada", "Ada", "ada@example.com", "de", UserState.ACTIVE, 0
    )
    assert await tx.users.get(user.id) == user
    assert await tx.users.get(new_user_id()) is None


async def test_a_registration_is_found_live_or_not(tx: PgTx, database_url: str) -> None:
    """`get` and `exists` answer for one that has ended too; the code's own end decides there."""
    registration = new_registration()
    assert not await tx.registrations.exists(registration.id)
    await tx.registrations.insert(registration, lifetime=HOUR)
    await age(database_url, HOUR * 2)
    assert await tx.registrations.get(registration.id) == registration
    assert await tx.registrations.exists(registration.id)
    assert await tx.registrations.get(new_id(1)) is None


async def test_the_newest_live_registration_is_bound(tx: PgTx, sql: Sql, database_url: str) -> None:
    """Of a subject's live registrations the newest; ended ones and strangers' are not looked at."""
    older, newer = new_registration(), new_registration(username="countess")
    await tx.registrations.insert(older, lifetime=HOUR * 2)
    await age(database_url, SECOND)
    await tx.registrations.insert(newer, lifetime=HOUR)
    await tx.registrations.insert(new_registration("eve"), lifetime=HOUR)
    assert await tx.registrations.bind_newest(subject(), lifetime=LIFETIME) == newer
    await sql.execute("UPDATE registrations SET expire_time = now() WHERE id = $1", newer.id)
    assert await tx.registrations.bind_newest(subject(), lifetime=LIFETIME) == older
    await age(database_url, HOUR * 2)
    assert await tx.registrations.bind_newest(subject(), lifetime=LIFETIME) is None


async def test_binding_moves_the_end_forward_only(tx: PgTx, sql: Sql) -> None:
    """A registration lives at least as long as the challenge that carries it."""
    left = "SELECT expire_time - create_time AS life FROM registrations"
    await tx.registrations.insert(new_registration(), lifetime=HOUR)
    await tx.registrations.bind_newest(subject(), lifetime=LIFETIME)
    assert await sql.fetchval(left) == HOUR
    await tx.registrations.bind_newest(subject(), lifetime=HOUR * 2)
    assert await sql.fetchval(left) - HOUR * 2 < timedelta(minutes=1)
    assert await sql.fetchval(left) > HOUR * 2


async def test_a_live_session_comes_with_its_user(tx: PgTx) -> None:
    """One look-up answers session, verifier, user, grants and the time that it holds for."""
    user = await stored_user(tx)
    session = await stored_session(tx, user)
    assert session.expire_time - session.create_time == HOUR
    assert session.auth_time == session.create_time
    await tx.roles.create("auditor", permissions=["read"])
    await tx.roles.assign("auditor", user_id=user.id)
    found = await tx.live_sessions.find(session.id, idle_lifetime=HOUR)
    assert found is not None
    assert (found.session, found.user, found.secrets) == (session, user, Secrets(VERIFIER))
    assert (found.grants.roles, found.grants.permissions) == (("auditor",), ("read",))
    assert session.create_time < found.as_of_time < session.expire_time
    assert found.last_seen_time == session.create_time
    unknown = new_id(slot_of(user.id))
    assert await tx.live_sessions.find(unknown, idle_lifetime=HOUR) is None
    many, time = await tx.live_sessions.find_many([unknown, session.id], idle_lifetime=HOUR)
    assert many == {session.id: replace(found, as_of_time=time)}
    nothing, time = await tx.live_sessions.find_many([unknown], idle_lifetime=HOUR)
    assert (nothing, time >= found.as_of_time) == ({}, True)


async def test_many_sessions_come_each_with_its_user(tx: PgTx) -> None:
    """Two of one user and one of another: what one look-up finds of each, roles sorted."""
    ada, eve = await stored_user(tx), await stored_user(tx, "eve")
    sessions = [await stored_session(tx, user) for user in (ada, eve, ada)]
    for role in ("writer", "auditor", "Reader"):
        await tx.roles.create(role.lower(), permissions=["b:x", "a:x", role.lower()])
        await tx.roles.assign(role.lower(), user_id=ada.id)
    many, time = await tx.live_sessions.find_many(
        [session.id for session in sessions], idle_lifetime=HOUR
    )
    for session in sessions:
        found = await tx.live_sessions.find(session.id, idle_lifetime=HOUR)
        assert found is not None
        assert many.pop(session.id) == replace(found, as_of_time=time)
    assert many == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET revoke_time = now()",
        "UPDATE sessions SET expire_time = now()",
        "UPDATE sessions SET last_seen_time = now() - interval '1 hour'",
        "UPDATE users SET auth_epoch = auth_epoch + 1",
        "UPDATE users SET state = 'disabled'",
        "DELETE FROM users",
    ],
)
async def test_a_dead_session_is_not_found(tx: PgTx, sql: Sql, statement: str) -> None:
    """Revoked, expired, idle, below the epoch, disabled, deleted: no session."""
    session = await stored_session(tx, await stored_user(tx))
    assert await tx.live_sessions.find(session.id, idle_lifetime=HOUR) is not None
    await sql.execute(statement)
    assert await tx.live_sessions.find(session.id, idle_lifetime=HOUR) is None
    assert (await tx.live_sessions.find_many([session.id], idle_lifetime=HOUR))[0] == {}


async def test_a_session_of_the_present_epoch_lives(tx: PgTx, sql: Sql) -> None:
    """Sessions begun after a log-out-everywhere are not below the epoch."""
    user = await stored_user(tx)
    await sql.execute("UPDATE users SET auth_epoch = 3")
    for epoch, lives in ((2, False), (3, True), (4, True)):
        session = await stored_session(tx, user, epoch=epoch)
        assert (await tx.live_sessions.find(session.id, idle_lifetime=HOUR) is not None) is lives
        assert (
            session.id in (await tx.live_sessions.find_many([session.id], idle_lifetime=HOUR))[0]
        ) is lives


async def test_a_session_is_revoked_once_and_by_its_token(
    tx: PgTx, sql: Sql, database_url: str
) -> None:
    """Another verifier, another id, a second time, after its end: nothing is revoked."""
    user = await stored_user(tx)
    session = await stored_session(tx, user)
    other = await stored_session(tx, user)
    assert not await tx.sessions.revoke(session.id, verifier=bytes(32))
    assert not await tx.sessions.revoke(new_id(slot_of(user.id)), verifier=VERIFIER)
    assert await tx.sessions.revoke(session.id, verifier=VERIFIER)
    assert not await tx.sessions.revoke(session.id, verifier=VERIFIER)
    assert await sql.fetchval("SELECT count(*) FROM sessions WHERE revoke_time IS NOT NULL") == 1
    await age(database_url, HOUR)
    assert not await tx.sessions.revoke(other.id, verifier=VERIFIER)
    assert await tx.sessions.exists(other.id)
    assert not await tx.sessions.exists(new_id(slot_of(user.id)))


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE users SET state = 'away'", asyncpg.CheckViolationError),
        ("UPDATE users SET slot = 4096", asyncpg.CheckViolationError),
        ("UPDATE users SET slot = -1", asyncpg.CheckViolationError),
        ("UPDATE sessions SET user_id = gen_random_uuid()", asyncpg.ForeignKeyViolationError),
        ("UPDATE identifiers SET kind = 'phone'", asyncpg.CheckViolationError),
        ("UPDATE identifiers SET user_id = NULL", asyncpg.CheckViolationError),
        ("UPDATE identifiers SET hold_expire_us = 1", asyncpg.CheckViolationError),
        ("UPDATE identifiers SET hold_subject_key = 'x'", asyncpg.CheckViolationError),
        ("UPDATE identifiers SET kind = 'email', value = 'x'", asyncpg.UniqueViolationError),
        ("INSERT INTO roles SELECT name, now() FROM roles", asyncpg.UniqueViolationError),
        ("UPDATE role_permissions SET role = 'none'", asyncpg.ForeignKeyViolationError),
        ("UPDATE user_roles SET user_id = gen_random_uuid()", asyncpg.ForeignKeyViolationError),
    ],
)
async def test_the_tables_refuse_what_makes_no_sense(
    tx: PgTx, sql: Sql, statement: str, error: type[Exception]
) -> None:
    """An identifier is owned or held, slots are 0..4095, a reference leads somewhere."""
    user = await stored_user(tx)
    await stored_session(tx, user)
    await tx.roles.create("auditor", permissions=["read"])
    await tx.roles.assign("auditor", user_id=user.id)
    with pytest.raises(error):
        await sql.execute(statement)


async def test_a_deleted_user_takes_sessions_and_roles_along(tx: PgTx, sql: Sql) -> None:
    """No session or assignment is left of a user who is gone."""
    user = await stored_user(tx)
    await stored_session(tx, user)
    await tx.roles.create("auditor", permissions=[])
    await tx.roles.assign("auditor", user_id=user.id)
    await sql.execute("DELETE FROM users")
    for table in ("sessions", "user_roles"):
        assert await sql.fetchval(f"SELECT count(*) FROM {table}") == 0
