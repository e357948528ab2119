"""Revoke: the end of the token's session, of another one of its user, or of all of them."""

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from watchword.audit.model import Action
from watchword.changes.model import Change
from watchword.crypto import PresentedSession
from watchword.login import auditing, changes
from watchword.login.context import LoginContext
from watchword.login.mutations import Mutation, mutate
from watchword.login.ports import Tx
from watchword.login.sessions import presented_session
from watchword.sessions.model import ChangedSession, EndedSessions


class RevokeScope(Enum):
    """Which sessions of a user."""

    THIS = "this"
    OTHERS = "others"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many sessions were ended, and the change token of that; empty for none."""

    count: int
    change_token: str


_NOTHING_REVOKED = Revoked(0, "")


async def revoke(
    ctx: LoginContext, token: str, *, target: RevokeScope | UUID, caller: str
) -> Revoked:
    """Ends sessions of the token's user: some by scope, or one by its id (RFC 7009 2.2).

    A token that is not live ends nothing, nor does the id of anybody else's session.
    """
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        return _NOTHING_REVOKED

    ended = await mutate(ctx.database, lambda tx: _end(ctx, tx, presented, target, caller))
    if ended is None:
        return _NOTHING_REVOKED
    ctx.tell_cache(ended.change)
    return Revoked(ended.count, changes.token_of(ctx.keys, ended.change))


async def end_oldest(ctx: LoginContext, tx: Tx, user_id: UUID, *, caller: str) -> Change | None:
    """Ends the sessions that a user, who is locked, has too many of after a sign-in."""
    oldest = await tx.sessions.end_oldest(user_id, kept=ctx.sessions.max_per_user)
    ended = _many(Action.END_OLDEST_SESSIONS, oldest, caller)
    if ended is None:
        return None
    assert ended.event is not None
    await tx.audit.put(ended.event)
    await tx.changes.put(ended.change)
    return ended.change


async def _end(
    ctx: LoginContext,
    tx: Tx,
    presented: PresentedSession,
    target: RevokeScope | UUID,
    caller: str,
) -> Mutation | None:
    if target is RevokeScope.THIS:
        # One statement; a session that is only idle is ended, too.
        ended = await tx.sessions.revoke(presented.session_id, verifier=presented.verifier)
        return _one(ended, caller)
    session = await presented_session(ctx, tx, presented)
    if session is None:
        return None
    user_id = session.user_id
    if isinstance(target, UUID):
        return _one(await tx.sessions.revoke_by_id(target, user_id=user_id), caller)
    if target is RevokeScope.OTHERS:
        others = await tx.sessions.revoke_others(user_id, spared=session.id)
        return _many(Action.REVOKE_OTHERS, others, caller)
    # Locked before they are counted: whoever was faster has ended some of them, or the user.
    if await tx.users.lock(user_id) is None:
        return None
    return _many(Action.REVOKE_ALL, await tx.sessions.revoke_all(user_id), caller)


def _one(ended: ChangedSession | None, caller: str) -> Mutation | None:
    if ended is None:
        return None
    event = auditing.revoked(ended.id, ended.user_id, caller=caller)
    return Mutation(changes.session_revoked(ended), event, 1)


def _many(action: Action, ended: EndedSessions | None, caller: str) -> Mutation | None:
    if ended is None or ended.count == 0:
        return None
    event = auditing.user_changed(action, ended, actor=caller)
    return Mutation(changes.sessions_ended(ended), event, ended.count)
