"""ValidateSession, BatchValidateSessions and GetRoles: what a token is asked for.

One look-up decides whether a session is live, LiveSessionStore: of one, of many, and for the gate,
which compares the secrets itself.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from watchword.clock import boottime_ns
from watchword.crypto import PresentedSession
from watchword.errors import (
    ReauthenticationNeeded,
    SessionInvalid,
    StorageUnavailable,
    UserNotFound,
)
from watchword.login.context import LoginContext
from watchword.login.ports import LiveSession, Tx
from watchword.roles.model import Grants
from watchword.sessions.model import Session
from watchword.sessions.refresh import Presented, is_first_use, judge

T = TypeVar("T")
# How old a yes may be (docs/validation.md): as long as the gate's lease. Nanoseconds.
AGE_MAX_NS: Final = 1_000_000_000


async def live_session(
    ctx: LoginContext, token: str, *, max_auth_age: timedelta | None = None
) -> LiveSession:
    """Returns the token's session, user and grants of this moment; raises SessionInvalid, and
    ReauthenticationNeeded when the user proved the address longer ago than `max_auth_age`.

    A token that was not minted here is refused by its tag, without a statement.
    """
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        raise SessionInvalid
    idle_lifetime = ctx.sessions.idle_lifetime
    found = await _young(
        ctx.database.run_statement(
            lambda tx: tx.live_sessions.find(presented.session_id, idle_lifetime=idle_lifetime)
        )
    )
    live = _verified(ctx, presented, found)
    if live is None:
        raise SessionInvalid
    if max_auth_age is not None and live.as_of_time - live.session.auth_time > max_auth_age:
        raise ReauthenticationNeeded
    return live


@dataclass(frozen=True, slots=True)
class Checked:
    """For each token its live session or None, and when; no time if the database was not asked."""

    sessions: list[LiveSession | None]
    as_of_time: datetime | None


async def live_sessions(ctx: LoginContext, tokens: Sequence[str]) -> Checked:
    """Returns for each token what `live_session` does, and None where that raises SessionInvalid.

    One statement for all of them, none when no tag is right.
    """
    presented = [ctx.keys.parse_session_token(token) for token in tokens]
    ids = sorted({one.session_id for one in presented if one is not None})
    if not ids:
        return Checked([None] * len(tokens), None)
    idle_lifetime = ctx.sessions.idle_lifetime
    found, time = await _young(
        ctx.database.run_statement(
            lambda tx: tx.live_sessions.find_many(ids, idle_lifetime=idle_lifetime)
        )
    )
    live = [
        None if one is None else _verified(ctx, one, found.get(one.session_id)) for one in presented
    ]
    return Checked(live, time)


async def read_by_id(ctx: LoginContext, ids: Sequence[str]) -> Sequence[bytes]:
    """Returns those of the sessions that are live, as `SessionTurn.take_rows` takes them.

    Whose secret it is, is not asked.
    """
    idle_lifetime = ctx.sessions.idle_lifetime
    return await ctx.database.run_statement(
        lambda tx: tx.live_sessions.read_many(ids, idle_lifetime=idle_lifetime)
    )


async def _young(read: Awaitable[T]) -> T:
    """Returns what was read, unless that may be too old by now: raises StorageUnavailable.

    However it came: the statement was slow, or this process was stopped after it.
    """
    began = boottime_ns()
    found = await read
    if boottime_ns() - began > AGE_MAX_NS:
        raise StorageUnavailable
    return found


def _verified(
    ctx: LoginContext, presented: PresentedSession, found: LiveSession | None
) -> LiveSession | None:
    """Compares the secrets, and notes that the session was used; None for another secret."""
    if found is None:
        return None
    seen = found.as_of_time
    which = judge(found.secrets, presented.verifier, at=seen)
    if which is Presented.NEITHER:
        return None
    if is_first_use(found.secrets, which):
        ctx.first_uses.add(found.session.id, found.secrets.verifier)
    ctx.last_seen.note(found.session.id, stored=found.last_seen_time, seen=seen)
    return found


async def presented_session(
    ctx: LoginContext, tx: Tx, presented: PresentedSession
) -> Session | None:
    """Returns the live session of a token within a transaction; None when there is none."""
    found = await tx.rotations.find(presented.session_id, idle_lifetime=ctx.sessions.idle_lifetime)
    if found is None:
        return None
    which = judge(found.secrets, presented.verifier, at=found.as_of_time)
    return None if which is Presented.NEITHER else found.session


async def roles_of_user(ctx: LoginContext, user_id: UUID) -> tuple[Grants, datetime]:
    """Returns what an active user may do, and when; raises UserNotFound for any other id."""

    async def statements(tx: Tx) -> tuple[Grants, datetime]:
        user = await tx.users.get(user_id)
        if user is None or not user.active:
            raise UserNotFound
        return await tx.roles.grants_at(user_id)

    return await ctx.database.run_tx(statements)
