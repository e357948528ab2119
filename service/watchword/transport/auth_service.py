"""watchword.v1.AuthService: each method is parse, call, convert."""

from typing import Any
from uuid import UUID

from watchword.callers.model import Scope
from watchword.errors import RequestInvalid, Violation
from watchword.login import changes, sessions
from watchword.login.context import LoginContext
from watchword.login.email_change import (
    ConfirmEmailChangeCommand,
    StartEmailChangeCommand,
    confirm_email_change,
    start_email_change,
)
from watchword.login.list_sessions import list_sessions
from watchword.login.refresh import refresh_session
from watchword.login.register import RegisterCommand, register
from watchword.login.revoke import RevokeScope, revoke
from watchword.login.send_otp import SendOtpCommand, send_otp
from watchword.login.verify_otp import VerifyOtpCommand, verify_otp
from watchword.sessions.model import Client
from watchword.transport import convert
from watchword.transport.pipeline import Method
from watchword.transport.validation import check
from watchword.users.model import EmailAddress
from watchword_client._gen.watchword.v1 import auth_service_pb2 as pb

_SCOPES = {
    pb.REVOKE_SCOPE_UNSPECIFIED: RevokeScope.THIS,
    pb.REVOKE_SCOPE_THIS: RevokeScope.THIS,
    pb.REVOKE_SCOPE_OTHERS: RevokeScope.OTHERS,
    pb.REVOKE_SCOPE_ALL: RevokeScope.ALL,
}
_LOGIN, _VALIDATE = (Scope.LOGIN,), (Scope.VALIDATE,)
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["AuthService"].full_name


