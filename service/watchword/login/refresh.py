"""RefreshSession: another secret for a session, and the end of one whose secret was copied."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from watchword.audit.model import Event
from watchword.changes.model import Change
from watchword.crypto import Secret
from watchword.errors import SessionInvalid, StorageUnavailable
from watchword.login import auditing, changes
from watchword.login.context import LoginContext
from watchword.login.ports import Database, SessionCache, Tx
from watchword.sessions.model import Client, Rotation, Session
from watchword.sessions.refresh import OVERLAP, Presented, judge

# Somebody who was faster has refreshed or ended the session: the next try finds that.
TRIES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The session as it was, and the token that follows the one that was presented."""

    token: Secret
    session: Session


@dataclass(frozen=True, slots=True)
class _Done:
    """What a transaction has come to: an answer or, after a theft, none; what is to be told."""

    answer: Refreshed | None
    change: Change | None = None
    event: Event | None = None
    verifier: bytes = b""


class _LostRace(Exception):
    """The session has changed between the look and the write."""


async def refresh_session(ctx: LoginContext, token: str, *, client: Client) -> Refreshed:
    """Returns the next token of a live session; raises SessionInvalid.

    The same token gives the same next one, until that was seen in use and half a minute longer. Any
    older token of the session ends it: one of two who hold it is a thief.
    """
    for _ in range(TRIES_MAX):
        try:
            done = await _try_once(ctx, token, client)
        except _LostRace:
            continue
        if done.change is not None:
            ctx.tell_cache(done.change)
        if done.answer is None:
            raise SessionInvalid
        return done.answer
    raise StorageUnavailable


async def _try_once(ctx: LoginContext, token: str, client: Client) -> _Done:
    presented = ctx.keys.parse_session_token(token)
    if presented is None:
        raise SessionInvalid
    idle_lifetime = ctx.sessions.idle_lifetime

    async def transaction(tx: Tx) -> _Done:
        found = await tx.rotations.find(presented.session_id, idle_lifetime=idle_lifetime)
        if found is None:
            raise SessionInvalid
        match judge(found.secrets, presented.verifier, at=found.as_of_time):
            case Presented.PRESENT:
                return await _rotate(ctx, tx, token, found, client)
            case Presented.PREVIOUS:
                return _same_again(ctx, token, found)
            case Presented.NEITHER:
                return await _end_stolen(tx, found, client)

    async def committed(tx: Tx, done: _Done) -> bool:
        if done.event is not None:
            return await tx.audit.exists(done.event.id)
        if done.change is None:
            return True
        found = await tx.rotations.find(presented.session_id, idle_lifetime=idle_lifetime)
        return found is not None and found.secrets.verifier == done.verifier

    return await ctx.database.run_tx(transaction, committed=committed)


async def _rotate(ctx: LoginContext, tx: Tx, token: str, found: Rotation, client: Client) -> _Done:
    key_id = ctx.keys.signing_key_id
    following = ctx.keys.refresh_session(token, generation=found.generation, key_id=key_id)
    assert following is not None  # the token was read, and the key signs
    next_token, verifier = following
    rotated = await tx.rotations.rotate(found, verifier=verifier, key_id=key_id, client=client)
    if rotated is None:
        raise _LostRace
    change = changes.session_changed(rotated)
    await tx.changes.put(change)
    return _Done(Refreshed(next_token, found.session), change, verifier=verifier)


def _same_again(ctx: LoginContext, token: str, found: Rotation) -> _Done:
    generation = found.generation - 1
    following = ctx.keys.refresh_session(token, generation=generation, key_id=found.key_id)
    if following is None:
        # The key that has signed it is not in the ring: it would be refused everywhere.
        raise SessionInvalid
    return _Done(Refreshed(following[0], found.session))


async def _end_stolen(tx: Tx, found: Rotation, client: Client) -> _Done:
    session = found.session
    ended = await tx.sessions.revoke_by_id(session.id, user_id=session.user_id)
    if ended is None:
        raise SessionInvalid
    event = auditing.stolen(session, client=client)
    change = changes.session_revoked(ended)
    await tx.audit.put(event)
    await tx.changes.put(change)
    return _Done(None, change, event)


async def note_first_use(
    database: Database, cache: SessionCache | None, session_id: UUID, verifier: bytes
) -> None:
    """Gives the secret before the one with this verifier its end, if that is still to be done."""

    async def transaction(tx: Tx) -> Change | None:
        changed = await tx.rotations.end_previous(session_id, verifier=verifier, overlap=OVERLAP)
        if changed is None:
            return None
        change = changes.session_changed(changed)
        await tx.changes.put(change)
        return change

    # Done twice it is done once, so an outcome that is not known is simply tried again.
    change = await database.run_tx(transaction)
    if change is not None and cache is not None:
        cache.apply(change)
