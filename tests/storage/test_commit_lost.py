"""The connection is lost in COMMIT, or in the statement that charges an attempt.

The answer is true in both: what was committed is answered as done, anything else is UNAVAILABLE,
and no code is worth two sign-ins.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest

from tests.storage.database import KEYS, login_context, open_database
from tests.support.cutting_proxy import Cut, CuttingProxy
from watchword.crypto import CodeSource, KeyRing, PresentedCode, parse_code
from watchword.errors import CommitOutcomeUnknown, OtpInvalid, StorageUnavailable
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.login.register import RegisterCommand, Registered, register
from watchword.login.revoke import RevokeScope, revoke
from watchword.login.send_otp import SendOtpCommand, send_otp
from watchword.login.sessions import live_session
from watchword.login.verify_otp import SignedIn, VerifyOtpCommand, verify_otp
from watchword.sessions.model import Client
from watchword.storage.otp import source_of
from watchword.storage.transactions import PgDatabase
from watchword.users.model import EmailAddress

Sql = asyncpg.Connection

ADA = EmailAddress("ada@example.com", "ada@example.com")
TABLES = ("identifiers", "registrations", "users", "sessions", "challenges", "outbox")
ROLE = "auditor"
# With the semicolon: BEGIN names READ COMMITTED.
COMMIT = "COMMIT;"


class WatchedKeys:
    """The key ring of the tests, and how many codes it was asked to compare."""

    def __init__(self) -> None:
        self.compared = 0

    def check_code(self, presented: PresentedCode, sources: Sequence[CodeSource]) -> int | None:
        self.compared += len(sources)
        return KEYS.check_code(presented, sources)

    def __getattr__(self, name: str) -> object:
        return getattr(KEYS, name)


@dataclass
class World:
    """A database behind a proxy, the use cases on it, and a connection past the proxy."""

    proxy: CuttingProxy
    database: PgDatabase
    ctx: LoginContext
    keys: WatchedKeys
    sql: Sql
    mails: list[str] = field(default_factory=list)

    async def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return {t: await self.sql.fetchval(f"SELECT count(*) FROM {t}") for t in TABLES}

    async def code_of(self, challenge_id: UUID) -> PresentedCode:
        """The code that the challenge's mail has."""
        row = await self.sql.fetchrow(
            "SELECT id AS challenge_id, purpose, subject_key, nonce, key_id"
            " FROM challenges WHERE id = $1",
            challenge_id,
        )
        code = parse_code(KEYS.derive_code(source_of(row), length=6).reveal())
        assert code is not None
        return code

    async def attempts(self) -> list[tuple[int, int]]:
        """Both lanes of each challenge."""
        rows = await self.sql.fetch("SELECT attempts, attempts_by_email FROM challenges")
        return [(row["attempts"], row["attempts_by_email"]) for row in rows]

    async def registered(self) -> Registered:
        """Ada registers and asks for a code."""
        command = RegisterCommand(
            full_name="Ada",
            username="ada",
            email=ADA,
            locale=None,
            send_otp=True,
            client=Client(),
        )
        return await register(self.ctx, command)

    async def sign_in(self, challenge_id: UUID) -> SignedIn:
        """VerifyOtp with the right code."""
        code = await self.code_of(challenge_id)
        command = VerifyOtpCommand(target=challenge_id, code=code, client=Client())
        return await verify_otp(self.ctx, command)


@pytest.fixture
async def world(database_url: str, sql: Sql) -> AsyncIterator[World]:
    """Everything through one connection, which the proxy cuts when it is armed."""
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        keys, mails = WatchedKeys(), list[str]()
        ring: KeyRing = keys  # type: ignore[assignment]  # it is one in all that is called
        ctx = login_context(database, keys=ring, mail_queued=lambda: mails.append("queued"))
        yield World(proxy, database, ctx, keys, sql, mails)


async def make_role(tx: Tx) -> str:
    """Makes a role and returns something that only this attempt knows."""
    assert await tx.roles.create(ROLE, permissions=["read"])
    return "made"


def role_exists(tx: Tx, result: str) -> Awaitable[bool]:
    """The look-up after a lost COMMIT."""
    assert result == "made"
    return tx.roles.exists(ROLE)


