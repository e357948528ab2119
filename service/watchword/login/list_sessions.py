"""ListSessions: where a person is signed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from watchword.errors import RequestInvalid, SessionInvalid, Violation
from watchword.login.context import LoginContext
from watchword.login.ports import Tx
from watchword.sessions.model import ListedSession, Rotation
from watchword.sessions.refresh import Presented, judge


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
    idle_lifetime = ctx.sessions.idle_lifetime

    async def statements(tx: Tx) -> tuple[Rotation, Sequence[ListedSession]]:
        found = await tx.rotations.find(presented.session_id, idle_lifetime=idle_lifetime)
        if found is None:
            raise SessionInvalid
        if judge(found.secrets, presented.verifier, at=found.as_of_time) is Presented.NEITHER:
            raise SessionInvalid
        user_id = found.session.user_id
        before = _before(ctx, user_id, page_token)
        # One more, which tells whether there is another page.
        listed = await tx.sessions.list_live(
            user_id, before=before, limit=page_size + 1, idle_lifetime=idle_lifetime
        )
        return found, listed

    found, listed = await ctx.database.run_tx(statements)
    page = listed[:page_size]
    following = ""
    if len(listed) > page_size:
        cursor = page[-1].session.id.bytes
        following = ctx.keys.mint_page_token(_listing(found.session.user_id), cursor)
    return SessionPage(page, presented.session_id, following)


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