class AuthService:
    """The RPCs over the use cases; the pipeline has seen to caller, decoding and deadline."""

    name = SERVICE_NAME

    def __init__(self, ctx: LoginContext) -> None:
        self._ctx = ctx

    def methods(self) -> list[Method]:
        """Returns the RPCs with the scope that each demands."""
        return [
            Method("Register", _LOGIN, pb.RegisterRequest, self.register),
            Method("SendOtp", _LOGIN, pb.SendOtpRequest, self.send_otp),
            Method("VerifyOtp", _LOGIN, pb.VerifyOtpRequest, self.verify_otp),
            Method(
                "ValidateSession",
                _VALIDATE,
                pb.ValidateSessionRequest,
                self.validate_session,
            ),
            Method(
                "BatchValidateSessions",
                _VALIDATE,
                pb.BatchValidateSessionsRequest,
                self.batch_validate_sessions,
            ),
            Method("RefreshSession", _LOGIN, pb.RefreshSessionRequest, self.refresh_session),
            Method("Revoke", _LOGIN, pb.RevokeRequest, self.revoke),
            Method("ListSessions", _LOGIN, pb.ListSessionsRequest, self.list_sessions),
            Method(
                "StartEmailChange",
                _LOGIN,
                pb.StartEmailChangeRequest,
                self.start_email_change,
            ),
            Method(
                "ConfirmEmailChange",
                _LOGIN,
                pb.ConfirmEmailChangeRequest,
                self.confirm_email_change,
            ),
            Method("GetRoles", _VALIDATE, pb.GetRolesRequest, self.get_roles),
        ]

    async def register(self, request: pb.RegisterRequest, caller: str) -> pb.RegisterResponse:
        values = check(request)
        command = RegisterCommand(
            full_name=values["full_name"],
            username=values["username"],
            email=values["email"],
            locale=values["locale"],
            send_otp=request.send_otp,
            client=_client(values, caller),
        )
        registered = await register(self._ctx, command)
        issued = registered.challenge
        return pb.RegisterResponse(
            user_id=str(registered.user_id),
            expire_time=convert.timestamp(registered.expire_time),
            challenge=None if issued is None else convert.challenge(issued),
        )

    async def send_otp(self, request: pb.SendOtpRequest, caller: str) -> pb.SendOtpResponse:
        values = check(request)
        command = SendOtpCommand(
            target=_target(values),
            locale=values["locale"],
            client=_client(values, caller),
            device_token=values["client.device_token"],
            request_id=values["request_id"],
        )
        issued = await send_otp(self._ctx, command)
        return pb.SendOtpResponse(challenge=convert.challenge(issued))

    async def verify_otp(self, request: pb.VerifyOtpRequest, caller: str) -> pb.VerifyOtpResponse:
        values = check(request)
        if "email" in values and self._ctx.otp.require_challenge_id:
            raise RequestInvalid([Violation("email", "is not accepted here; set `challenge_id`")])
        command = VerifyOtpCommand(
            target=_target(values),
            code=values["code"],
            client=_client(values, caller),
            device_token=values["client.device_token"],
        )
        signed_in = await verify_otp(self._ctx, command)
        return pb.VerifyOtpResponse(
            session_token=signed_in.token.reveal(),
            session=convert.session(signed_in.session),
            user=convert.user(signed_in.user, signed_in.grants),
            first_sign_in=signed_in.first_sign_in,
            device_token=signed_in.device_token.reveal(),
        )

    async def validate_session(
        self, request: pb.ValidateSessionRequest, _caller: str
    ) -> pb.ValidateSessionResponse:
        values = check(request)
        # Whatever it names is satisfied: the answer is read from the database.
        changes.known_changes(self._ctx.keys, values["min_change_token"])
        live = await sessions.live_session(
            self._ctx, values["session_token"], max_auth_age=values["max_auth_age"]
        )
        return pb.ValidateSessionResponse(
            session=convert.session(live.session),
            user=convert.user(live.user, live.grants),
            as_of_time=convert.timestamp(live.as_of_time),
        )

    async def batch_validate_sessions(
        self, request: pb.BatchValidateSessionsRequest, _caller: str
    ) -> pb.BatchValidateSessionsResponse:
        check(request)
        checked = await sessions.live_sessions(self._ctx, request.session_tokens)
        return pb.BatchValidateSessionsResponse(
            results=map(convert.session_result, checked.sessions),
            as_of_time=convert.optional_timestamp(checked.as_of_time),
        )

    async def refresh_session(
        self, request: pb.RefreshSessionRequest, caller: str
    ) -> pb.RefreshSessionResponse:
        values = check(request)
        client = _client(values, caller)
        refreshed = await refresh_session(self._ctx, values["session_token"], client=client)
        return pb.RefreshSessionResponse(
            session_token=refreshed.token.reveal(), session=convert.session(refreshed.session)
        )

    async def revoke(self, request: pb.RevokeRequest, caller: str) -> pb.RevokeResponse:
        values = check(request)
        target = values.get("session_id") or _SCOPES[request.scope]
        token = values["session_token"]
        revoked = await revoke(self._ctx, token, target=target, caller=caller)
        return pb.RevokeResponse(revoked_count=revoked.count, change_token=revoked.change_token)

    async def list_sessions(
        self, request: pb.ListSessionsRequest, _caller: str
    ) -> pb.ListSessionsResponse:
        values = check(request)
        page = await list_sessions(
            self._ctx,
            values["session_token"],
            page_size=values["page_size"],
            page_token=values["page_token"],
        )
        return pb.ListSessionsResponse(
            sessions=[
                convert.listed_session(session, current=session.session.id == page.current)
                for session in page.sessions
            ],
            next_page_token=page.next_page_token,
        )

    async def start_email_change(
        self, request: pb.StartEmailChangeRequest, caller: str
    ) -> pb.StartEmailChangeResponse:
        values = check(request)
        command = StartEmailChangeCommand(
            session_token=values["session_token"],
            new_email=values["new_email"],
            locale=values["locale"],
            client=_client(values, caller),
        )
        issued = await start_email_change(self._ctx, command)
        return pb.StartEmailChangeResponse(challenge=convert.challenge(issued))

    async def confirm_email_change(
        self, request: pb.ConfirmEmailChangeRequest, caller: str
    ) -> pb.ConfirmEmailChangeResponse:
        values = check(request)
        command = ConfirmEmailChangeCommand(
            session_token=values["session_token"],
            challenge_id=values["challenge_id"],
            code=values["code"],
            client=_client(values, caller),
        )
        changed = await confirm_email_change(self._ctx, command)
        return pb.ConfirmEmailChangeResponse(
            user=convert.user(changed.user, changed.grants),
            revoked_count=changed.revoked_count,
            change_token=changed.change_token,
        )

    async def get_roles(self, request: pb.GetRolesRequest, _caller: str) -> pb.GetRolesResponse:
        values = check(request)
        if "user_id" in values:
            grants, time = await sessions.roles_of_user(self._ctx, values["user_id"])
        else:
            live = await sessions.live_session(self._ctx, values["session_token"])
            grants, time = live.grants, live.as_of_time
        response = convert.roles(grants)
        response.as_of_time.CopyFrom(convert.timestamp(time))
        return response


def _target(values: dict[str, Any]) -> EmailAddress | UUID:
    target: EmailAddress | UUID = values.get("challenge_id") or values["email"]
    return target


def _client(values: dict[str, Any], caller: str) -> Client:
    return Client(
        ip=values["client.ip"],
        user_agent=values["client.user_agent"],
        device_name=values["client.device_name"],
        caller=caller,
    )
