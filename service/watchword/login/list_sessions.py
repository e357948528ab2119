"""ListSessions: where a person is signed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from watchword.errors import SessionInvalid
from watchword.login.context import LoginContext
from watchword.login.pages import cursor_of, listing_of, page_of
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
        cursor = cursor_of(ctx.keys, _listing(session), page_token)
        # One more, which tells whether there is another page.
        listed = await tx.sessions.list_live(
            session.user_id,
            before=None if cursor is None else UUID(bytes=cursor),
            limit=page_size + 1,
            idle_lifetime=ctx.sessions.idle_lifetime,
        )
        return session, listed

    session, listed = await ctx.database.run_tx(statements)
    cursors = [one.session.id.bytes for one in listed]
    page = page_of(ctx.keys, _listing(session), listed, cursors, page_size=page_size)
    return SessionPage(page.items, session.id, page.next_page_token)


def _listing(session: Session) -> bytes:
    return listing_of("ListSessions", session.user_id)
