"""From the features' models to messages of watchword.v1."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from watchword.audit.model import StoredEvent
from watchword.callers.model import ServiceKey
from watchword.login.ports import LiveSession
from watchword.otp.model import IssuedChallenge
from watchword.roles.model import Assignment, Grants, Role
from watchword.sessions.model import ListedSession, Session
from watchword.users.model import ManagedUser, User, UserState
from watchword_client._gen.watchword.v1 import (
    admin_service_pb2,
    auth_service_pb2,
    error_reason_pb2,
    resources_pb2,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_OF_DAY = 86_400


def timestamp(time: datetime) -> Timestamp:
    """Returns the database's time as a Timestamp."""
    # Four times as fast as FromDatetime, of which a check has four.
    since = time - _EPOCH
    seconds = since.days * _SECONDS_OF_DAY + since.seconds
    return Timestamp(seconds=seconds, nanos=since.microseconds * 1_000)


def optional_timestamp(time: datetime | None) -> Timestamp | None:
    """Returns the same, or nothing."""
    return None if time is None else timestamp(time)


def challenge(issued: IssuedChallenge) -> resources_pb2.Challenge:
    """Returns what a caller may know of a challenge."""
    return resources_pb2.Challenge(
        id=str(issued.id),
        expire_time=timestamp(issued.expire_time),
        resend_time=timestamp(issued.resend_time),
        code_length=issued.code_form,
    )


def session(stored: Session) -> resources_pb2.Session:
    """Returns the session without anything secret."""
    return resources_pb2.Session(
        id=str(stored.id),
        user_id=str(stored.user_id),
        create_time=timestamp(stored.create_time),
        auth_time=timestamp(stored.auth_time),
        expire_time=timestamp(stored.expire_time),
    )


def listed_session(listed: ListedSession, *, current: bool) -> resources_pb2.ListedSession:
    """Returns a session with what is known of its device."""
    return resources_pb2.ListedSession(
        session=session(listed.session),
        last_seen_time=timestamp(listed.last_seen_time),
        client_ip=listed.client.ip or "",
        client_user_agent=listed.client.user_agent or "",
        client_device_name=listed.client.device_name or "",
        current=current,
    )


def user(stored: User, grants: Grants) -> resources_pb2.User:
    """Returns the user with what it may do."""
    return resources_pb2.User(
        id=str(stored.id),
        username=stored.username,
        full_name=stored.full_name,
        email=stored.email,
        roles=grants.roles,
        permissions=grants.permissions,
    )


def roles(grants: Grants) -> auth_service_pb2.GetRolesResponse:
    """Returns what somebody may do; the time is still to be set."""
    return auth_service_pb2.GetRolesResponse(roles=grants.roles, permissions=grants.permissions)


def session_result(live: LiveSession | None) -> auth_service_pb2.SessionResult:
    """Returns what a batch answers for one token."""
    if live is None:
        reason = error_reason_pb2.ERROR_REASON_SESSION_INVALID
        return auth_service_pb2.SessionResult(error_reason=reason)
    return auth_service_pb2.SessionResult(
        session=session(live.session), user=user(live.user, live.grants)
    )


_STATES = {
    UserState.ACTIVE: admin_service_pb2.USER_STATE_ACTIVE,
    UserState.DISABLED: admin_service_pb2.USER_STATE_DISABLED,
}


def managed_user(managed: ManagedUser) -> admin_service_pb2.ManagedUser:
    """Returns a user as an operator sees it."""
    stored = managed.user
    return admin_service_pb2.ManagedUser(
        id=str(stored.id),
        username=stored.username,
        full_name=stored.full_name,
        email=stored.email,
        locale=stored.locale or "",
        state=_STATES[stored.state],
        create_time=timestamp(managed.create_time),
        update_time=timestamp(managed.update_time),
    )


def assignment(held: Assignment) -> admin_service_pb2.RoleAssignment:
    """Returns a role that somebody holds."""
    return admin_service_pb2.RoleAssignment(
        role=held.role,
        create_time=timestamp(held.create_time),
        expire_time=optional_timestamp(held.expire_time),
        granted_by=held.granted_by or "",
        reason=held.reason or "",
    )


def role(stored: Role) -> admin_service_pb2.Role:
    """Returns a role with its permissions."""
    return admin_service_pb2.Role(name=stored.name, permissions=stored.permissions)


def service_key(stored: ServiceKey) -> admin_service_pb2.ServiceKey:
    """Returns a key without its secret."""
    return admin_service_pb2.ServiceKey(
        id=str(stored.id),
        name=stored.name,
        scopes=sorted(stored.scopes),
        create_time=timestamp(stored.create_time),
        expire_time=optional_timestamp(stored.expire_time),
        revoke_time=optional_timestamp(stored.revoke_time),
        last_used_time=optional_timestamp(stored.last_used_time),
        suspend_time=optional_timestamp(stored.suspend_time),
    )


def audit_event(stored: StoredEvent) -> admin_service_pb2.AuditEvent:
    """Returns an event as it is stored."""
    return admin_service_pb2.AuditEvent(
        id=str(stored.id),
        time=timestamp(stored.at),
        action=stored.action,
        outcome=stored.outcome,
        actor=stored.actor or "",
        user_id="" if stored.user_id is None else str(stored.user_id),
        target_kind=stored.target_kind or "",
        target_id=stored.target_id or "",
        client_ip=stored.client_ip or "",
        client_user_agent=stored.client_user_agent or "",
        client_device_name=stored.client_device_name or "",
        count=stored.count,
    )
