"""ListSessions: where a person is signed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from watchword.errors import RequestInvalid, SessionInvalid, Violation
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.login.sessions import presented_session
from watchword.sessions.model import ListedSession, Session


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page, the id of the session that asked, and the token of the next page or nothing."""

    sessions: Sequence[ListedSession]
    current: UUID
    next_page_token: str


async def list_sessions(
    ctx: LoginContext, token: str, *, page_size: int, page_token: str
) -> SessionPage:
    """Returns live sessions of the token's user, the newest first; raises SessionInvalid.

    Raises RequestInvalid for a page token that is not of this user's sessions.
    """
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        raise SessionInvalid

    async def statements(tx: Tx) -> tuple[Session, Sequence[ListedSession]]:
        session = await presented_session(ctx, tx, presented)
        if session is None:
            raise SessionInvalid
        # One more, which tells whether there is another page.
        listed = await tx.sessions.list_live(
            session.user_id,
            before=_before(ctx, session.user_id, page_token),
            limit=page_size + 1,
            idle_lifetime=ctx.sessions.idle_lifetime,
        )
        return session, listed

    session, listed = await ctx.database.run_tx(statements)
    page = listed[:page_size]
    following = ""
    if len(listed) > page_size:
        cursor = page[-1].session.id.bytes
        following = ctx.keys.mint_page_token(_listing(session.user_id), cursor)
    return SessionPage(page, session.id, following)


def _before(ctx: LoginContext, user_id: UUID, page_token: str) -> UUID | None:
    if not page_token:
        return None
    cursor = ctx.keys.parse_page_token(_listing(user_id), page_token)
    if cursor is None:
        what = "must be a `next_page_token` of this list"
        raise RequestInvalid([Violation("page_token", what)])
    return UUID(bytes=cursor)


def _listing(user_id: UUID) -> bytes:
    return b"ListSessions" + user_id.bytes