@pytest.mark.parametrize("cut", Cut)
async def test_the_look_up_decides_what_a_lost_commit_answers(world: World, cut: Cut) -> None:
    """With `committed`, a commit that was taken is answered as such, and no other is."""
    world.proxy.arm(COMMIT, cut)
    if cut is Cut.AFTER:
        assert await world.database.run_tx(make_role, committed=role_exists) == "made"
    else:
        with pytest.raises(CommitOutcomeUnknown):
            await world.database.run_tx(make_role, committed=role_exists)
    assert world.proxy.has_cut
    there = await world.sql.fetchval("SELECT count(*) FROM role_permissions")
    assert there == (cut is Cut.AFTER)
    assert world.proxy.seen[COMMIT] == 1, "a COMMIT of unknown outcome is never run again"


@pytest.mark.parametrize("cut", Cut)
async def test_without_a_look_up_the_outcome_is_unknown(world: World, cut: Cut) -> None:
    """Without `committed` nobody can tell, so nobody does."""
    world.proxy.arm(COMMIT, cut)
    with pytest.raises(CommitOutcomeUnknown):
        await world.database.run_tx(make_role)
    there = await world.sql.fetchval("SELECT count(*) FROM roles")
    assert there == (cut is Cut.AFTER)


async def test_a_look_up_that_fails_is_unavailable(world: World) -> None:
    """When the new connection is lost too, the answer is UNAVAILABLE, whatever was committed."""

    async def look(tx: Tx, result: str) -> bool:
        world.proxy.arm("FROM roles", Cut.BEFORE)
        return await role_exists(tx, result)

    world.proxy.arm(COMMIT, Cut.AFTER)
    with pytest.raises(StorageUnavailable):
        await world.database.run_tx(make_role, committed=look)


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO role_permissions"])
@pytest.mark.parametrize("cut", Cut)
async def test_a_connection_lost_before_commit_is_plainly_unavailable(
    world: World, cut: Cut, statement: str
) -> None:
    """Before COMMIT was sent there is no doubt: nothing was written and nothing is looked up."""

    async def look(tx: Tx, result: str) -> bool:
        raise AssertionError("nothing to look up")

    world.proxy.arm(statement, cut)
    with pytest.raises(StorageUnavailable) as caught:
        await world.database.run_tx(make_role, committed=look)
    assert type(caught.value) is StorageUnavailable
    assert world.proxy.has_cut
    assert await world.sql.fetchval("SELECT count(*) FROM roles") == 0


async def test_register_answers_what_was_committed(world: World) -> None:
    """A lost answer to a COMMIT that was taken is a registration whose code signs in."""
    world.proxy.arm(COMMIT, Cut.AFTER)
    registered = await world.registered()
    assert world.proxy.has_cut
    assert registered.challenge is not None
    assert await world.counts() == {
        **dict.fromkeys(TABLES, 0),
        **dict.fromkeys(("identifiers", "registrations", "challenges", "outbox"), 1),
    }
    assert world.mails == ["queued"]
    assert (await world.sign_in(registered.challenge.id)).user.id == registered.user_id


async def test_register_writes_nothing_without_its_commit(world: World) -> None:
    """A COMMIT that never arrived is UNAVAILABLE, no row stays, and the username is still free."""
    world.proxy.arm(COMMIT, Cut.BEFORE)
    with pytest.raises(CommitOutcomeUnknown):
        await world.registered()
    assert world.proxy.has_cut
    assert await world.counts() == dict.fromkeys(TABLES, 0)
    assert world.mails == []
    await world.registered()


def _asked_for(target: EmailAddress | UUID) -> SendOtpCommand:
    return SendOtpCommand(target=target, locale=None, client=Client())


async def test_send_otp_answers_what_was_committed(world: World) -> None:
    """A lost answer to a COMMIT that was taken is a challenge whose code signs in."""
    await world.registered()
    world.proxy.arm(COMMIT, Cut.AFTER)
    issued = await send_otp(world.ctx, _asked_for(ADA))
    assert world.proxy.has_cut
    counts = await world.counts()
    assert (counts["challenges"], counts["outbox"]) == (2, 2)
    assert world.mails == ["queued"] * 2
    assert (await world.sign_in(issued.id)).first_sign_in


async def test_send_otp_writes_nothing_without_its_commit(world: World) -> None:
    """A COMMIT that never arrived is UNAVAILABLE, and nothing is mailed."""
    await world.registered()
    before = await world.counts()
    world.proxy.arm(COMMIT, Cut.BEFORE)
    with pytest.raises(CommitOutcomeUnknown):
        await send_otp(world.ctx, _asked_for(ADA))
    assert world.proxy.has_cut
    assert await world.counts() == before
    assert world.mails == ["queued"]


