"""The use cases that can make a cached answer wrong, each with the change that it leaves."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from tests.storage.database import (
    HOUR,
    KEYS,
    login_context,
    new_challenge,
    new_registration,
)
from watchword.audit.model import CLI
from watchword.crypto import CodeSource, MintedSession, parse_code, slot_of
from watchword.errors import (
    OtpInvalid,
    RoleExists,
    RoleNotFound,
    SessionInvalid,
)
from watchword.login.email_change import ConfirmEmailChangeCommand, confirm_email_change
from watchword.login.mutations import Mutation
from watchword.login.ports import Tx
from watchword.login.refresh import note_first_use, refresh_session
from watchword.login.revoke import RevokeScope, end_oldest, revoke
from watchword.login.role_admin import (
    assign_role,
    create_role,
    delete_role,
    unassign_role,
    update_role,
)
from watchword.login.user_admin import disable_user
from watchword.login.user_update import update_user
from watchword.otp.model import NewChallenge, Purpose
from watchword.sessions.model import Client, NewSession, SessionPolicy
from watchword.storage.transactions import PgDatabase
from watchword.users.model import EmailChange, User

Sql = asyncpg.Connection

OTHER_XMIN = "SELECT xmin::text FROM sessions WHERE revoke_time IS NOT NULL"
SESSION_XMIN = "SELECT xmin::text FROM sessions"
COLUMNS = "slot, kind, user_id, session_id, role, epoch, version, revoked"


@dataclass
class World:
    """A user with a session and a role that is not held, and a connection that looks."""

    database: PgDatabase
    sql: Sql
    user: User
    session: MintedSession
    wanted: CodeSource | None = None

    async def changes(self) -> list[tuple[Any, ...]]:
        """Every change without its time and id, the oldest first."""
        rows = await self.sql.fetch(f"SELECT {COLUMNS} FROM changes ORDER BY at, version")
        return [tuple(row) for row in rows]

    async def version(self) -> int:
        """The user's version."""
        return await self.sql.fetchval("SELECT version FROM users WHERE id = $1", self.user.id)

    async def revoke(
        self, session: MintedSession | None = None, target: RevokeScope | None = None
    ) -> int:
        """Revoke by a caller `tests`."""
        token = (session or self.session).token.reveal()
        target = RevokeScope.THIS if target is None else target
        context = login_context(self.database)
        revoked = await revoke(context, token, target=target, caller="tests")
        return revoked.count

    async def refresh(self) -> bool:
        """RefreshSession by a caller `tests`; False for SESSION_INVALID."""
        context = login_context(self.database)
        client = Client(caller="tests")
        try:
            await refresh_session(context, self.session.token.reveal(), client=client)
        except SessionInvalid:
            return False
        return True

    async def end_oldest(self) -> bool:
        """What a sign-in ends that is one too many; whether that was anything."""
        context = login_context(self.database, sessions=SessionPolicy(max_per_user=1))
        user_id = self.user.id
        change = await self.database.run_tx(
            lambda tx: end_oldest(context, tx, user_id, caller="tests")
        )
        return change is not None

    async def done(self, mutation: Awaitable[Mutation]) -> tuple[bool, int]:
        """Whether it has changed something, and what it counts."""
        try:
            done = await mutation
        except (RoleExists, RoleNotFound):
            return False, 0
        return done.done, done.count

    async def update(self) -> tuple[bool, int]:
        """UpdateUser with another name."""
        fields = {"full_name": "Countess"}
        updated = await update_user(self.database, KEYS, self.user.id, fields, actor=CLI)
        return updated.mutation.done, updated.mutation.count

    async def want_address(self) -> CodeSource:
        """The user wants another address; what its code is derived from."""
        source = replace(new_challenge("new").source, purpose=Purpose.EMAIL_CHANGE)
        user_id = self.user.id
        wanted = EmailChange(source.challenge_id, user_id, "new@example.com")

        async def statements(tx: Tx) -> None:
            await tx.challenges.insert(NewChallenge(source, 6, HOUR, changes_user_id=user_id))
            await tx.email_changes.begin(wanted, lifetime=HOUR)

        await self.database.run_tx(statements)
        return source

    async def change_address(self) -> bool:
        """ConfirmEmailChange by a caller `tests`; False for OTP_INVALID."""
        assert self.wanted is not None
        code = parse_code(KEYS.derive_code(self.wanted, length=6).reveal())
        assert code is not None
        command = ConfirmEmailChangeCommand(
            session_token=self.session.token.reveal(),
            challenge_id=self.wanted.challenge_id,
            code=code,
            client=Client(caller="tests"),
        )
        try:
            await confirm_email_change(login_context(self.database), command)
        except OtpInvalid:
            return False
        return True

    async def use_first(self) -> None:
        """The present secret is seen in use."""
        session = self.session
        await note_first_use(self.database, None, session.session_id, session.verifier)


async def stored_session(tx: Tx, user: User) -> MintedSession:
    """A session of an hour."""
    minted = KEYS.mint_session(slot_of(user.id))
    await tx.sessions.insert(
        NewSession(minted.session_id, user.id, minted.verifier, minted.key_id, 0, HOUR, Client())
    )
    return minted


