"""Which changes the use cases leave, each in the transaction of what it tells, and their tokens.

A change token says what a change has come to. Whoever sends it back gets an answer that is at least
as new, from the database if need be.
"""

from typing import Final

from watchword.changes.model import Change, ChangeKind, UserVersion
from watchword.crypto import KeyRing, KnownChange, KnownKind, new_id, slot_of
from watchword.errors import RequestInvalid, Violation
from watchword.sessions.model import ChangedSession, EndedSessions

_KINDS: Final = {
    ChangeKind.ROLE: KnownKind.ROLE,
    ChangeKind.SERVICE_KEY: KnownKind.SERVICE_KEY,
    ChangeKind.INSTALLATION: KnownKind.INSTALLATION,
}


def session_changed(changed: ChangedSession) -> Change:
    """The change of a session's secrets."""
    return Change(
        id=new_id(slot_of(changed.user_id)),
        kind=ChangeKind.SESSION,
        user=UserVersion(changed.user_id, changed.user_epoch, changed.user_version),
        session_id=changed.id,
    )


def session_revoked(ended: ChangedSession) -> Change:
    """The change of a session's end."""
    return Change(
        id=new_id(slot_of(ended.user_id)),
        kind=ChangeKind.SESSION,
        user=UserVersion(ended.user_id, ended.user_epoch, ended.user_version),
        session_id=ended.id,
        revoked=True,
    )


def sessions_ended(ended: EndedSessions) -> Change:
    """The change of a user of whom several sessions were ended."""
    return user_changed(UserVersion(ended.user_id, ended.user_epoch, ended.user_version))


def user_changed(user: UserVersion) -> Change:
    """The change of a user, or of the roles that a user holds."""
    return Change(id=new_id(slot_of(user.user_id)), kind=ChangeKind.USER, user=user)


def role_changed(role: str) -> Change:
    """The change of a role itself, whoever holds it."""
    return Change(id=new_id(0), kind=ChangeKind.ROLE, role=role)


def service_key_changed() -> Change:
    """The change of a caller's key."""
    return Change(id=new_id(0), kind=ChangeKind.SERVICE_KEY)


def installation_changed() -> Change:
    """The change of everything: every cache is emptied."""
    return Change(id=new_id(0), kind=ChangeKind.INSTALLATION)


def token_of(keys: KeyRing, change: Change) -> str:
    """The token of a change: a user's, or a session's, by the user's version.

    Nothing else has a version: whoever asks with such a token is answered by the database.
    """
    user = change.user
    if user is not None:
        known = KnownChange(KnownKind.USER, user.user_id, user.epoch, user.version)
    else:
        known = KnownChange(_KINDS[change.kind], change.id, 0, 0)
    return keys.mint_change_token([known])


def known_changes(keys: KeyRing, min_change_token: str) -> list[KnownChange]:
    """What an answer has to know at least; raises RequestInvalid for what is no change token."""
    if not min_change_token:
        return []
    known = keys.parse_change_token(min_change_token)
    if known is None:
        what = "must be a `change_token` that this installation has answered"
        raise RequestInvalid([Violation("min_change_token", what)])
    return known
