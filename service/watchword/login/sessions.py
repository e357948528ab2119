"""ValidateSession, Revoke and GetRoles: what a token is asked for.

Every path goes through `live_session`: one place decides whether a session is live.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from watchword.audit.model import Event
from watchword.changes.model import Change
from watchword.crypto import verifier_matches
from watchword.errors import SessionInvalid, UserNotFound
from watchword.login import auditing, changes
from watchword.login.context import LoginContext
from watchword.login.ports import LiveSession, Tx
from watchword.roles.model import Grants


async def live_session(ctx: LoginContext, token: str) -> LiveSession:
    """Returns the token's session, user and grants of this moment; raises SessionInvalid.

    A token that was not minted here is refused by its tag, without a statement.
    """
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        raise SessionInvalid
    idle_lifetime = ctx.sessions.idle_lifetime
    found = await ctx.database.run_statement(
        lambda tx: tx.live_sessions.find(presented.session_id, idle_lifetime=idle_lifetime)
    )
    if found is None or not verifier_matches(presented.verifier, found.verifier):
        raise SessionInvalid
    return _seen(ctx, found)


def _seen(ctx: LoginContext, live: LiveSession) -> LiveSession:
    """Notes that the session was used, after its secret has been compared."""
    noted = ctx.last_seen.note(live.session.id, stored=live.last_seen_time, seen=live.as_of_time)
    # The cache is filled with it and does not report the same use again.
    return replace(live, last_seen_time=live.as_of_time) if noted else live


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many sessions were ended, and the change token of that; empty for none."""

    count: int
    change_token: str


_NOTHING_REVOKED = Revoked(0, "")


async def revoke(ctx: LoginContext, token: str, *, caller: str) -> Revoked:
    """Ends the token's session, if there is one to end (RFC 7009 2.2)."""
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        return _NOTHING_REVOKED

    async def transaction(tx: Tx) -> tuple[Event, Change] | None:
        ended = await tx.sessions.revoke(presented.session_id, verifier=presented.verifier)
        if ended is None:
            return None
        event = auditing.revoked(ended.id, ended.user_id, caller=caller)
        change = changes.session_revoked(ended)
        await tx.audit.put(event)
        await tx.changes.put(change)
        return event, change

    async def committed(tx: Tx, written: tuple[Event, Change] | None) -> bool:
        return written is None or await tx.audit.exists(written[0].id)

    written = await ctx.database.run_tx(transaction, committed=committed)
    if written is None:
        return _NOTHING_REVOKED
    if ctx.cache is not None:
        # Here it counts before the answer; at the other replicas with their next poll.
        ctx.cache.apply(written[1])
    return Revoked(1, changes.token_of(ctx.keys, written[1]))


async def roles_of_user(ctx: LoginContext, user_id: UUID) -> Grants:
    """Returns what an active user may do; raises UserNotFound for any other id."""

    async def statements(tx: Tx) -> Grants:
        user = await tx.users.get(user_id)
        if user is None or not user.active:
            raise UserNotFound
        return await tx.roles.grants_of(user_id)

    return await ctx.database.run_tx(statements)
