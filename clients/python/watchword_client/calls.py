"""The calls of AuthService, once for both clients: what each takes, sends and answers.

Each function's parameters are those of the method that `AsyncClient` and `Client` make of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from google.protobuf.message import Message

from watchword_client._gen.watchword.v1 import auth_service_pb2 as pb
from watchword_client._gen.watchword.v1.resources_pb2 import ClientContext

Response = TypeVar("Response", bound=Message)

DEFAULT_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, repr=False)
class Call(Generic[Response]):
    """One call before it is made: the RPC, its request, the type of its answer."""

    rpc: str
    request: Message
    answer: type[Response]


def bearer(service_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of every call."""
    return (("authorization", f"Bearer {service_key}"),)


def register(
    *,
    full_name: str,
    username: str,
    email: str,
    locale: str = "",
    send_otp: bool = False,
    client: ClientContext | None = None,
) -> Call[pb.RegisterResponse]:
    """Takes down who someone says to be; with `send_otp` also mails a code."""
    request = pb.RegisterRequest(
        full_name=full_name,
        username=username,
        email=email,
        locale=locale,
        send_otp=send_otp,
        client=client,
    )
    return Call("Register", request, pb.RegisterResponse)


def send_otp(
    *,
    email: str | None = None,
    challenge_id: str | None = None,
    locale: str = "",
    client: ClientContext | None = None,
    request_id: str = "",
) -> Call[pb.SendOtpResponse]:
    """Mails a code to `email`, or the code of `challenge_id` again.

    With a `request_id`, a UUID, it may be retried: the same one mails once.
    """
    request = pb.SendOtpRequest(
        email=email,
        challenge_id=challenge_id,
        locale=locale,
        client=client,
        request_id=request_id,
    )
    return Call("SendOtp", request, pb.SendOtpResponse)


def verify_otp(
    *,
    code: str,
    challenge_id: str | None = None,
    email: str | None = None,
    client: ClientContext | None = None,
) -> Call[pb.VerifyOtpResponse]:
    """Signs in with a code. Never retry it: after a lost answer ask for a new code."""
    request = pb.VerifyOtpRequest(challenge_id=challenge_id, email=email, code=code, client=client)
    return Call("VerifyOtp", request, pb.VerifyOtpResponse)


def validate_session(
    session_token: str,
    *,
    min_change_token: str = "",
    max_auth_age: timedelta | None = None,
) -> Call[pb.ValidateSessionResponse]:
    """Answers whose session it is; SessionInvalid when it is not live.

    With the `change_token` of an earlier answer, this one is at least as new as that change. With
    a `max_auth_age`, ReauthenticationNeeded when the person proved the address longer ago.
    """
    request = pb.ValidateSessionRequest(
        session_token=session_token,
        min_change_token=min_change_token,
        max_auth_age=max_auth_age,
    )
    return Call("ValidateSession", request, pb.ValidateSessionResponse)


def batch_validate_sessions(
    session_tokens: Sequence[str],
) -> Call[pb.BatchValidateSessionsResponse]:
    """Answers for each of up to 256 tokens whose session it is, in their order.

    A token without a live session is no error: its result has an `error_reason` and no session.
    """
    request = pb.BatchValidateSessionsRequest(session_tokens=session_tokens)
    return Call("BatchValidateSessions", request, pb.BatchValidateSessionsResponse)


def refresh_session(
    session_token: str, *, client: ClientContext | None = None
) -> Call[pb.RefreshSessionResponse]:
    """Replaces the session's token by the next one; SessionInvalid when it is not live.

    It may be retried: the same token gives the same next one. An older token ends the session.
    """
    request = pb.RefreshSessionRequest(session_token=session_token, client=client)
    return Call("RefreshSession", request, pb.RefreshSessionResponse)


def revoke(
    session_token: str,
    *,
    scope: pb.RevokeScope | None = None,
    session_id: str | None = None,
) -> Call[pb.RevokeResponse]:
    """Ends the session, or others of its user; a dead token counts 0 and is no error.

    By `scope`, `REVOKE_SCOPE_OTHERS` or `REVOKE_SCOPE_ALL`, or one by its `session_id`.
    """
    request = pb.RevokeRequest(session_token=session_token, scope=scope, session_id=session_id)
    return Call("Revoke", request, pb.RevokeResponse)


def list_sessions(
    session_token: str, *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListSessionsResponse]:
    """Lists the live sessions of the token's user, the newest first, 50 or `page_size` of them.

    The `next_page_token` of an answer asks for the next page; it is empty on the last one.
    """
    request = pb.ListSessionsRequest(
        session_token=session_token, page_size=page_size, page_token=page_token
    )
    return Call("ListSessions", request, pb.ListSessionsResponse)


def start_email_change(
    session_token: str,
    *,
    new_email: str,
    locale: str = "",
    client: ClientContext | None = None,
) -> Call[pb.StartEmailChangeResponse]:
    """Mails a code to another address for the token's user, who has signed in a moment ago.

    ReauthenticationNeeded otherwise. Another call gives up what was wanted before.
    """
    request = pb.StartEmailChangeRequest(
        session_token=session_token, new_email=new_email, locale=locale, client=client
    )
    return Call("StartEmailChange", request, pb.StartEmailChangeResponse)


def confirm_email_change(
    session_token: str,
    *,
    challenge_id: str,
    code: str,
    client: ClientContext | None = None,
) -> Call[pb.ConfirmEmailChangeResponse]:
    """Gives the token's user the address that the code proves, and ends the other sessions.

    EmailTaken when it has an account by now. Never retry it: after a lost answer ask
    ValidateSession which address the user has.
    """
    request = pb.ConfirmEmailChangeRequest(
        session_token=session_token, challenge_id=challenge_id, code=code, client=client
    )
    return Call("ConfirmEmailChange", request, pb.ConfirmEmailChangeResponse)


def get_roles(
    *, user_id: str | None = None, session_token: str | None = None
) -> Call[pb.GetRolesResponse]:
    """Answers the roles and permissions of a user, by id or by a live session."""
    request = pb.GetRolesRequest(user_id=user_id, session_token=session_token)
    return Call("GetRoles", request, pb.GetRolesResponse)
