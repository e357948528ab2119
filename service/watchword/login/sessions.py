"""ValidateSession, Revoke and GetRoles: what a token is asked for.

Every path goes through `live_session`: one place decides whether a session is live.
"""

from uuid import UUID

from watchword.audit.model import Event
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
    found = await ctx.database.run_statement(lambda tx: tx.live_sessions.find(presented.session_id))
    if found is None or not verifier_matches(presented.verifier, found.verifier):
        raise SessionInvalid
    return found


async def revoke(ctx: LoginContext, token: str, *, caller: str) -> int:
    """Ends the token's session and returns how many that were: 1, or 0 (RFC 7009 2.2)."""
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        return 0

    async def transaction(tx: Tx) -> Event | None:
        ended = await tx.sessions.revoke(presented.session_id, verifier=presented.verifier)
        if ended is None:
            return None
        event = auditing.revoked(ended.id, ended.user_id, caller=caller)
        await tx.audit.put(event)
        await tx.changes.put(changes.session_revoked(ended))
        return event

    async def committed(tx: Tx, event: Event | None) -> bool:
        return event is None or await tx.audit.exists(event.id)

    event = await ctx.database.run_tx(transaction, committed=committed)
    return 0 if event is None else 1


async def roles_of_user(ctx: LoginContext, user_id: UUID) -> Grants:
    """Returns what an active user may do; raises UserNotFound for any other id."""

    async def statements(tx: Tx) -> Grants:
        user = await tx.users.get(user_id)
        if user is None or not user.active:
            raise UserNotFound
        return await tx.roles.grants_of(user_id)

    return await ctx.database.run_tx(statements)
