"""Which audit events the use cases leave.

A sign-in, a revoke and a change of roles are stored in the transaction that does them; a refusal is
counted in memory (audit/refusals.py).
"""

from uuid import UUID

from watchword.audit.model import CLI, Action, Event, Outcome, Target, TargetKind
from watchword.crypto import new_id, slot_of, slot_of_subject
from watchword.otp.level import CodeLevel
from watchword.sessions.model import Client, EndedSessions, Session


def signed_in(session: Session, *, client: Client, first: bool) -> Event:
    """The event of a sign-in."""
    return _by_end_user(Action.FIRST_SIGN_IN if first else Action.SIGN_IN, session, client)


def stolen(session: Session, *, client: Client) -> Event:
    """The event of a session's end after an old secret of it was presented."""
    return _by_end_user(Action.END_STOLEN_SESSION, session, client)


def _by_end_user(action: Action, session: Session, client: Client) -> Event:
    return Event(
        id=new_id(slot_of(session.user_id)),
        action=action,
        actor=client.caller,
        user_id=session.user_id,
        target=Target(TargetKind.SESSION, str(session.id)),
        client_ip=client.ip,
        client_user_agent=client.user_agent,
        client_device_name=client.device_name,
    )


def revoked(session_id: UUID, user_id: UUID, *, caller: str) -> Event:
    """The event of a session's end; Revoke is told nothing of the end user."""
    return Event(
        id=new_id(slot_of(user_id)),
        action=Action.REVOKE,
        actor=caller,
        user_id=user_id,
        target=Target(TargetKind.SESSION, str(session_id)),
    )


def user_changed(action: Action, ended: EndedSessions, *, actor: str) -> Event:
    """The event of what was done to a user, by which sessions may have ended: `count` says how many
    if there were any.
    """
    return Event(
        id=new_id(slot_of(ended.user_id)),
        action=action,
        actor=actor,
        user_id=ended.user_id,
        count=max(ended.count, 1),
    )


def role_changed(action: Action, role: str, *, actor: str, user_id: UUID | None = None) -> Event:
    """The event of a role that was made, given or taken away."""
    return Event(
        id=new_id(0 if user_id is None else slot_of(user_id)),
        action=action,
        actor=actor,
        user_id=user_id,
        target=Target(TargetKind.ROLE, role),
    )


def service_key_changed(action: Action, key_id: UUID, *, actor: str) -> Event:
    """The event of a service key that was made, ended or confirmed."""
    return Event(
        id=new_id(0),
        action=action,
        actor=actor,
        target=Target(TargetKind.SERVICE_KEY, str(key_id)),
    )


def all_ended(action: Action, *, actor: str, role: str | None = None, users: int = 0) -> Event:
    """The event of the end of everybody's sessions, or of all who hold a role."""
    return Event(
        id=new_id(0),
        action=action,
        actor=actor,
        target=None if role is None else Target(TargetKind.ROLE, role),
        count=max(users, 1),
    )


def fenced(*, challenges: int) -> Event:
    """The event of the end of every session and of so many codes after a restore."""
    return Event(id=new_id(0), action=Action.RESTORE_FENCE, actor=CLI, count=max(challenges, 1))


def limit_reached(limit: str, client: Client) -> Event:
    """The event of a call that a limit has refused."""
    return Event(
        id=new_id(0),
        action=Action.CALL,
        outcome=Outcome.RATE_LIMITED,
        actor=client.caller,
        target=Target(TargetKind.LIMIT, limit),
        client_ip=client.ip,
    )


def client_ip_missing(client: Client) -> Event:
    """The event of a call that says nothing of whom it is for."""
    return Event(
        id=new_id(0),
        action=Action.CALL,
        outcome=Outcome.CLIENT_IP_MISSING,
        actor=client.caller,
    )


def level_raised(level: CodeLevel) -> Event:
    """The event of longer codes for everybody; no caller asked for them."""
    return Event(
        id=new_id(0),
        action=Action.RAISE_CODE_LEVEL,
        actor=None,
        target=Target(TargetKind.CODE_LENGTH, str(level.value)),
    )


def email_changed(event_id: UUID, ended: EndedSessions, *, client: Client) -> Event:
    """The event of another address for a user, by which sessions may have ended."""
    return Event(
        id=event_id,
        action=Action.CHANGE_EMAIL,
        actor=client.caller,
        user_id=ended.user_id,
        client_ip=client.ip,
        client_user_agent=client.user_agent,
        client_device_name=client.device_name,
        count=max(ended.count, 1),
    )


def code_refused(action: Action, outcome: Outcome, of: bytes | UUID, *, client: Client) -> Event:
    """The event of a refused code, `of` a subject's key, or a challenge whose subject is not known.

    Of the client the address alone: the rest is text of a guesser's choice, and would be held in
    memory ten thousand times.
    """
    if isinstance(of, bytes):
        slot, target = slot_of_subject(of), Target(TargetKind.SUBJECT, of.hex())
    else:
        slot, target = slot_of(of), Target(TargetKind.CHALLENGE, str(of))
    return Event(
        id=new_id(slot),
        action=action,
        outcome=outcome,
        actor=client.caller,
        target=target,
        client_ip=client.ip,
    )