async def world_on(database: PgDatabase, sql: Sql) -> World:
    """Ada, whose sessions have the epoch 3 and whose version is 40."""
    user = await database.run_statement(lambda tx: tx.users.insert(new_registration().account))
    session = await database.run_statement(lambda tx: stored_session(tx, user))
    await sql.execute("UPDATE users SET version = 40, auth_epoch = 3")
    await sql.execute("UPDATE sessions SET epoch = 3")
    await sql.execute("INSERT INTO roles (name, create_time) VALUES ('auditor', now())")
    return World(database, sql, user, session)


async def hold(world: World) -> None:
    """The user holds the role already, by no use case."""
    await world.sql.execute(
        "INSERT INTO user_roles (slot, user_id, role, create_time) VALUES ($1, $2, $3, now())",
        slot_of(world.user.id),
        world.user.id,
        "auditor",
    )


async def one_more(world: World) -> None:
    """The user has another session."""
    await world.database.run_statement(lambda tx: stored_session(tx, world.user))
    await world.sql.execute("UPDATE sessions SET epoch = 3")


async def replace_secret(world: World) -> None:
    """The session has another secret by now, and the first one is not even the previous."""
    await world.sql.execute("UPDATE sessions SET verifier = $1, generation = 2", bytes(32))


async def had_another_secret(world: World) -> None:
    """The session's secret is its second, and was not used yet."""
    await world.sql.execute("UPDATE sessions SET previous_verifier = $1, generation = 1", bytes(32))


async def want_address(world: World) -> None:
    """Another address is wanted and its code known."""
    world.wanted = await world.want_address()


async def nothing(world: World) -> None:
    """Nothing to prepare."""


@dataclass(frozen=True)
class Scenario:
    """A use case: what comes before it, what it answers, and the row that it writes."""

    act: Callable[[World], Awaitable[object]]
    answer: object
    kind: str
    # Its xmin is the transaction of the mutation.
    written: str
    before: Callable[[World], Awaitable[None]] = nothing
    revoked: bool = False
    # Whether the second time is answered like the first.
    same_again: bool = False
    epoch: int = 3
    role: str = "new"

    def change(self, world: World) -> tuple[object, ...]:
        """The one change that it leaves."""
        id = world.user.id
        if self.kind == "role":
            return (0, "role", None, None, self.role, None, None, False)
        ended = world.session.session_id if self.kind == "session" else None
        return (slot_of(id), self.kind, id, ended, None, self.epoch, 41, self.revoked)


SCENARIOS = {
    "revoke": Scenario(lambda w: w.revoke(), 1, "session", SESSION_XMIN, revoked=True),
    "revoke others": Scenario(
        lambda w: w.revoke(target=RevokeScope.OTHERS), 1, "user", OTHER_XMIN, one_more
    ),
    "revoke all": Scenario(
        lambda w: w.revoke(target=RevokeScope.ALL),
        1,
        "user",
        "SELECT xmin::text FROM users",
        epoch=4,
    ),
    "one too many": Scenario(lambda w: w.end_oldest(), True, "user", OTHER_XMIN, one_more),
    "disable": Scenario(
        lambda w: w.done(disable_user(w.database, w.user.id, actor=CLI)),
        (True, 1),
        "user",
        "SELECT xmin::text FROM users",
        epoch=4,
    ),
    "refresh": Scenario(lambda w: w.refresh(), True, "session", SESSION_XMIN, same_again=True),
    "stolen": Scenario(
        lambda w: w.refresh(),
        False,
        "session",
        SESSION_XMIN,
        replace_secret,
        revoked=True,
        same_again=True,
    ),
    "first use": Scenario(
        lambda w: w.use_first(),
        None,
        "session",
        SESSION_XMIN,
        had_another_secret,
        same_again=True,
    ),
    "assign": Scenario(
        lambda w: w.done(assign_role(w.database, "auditor", w.user.id, actor=CLI)),
        (True, 0),
        "user",
        "SELECT xmin::text FROM user_roles",
    ),
    "unassign": Scenario(
        lambda w: w.done(unassign_role(w.database, "auditor", w.user.id, actor=CLI)),
        (True, 0),
        "user",
        # The row is gone, with the transaction that raised the version.
        "SELECT xmin::text FROM users WHERE NOT EXISTS (SELECT 1 FROM user_roles)",
        hold,
    ),
    "update role": Scenario(
        lambda w: w.done(update_role(w.database, "auditor", ["write"], actor=CLI)),
        (True, 0),
        "role",
        "SELECT xmin::text FROM role_permissions",
        role="auditor",
    ),
    "delete role": Scenario(
        lambda w: w.done(delete_role(w.database, "auditor", actor=CLI)),
        (True, 0),
        "role",
        # The row is gone, with the transaction of its event.
        "SELECT xmin::text FROM audit_events WHERE NOT EXISTS (SELECT 1 FROM roles)",
        role="auditor",
    ),
    "update user": Scenario(
        lambda w: w.update(),
        (True, 0),
        "user",
        "SELECT xmin::text FROM users",
    ),
    "another address": Scenario(
        lambda w: w.change_address(), True, "user", "SELECT xmin::text FROM users", want_address
    ),
    "create role": Scenario(
        lambda w: w.done(create_role(w.database, "new", ["read"], actor=CLI)),
        (True, 0),
        "role",
        "SELECT xmin::text FROM role_permissions",
    ),
}
