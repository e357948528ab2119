"""Which changes the use cases leave, each in the transaction of what it tells."""

from watchword.changes.model import Change, ChangeKind, UserVersion
from watchword.crypto import new_id, slot_of
from watchword.sessions.model import EndedSession


def session_revoked(ended: EndedSession) -> Change:
    """The change of a session's end."""
    return Change(
        id=new_id(slot_of(ended.user_id)),
        kind=ChangeKind.SESSION,
        user=UserVersion(ended.user_id, ended.user_epoch, ended.user_version),
        session_id=ended.id,
        revoked=True,
    )


def user_changed(user: UserVersion) -> Change:
    """The change of a user, or of the roles that a user holds."""
    return Change(id=new_id(slot_of(user.user_id)), kind=ChangeKind.USER, user=user)


def role_changed(role: str) -> Change:
    """The change of a role itself, whoever holds it."""
    return Change(id=new_id(0), kind=ChangeKind.ROLE, role=role)
