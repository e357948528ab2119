"""The calls of AdminService, once for both clients: what each takes, sends and answers.

Each function's parameters are those of the method that `AsyncAdminClient` and `AdminClient` make of
it. `change_token` of an answer is what to give to `validate_session` as `min_change_token`.
"""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from watchword_client._gen.watchword.v1 import admin_service_pb2 as pb
from watchword_client.calls import Call


def create_user(
    *, full_name: str, username: str, email: str, locale: str = ""
) -> Call[pb.CreateUserResponse]:
    """Makes an account without a registration; the address counts as proved."""
    request = pb.CreateUserRequest(
        full_name=full_name, username=username, email=email, locale=locale
    )
    return Call("CreateUser", request, pb.CreateUserResponse)


def get_user(
    *, user_id: str | None = None, username: str | None = None, email: str | None = None
) -> Call[pb.GetUserResponse]:
    """Answers a user, active or not, by one of these, and the roles held."""
    request = pb.GetUserRequest(user_id=user_id, username=username, email=email)
    return Call("GetUser", request, pb.GetUserResponse)


def list_users(
    *,
    page_size: int = 0,
    page_token: str = "",
    state: pb.UserState | None = None,
    role: str = "",
) -> Call[pb.ListUsersResponse]:
    """Lists users of a state and of a role, 50 or `page_size` of them.

    The `next_page_token` of an answer asks for the next page; it is empty on the last one.
    """
    request = pb.ListUsersRequest(
        page_size=page_size, page_token=page_token, state=state, role=role
    )
    return Call("ListUsers", request, pb.ListUsersResponse)


def update_user(
    user_id: str,
    *,
    full_name: str | None = None,
    username: str | None = None,
    email: str | None = None,
    locale: str | None = None,
) -> Call[pb.UpdateUserResponse]:
    """Changes what is given and leaves the rest; another address ends every session."""
    given = {"full_name": full_name, "username": username, "email": email, "locale": locale}
    request = pb.UpdateUserRequest(
        user_id=user_id, full_name=full_name, username=username, email=email, locale=locale
    )
    request.update_mask.paths.extend(name for name, value in given.items() if value is not None)
    return Call("UpdateUser", request, pb.UpdateUserResponse)


def disable_user(user_id: str) -> Call[pb.DisableUserResponse]:
    """Keeps a user from signing in and ends every session."""
    return Call("DisableUser", pb.DisableUserRequest(user_id=user_id), pb.DisableUserResponse)


def enable_user(user_id: str) -> Call[pb.EnableUserResponse]:
    """Lets a disabled user sign in again; no session comes back."""
    return Call("EnableUser", pb.EnableUserRequest(user_id=user_id), pb.EnableUserResponse)


def delete_user(user_id: str) -> Call[pb.DeleteUserResponse]:
    """Deletes a user with sessions and roles; address and username are free at once."""
    return Call("DeleteUser", pb.DeleteUserRequest(user_id=user_id), pb.DeleteUserResponse)


def list_user_sessions(
    user_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListUserSessionsResponse]:
    """Lists the live sessions of a user, the newest first."""
    request = pb.ListUserSessionsRequest(
        user_id=user_id, page_size=page_size, page_token=page_token
    )
    return Call("ListUserSessions", request, pb.ListUserSessionsResponse)


def revoke_user_sessions(
    user_id: str, *, session_id: str = ""
) -> Call[pb.RevokeUserSessionsResponse]:
    """Ends every session of a user, or one."""
    request = pb.RevokeUserSessionsRequest(user_id=user_id, session_id=session_id)
    return Call("RevokeUserSessions", request, pb.RevokeUserSessionsResponse)


def create_role(name: str, *, permissions: Sequence[str] = ()) -> Call[pb.CreateRoleResponse]:
    """Makes a role; RoleExists when there is one of that name."""
    request = pb.CreateRoleRequest(name=name, permissions=permissions)
    return Call("CreateRole", request, pb.CreateRoleResponse)


def update_role(name: str, *, permissions: Sequence[str]) -> Call[pb.UpdateRoleResponse]:
    """Replaces the permissions of a role."""
    request = pb.UpdateRoleRequest(name=name, permissions=permissions)
    return Call("UpdateRole", request, pb.UpdateRoleResponse)


def delete_role(name: str) -> Call[pb.DeleteRoleResponse]:
    """Deletes a role, which takes it from everybody."""
    return Call("DeleteRole", pb.DeleteRoleRequest(name=name), pb.DeleteRoleResponse)


def list_roles(*, page_size: int = 0, page_token: str = "") -> Call[pb.ListRolesResponse]:
    """Lists roles with their permissions, in the order of their names."""
    request = pb.ListRolesRequest(page_size=page_size, page_token=page_token)
    return Call("ListRoles", request, pb.ListRolesResponse)


def assign_role(
    user_id: str, role: str, *, expire_time: datetime | None = None, reason: str = ""
) -> Call[pb.AssignRoleResponse]:
    """Gives a role to a user, for good or until a time, which needs a time zone."""
    request = pb.AssignRoleRequest(
        user_id=user_id, role=role, expire_time=_timestamp(expire_time), reason=reason
    )
    return Call("AssignRole", request, pb.AssignRoleResponse)


def unassign_role(user_id: str, role: str) -> Call[pb.UnassignRoleResponse]:
    """Takes a role from a user, who need not hold it."""
    request = pb.UnassignRoleRequest(user_id=user_id, role=role)
    return Call("UnassignRole", request, pb.UnassignRoleResponse)


def revoke_sessions(
    *, role: str | None = None, everybody: bool | None = None
) -> Call[pb.RevokeSessionsResponse]:
    """Ends every session of all who hold a role, or of everybody."""
    request = pb.RevokeSessionsRequest(role=role)
    if everybody is not None:
        request.everybody = everybody
    return Call("RevokeSessions", request, pb.RevokeSessionsResponse)


def create_service_key(
    name: str, *, scopes: Sequence[str], expire_time: datetime | None = None
) -> Call[pb.CreateServiceKeyResponse]:
    """Makes a caller's key; its `secret` is shown this once."""
    request = pb.CreateServiceKeyRequest(
        name=name, scopes=scopes, expire_time=_timestamp(expire_time)
    )
    return Call("CreateServiceKey", request, pb.CreateServiceKeyResponse)


def list_service_keys(
    *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListServiceKeysResponse]:
    """Lists service keys, the newest first, ended ones too."""
    request = pb.ListServiceKeysRequest(page_size=page_size, page_token=page_token)
    return Call("ListServiceKeys", request, pb.ListServiceKeysResponse)


def revoke_service_key(service_key_id: str) -> Call[pb.RevokeServiceKeyResponse]:
    """Ends a service key; no server takes it a second later."""
    request = pb.RevokeServiceKeyRequest(service_key_id=service_key_id)
    return Call("RevokeServiceKey", request, pb.RevokeServiceKeyResponse)


def list_audit_events(
    *,
    page_size: int = 0,
    page_token: str = "",
    user_id: str = "",
    action: str = "",
    actor: str = "",
    start_time: datetime | None = None,
    end_time: datetime | None = None,
) -> Call[pb.ListAuditEventsResponse]:
    """Lists audit events, the newest first; a page may be short though another one follows."""
    request = pb.ListAuditEventsRequest(
        page_size=page_size,
        page_token=page_token,
        user_id=user_id,
        action=action,
        actor=actor,
        start_time=_timestamp(start_time),
        end_time=_timestamp(end_time),
    )
    return Call("ListAuditEvents", request, pb.ListAuditEventsResponse)


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError("the time has no time zone")
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