@pytest.mark.parametrize("cut", Cut)
async def test_a_resend_of_unknown_outcome_is_unavailable(world: World, cut: Cut) -> None:
    """Asking again mails the same code at worst twice, so nothing is looked up."""
    registered = await world.registered()
    assert registered.challenge is not None
    world.proxy.arm(COMMIT, cut)
    with pytest.raises(StorageUnavailable):
        await send_otp(world.ctx, _asked_for(registered.challenge.id))
    assert (await world.counts())["outbox"] == (2 if cut is Cut.AFTER else 1)
    assert await world.attempts() == [(0, 0)]


async def test_verify_otp_answers_what_was_committed(world: World) -> None:
    """Guards against a sign-in that happened and was denied: the token of the answer is good, it
    can be revoked, and the code is spent.
    """
    registered = await world.registered()
    assert registered.challenge is not None
    world.proxy.arm(COMMIT, Cut.AFTER)
    signed_in = await world.sign_in(registered.challenge.id)
    assert world.proxy.has_cut
    token = signed_in.token.reveal()
    live = await live_session(world.ctx, token)
    assert (live.session, live.user) == (signed_in.session, signed_in.user)
    with pytest.raises(OtpInvalid):
        await world.sign_in(registered.challenge.id)
    assert (await world.counts())["sessions"] == 1
    assert (await revoke(world.ctx, token, target=RevokeScope.THIS, caller="tests")).count == 1


async def test_verify_otp_writes_nothing_without_its_commit(world: World) -> None:
    """Guards against a code spent for nothing and one worth two sessions: after the outage the
    same code signs in once, and its failed use was counted.
    """
    registered = await world.registered()
    assert registered.challenge is not None
    world.proxy.arm(COMMIT, Cut.BEFORE)
    with pytest.raises(CommitOutcomeUnknown):
        await world.sign_in(registered.challenge.id)
    assert world.proxy.has_cut
    counts = await world.counts()
    assert (counts["sessions"], counts["users"]) == (0, 0)
    assert await world.attempts() == [(1, 0)]
    assert (await world.sign_in(registered.challenge.id)).first_sign_in
    with pytest.raises(OtpInvalid):
        await world.sign_in(registered.challenge.id)
    assert (await world.counts())["sessions"] == 1


def by_id(registered: Registered) -> UUID | EmailAddress:
    """The lane of callers that keep the handle."""
    assert registered.challenge is not None
    return registered.challenge.id


def by_email(registered: Registered) -> UUID | EmailAddress:
    """The lane of callers that do not."""
    return ADA


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize(
    ("target", "statement"),
    [(by_id, "SET attempts = "), (by_email, "SET attempts_by_email = ")],
)
async def test_a_charge_of_unknown_outcome_compares_nothing(
    world: World, cut: Cut, target: Callable[[Registered], UUID | EmailAddress], statement: str
) -> None:
    """Guards the order of VerifyOtp: a guess whose charge may be lost is not compared, and it
    costs one attempt at most.
    """
    registered = await world.registered()
    assert registered.challenge is not None
    code = await world.code_of(registered.challenge.id)
    command = VerifyOtpCommand(target=target(registered), code=code, client=Client())
    world.proxy.arm(statement, cut)
    with pytest.raises(StorageUnavailable):
        await verify_otp(world.ctx, command)
    assert world.proxy.has_cut
    assert world.keys.compared == 0
    charged = 1 if cut is Cut.AFTER else 0
    assert await world.attempts() == [(charged, 0) if target is by_id else (0, charged)]
    assert (await world.counts())["sessions"] == 0
    assert (await verify_otp(world.ctx, command)).first_sign_in
    assert world.keys.compared == 1


@pytest.mark.parametrize("cut", Cut)
async def test_a_sign_in_that_breaks_off_spends_nothing_but_the_attempt(
    world: World, cut: Cut
) -> None:
    """A connection lost at the consuming statement leaves the challenge live for another try."""
    registered = await world.registered()
    assert registered.challenge is not None
    world.proxy.arm("SET consume_time = ", cut)
    with pytest.raises(StorageUnavailable):
        await world.sign_in(registered.challenge.id)
    assert world.proxy.has_cut
    assert await world.attempts() == [(1, 0)]
    assert (await world.sign_in(registered.challenge.id)).first_sign_in
