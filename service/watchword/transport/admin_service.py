"""watchword.v1.AdminService: each method is parse, call, convert."""

from collections.abc import Sequence
from typing import Final

from watchword.audit.model import EventFilter
from watchword.callers.model import Scope
from watchword.errors import RequestInvalid, Violation
from watchword.login import (
    audit_admin,
    bulk_revoke,
    changes,
    key_admin,
    role_admin,
    user_admin,
    user_update,
)
from watchword.login.context import LoginContext
from watchword.login.mutations import Mutation
from watchword.login.pages import Paging
from watchword.roles.model import Role
from watchword.transport import convert
from watchword.transport.fields import UPDATABLE
from watchword.transport.pipeline import Method
from watchword.transport.validation import check
from watchword.users.model import UserState
from watchword_client._gen.watchword.v1 import admin_service_pb2 as pb

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
_USERS: Final = (Scope.USERS, Scope.ADMIN)
_ADMIN: Final = (Scope.ADMIN,)
_STATES: Final = {
    pb.USER_STATE_UNSPECIFIED: None,
    pb.USER_STATE_ACTIVE: UserState.ACTIVE,
    pb.USER_STATE_DISABLED: UserState.DISABLED,
}


class AdminService:
    """The RPCs over the use cases; the pipeline has seen to caller, decoding and deadline."""

    name = SERVICE_NAME

    def __init__(self, ctx: LoginContext) -> None:
        self._ctx = ctx
        self._database = ctx.database

    def methods(self) -> list[Method]:
        """Returns the RPCs with the scopes of which each demands one."""
        return [
            Method("CreateUser", _USERS, pb.CreateUserRequest, self.create_user),
            Method("GetUser", _USERS, pb.GetUserRequest, self.get_user),
            Method("ListUsers", _USERS, pb.ListUsersRequest, self.list_users),
            Method("UpdateUser", _USERS, pb.UpdateUserRequest, self.update_user),
            Method("DisableUser", _USERS, pb.DisableUserRequest, self.disable_user),
            Method("EnableUser", _USERS, pb.EnableUserRequest, self.enable_user),
            Method("DeleteUser", _USERS, pb.DeleteUserRequest, self.delete_user),
            Method("ListUserSessions", _USERS, pb.ListUserSessionsRequest, self.list_user_sessions),
            Method(
                "RevokeUserSessions",
                _USERS,
                pb.RevokeUserSessionsRequest,
                self.revoke_user_sessions,
            ),
            Method("CreateRole", _ADMIN, pb.CreateRoleRequest, self.create_role),
            Method("UpdateRole", _ADMIN, pb.UpdateRoleRequest, self.update_role),
            Method("DeleteRole", _ADMIN, pb.DeleteRoleRequest, self.delete_role),
            Method("ListRoles", _ADMIN, pb.ListRolesRequest, self.list_roles),
            Method("AssignRole", _ADMIN, pb.AssignRoleRequest, self.assign_role),
            Method("UnassignRole", _ADMIN, pb.UnassignRoleRequest, self.unassign_role),
            Method(
                "RevokeSessions",
                _ADMIN,
                pb.RevokeSessionsRequest,
                self.revoke_sessions,
                bulk=True,
            ),
            Method("CreateServiceKey", _ADMIN, pb.CreateServiceKeyRequest, self.create_service_key),
            Method("ListServiceKeys", _ADMIN, pb.ListServiceKeysRequest, self.list_service_keys),
            Method("RevokeServiceKey", _ADMIN, pb.RevokeServiceKeyRequest, self.revoke_service_key),
            Method("ListAuditEvents", _ADMIN, pb.ListAuditEventsRequest, self.list_audit_events),
        ]

    async def create_user(
        self, request: pb.CreateUserRequest, caller: str
    ) -> pb.CreateUserResponse:
        values = check(request)
        managed, mutation = await user_admin.create_user(self._database, **values, actor=caller)
        return pb.CreateUserResponse(
            user=convert.managed_user(managed), change_token=self._told(mutation)
        )

    async def get_user(self, request: pb.GetUserRequest, _caller: str) -> pb.GetUserResponse:
        values = check(request)
        found = await user_admin.get_user(self._database, next(iter(values.values())))
        return pb.GetUserResponse(
            user=convert.managed_user(found.managed), roles=map(convert.assignment, found.roles)
        )

    async def list_users(self, request: pb.ListUsersRequest, _caller: str) -> pb.ListUsersResponse:
        values = check(request)
        page = await user_admin.list_users(
            self._database,
            self._ctx.keys,
            Paging(values["page_size"], values["page_token"]),
            state=_STATES[request.state],
            role=values["role"],
        )
        return pb.ListUsersResponse(
            users=map(convert.managed_user, page.items), next_page_token=page.next_page_token
        )

    async def update_user(
        self, request: pb.UpdateUserRequest, caller: str
    ) -> pb.UpdateUserResponse:
        values = check(request)
        fields = {name: values[name] for name in UPDATABLE["UpdateUserRequest"] if name in values}
        updated = await user_update.update_user(
            self._database, self._ctx.keys, values["user_id"], fields, actor=caller
        )
        self._ctx.mail_queued()
        return pb.UpdateUserResponse(
            user=convert.managed_user(updated.managed),
            revoked_count=updated.mutation.count,
            change_token=self._told(updated.mutation),
        )

    async def disable_user(
        self, request: pb.DisableUserRequest, caller: str
    ) -> pb.DisableUserResponse:
        user_id = check(request)["user_id"]
        mutation = await user_admin.disable_user(self._database, user_id, actor=caller)
        return pb.DisableUserResponse(
            revoked_count=mutation.count, change_token=self._told(mutation)
        )

    async def enable_user(
        self, request: pb.EnableUserRequest, caller: str
    ) -> pb.EnableUserResponse:
        user_id = check(request)["user_id"]
        mutation = await user_admin.enable_user(self._database, user_id, actor=caller)
        return pb.EnableUserResponse(change_token=self._told(mutation))

    async def delete_user(
        self, request: pb.DeleteUserRequest, caller: str
    ) -> pb.DeleteUserResponse:
        user_id = check(request)["user_id"]
        mutation = await user_admin.delete_user(self._database, user_id, actor=caller)
        return pb.DeleteUserResponse(
            revoked_count=mutation.count, change_token=self._told(mutation)
        )

    async def list_user_sessions(
        self, request: pb.ListUserSessionsRequest, _caller: str
    ) -> pb.ListUserSessionsResponse:
        values = check(request)
        page = await user_admin.list_session_page(
            self._database,
            self._ctx.keys,
            values["user_id"],
            Paging(values["page_size"], values["page_token"]),
            idle_lifetime=self._ctx.sessions.idle_lifetime,
        )
        return pb.ListUserSessionsResponse(
            sessions=[convert.listed_session(one, current=False) for one in page.items],
            next_page_token=page.next_page_token,
        )

    async def revoke_user_sessions(
        self, request: pb.RevokeUserSessionsRequest, caller: str
    ) -> pb.RevokeUserSessionsResponse:
        values = check(request)
        user_id, session_id = values["user_id"], values["session_id"]
        if session_id is None:
            mutation = await user_admin.revoke_sessions_of(self._database, user_id, actor=caller)
        else:
            mutation = await user_admin.revoke_session_of(
                self._database, user_id, session_id, actor=caller
            )
        return pb.RevokeUserSessionsResponse(
            revoked_count=mutation.count, change_token=self._told(mutation)
        )

    async def create_role(
        self, request: pb.CreateRoleRequest, caller: str
    ) -> pb.CreateRoleResponse:
        name = check(request)["name"]
        mutation = await role_admin.create_role(
            self._database, name, request.permissions, actor=caller
        )
        return pb.CreateRoleResponse(
            role=_role(name, request.permissions), change_token=self._told(mutation)
        )

    async def update_role(
        self, request: pb.UpdateRoleRequest, caller: str
    ) -> pb.UpdateRoleResponse:
        name = check(request)["name"]
        mutation = await role_admin.update_role(
            self._database, name, request.permissions, actor=caller
        )
        return pb.UpdateRoleResponse(
            role=_role(name, request.permissions), change_token=self._told(mutation)
        )

    async def delete_role(
        self, request: pb.DeleteRoleRequest, caller: str
    ) -> pb.DeleteRoleResponse:
        name = check(request)["name"]
        mutation = await role_admin.delete_role(self._database, name, actor=caller)
        return pb.DeleteRoleResponse(change_token=self._told(mutation))

    async def list_roles(self, request: pb.ListRolesRequest, _caller: str) -> pb.ListRolesResponse:
        values = check(request)
        paging = Paging(values["page_size"], values["page_token"])
        page = await role_admin.list_roles(self._database, self._ctx.keys, paging)
        return pb.ListRolesResponse(
            roles=map(convert.role, page.items), next_page_token=page.next_page_token
        )

    async def assign_role(
        self, request: pb.AssignRoleRequest, caller: str
    ) -> pb.AssignRoleResponse:
        values = check(request)
        mutation = await role_admin.assign_role(
            self._database,
            values["role"],
            values["user_id"],
            expire_time=values["expire_time"],
            reason=values["reason"],
            actor=caller,
        )
        return pb.AssignRoleResponse(change_token=self._told(mutation))

    async def unassign_role(
        self, request: pb.UnassignRoleRequest, caller: str
    ) -> pb.UnassignRoleResponse:
        values = check(request)
        mutation = await role_admin.unassign_role(
            self._database, values["role"], values["user_id"], actor=caller
        )
        return pb.UnassignRoleResponse(change_token=self._told(mutation))

    async def revoke_sessions(
        self, request: pb.RevokeSessionsRequest, caller: str
    ) -> pb.RevokeSessionsResponse:
        values = check(request)
        if "role" in values:
            mutation = await bulk_revoke.revoke_holders(
                self._database, self._ctx.cache, values["role"], actor=caller
            )
        elif request.everybody:
            mutation = await bulk_revoke.revoke_everybody(self._database, actor=caller)
        else:
            raise RequestInvalid([Violation("everybody", "must be true, or `role` be set")])
        return pb.RevokeSessionsResponse(
            user_count=mutation.count, change_token=self._told(mutation)
        )

    async def create_service_key(
        self, request: pb.CreateServiceKeyRequest, caller: str
    ) -> pb.CreateServiceKeyResponse:
        values = check(request)
        created = await key_admin.create_service_key(
            self._database,
            self._ctx.keys,
            name=values["name"],
            scopes=frozenset(Scope(scope) for scope in request.scopes),
            expire_time=values["expire_time"],
            actor=caller,
        )
        await self._ctx.callers_changed()
        return pb.CreateServiceKeyResponse(
            service_key=convert.service_key(created.key),
            secret=created.secret.reveal(),
            change_token=self._told(created.mutation),
        )

    async def list_service_keys(
        self, request: pb.ListServiceKeysRequest, _caller: str
    ) -> pb.ListServiceKeysResponse:
        values = check(request)
        paging = Paging(values["page_size"], values["page_token"])
        page = await key_admin.list_service_keys(self._database, self._ctx.keys, paging)
        return pb.ListServiceKeysResponse(
            service_keys=map(convert.service_key, page.items),
            next_page_token=page.next_page_token,
        )

    async def revoke_service_key(
        self, request: pb.RevokeServiceKeyRequest, caller: str
    ) -> pb.RevokeServiceKeyResponse:
        key_id = check(request)["service_key_id"]
        mutation = await key_admin.revoke_service_key(self._database, key_id, actor=caller)
        await self._ctx.callers_changed()
        return pb.RevokeServiceKeyResponse(change_token=self._told(mutation))

    async def list_audit_events(
        self, request: pb.ListAuditEventsRequest, _caller: str
    ) -> pb.ListAuditEventsResponse:
        values = check(request)
        asked = EventFilter(
            user_id=values["user_id"],
            action=values["action"],
            actor=values["actor"],
            start_time=values["start_time"],
            end_time=values["end_time"],
        )
        paging = Paging(values["page_size"], values["page_token"])
        page = await audit_admin.list_event_page(self._database, self._ctx.keys, asked, paging)
        return pb.ListAuditEventsResponse(
            events=map(convert.audit_event, page.items), next_page_token=page.next_page_token
        )

    def _told(self, mutation: Mutation) -> str:
        """Tells the cache of this process, before the answer, and returns the change token."""
        if mutation.done:
            self._ctx.tell_cache(mutation.change)
        return changes.token_of(self._ctx.keys, mutation.change)


def _role(name: str, permissions: Sequence[str]) -> pb.Role:
    return convert.role(Role(name, tuple(sorted(set(permissions)))))
