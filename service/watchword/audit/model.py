"""What an audit event is. None holds a code, a token, a key or an e-mail address."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import Field

from watchword.settings import Duration, Section

# Actors that are no caller; no caller may have such a name (callers/registry.py).
CLI: Final = "cli"
UNKNOWN_CALLER: Final = "unknown"


class AuditSettings(Section):
    """The audit."""

    retention: Duration = Field(
        timedelta(days=90),
        ge=timedelta(days=1),
        le=timedelta(days=3650),
        description="how long audit events are kept",
    )


class Action(StrEnum):
    """What was done, or refused."""

    SIGN_IN = "sign_in"
    # The account was made by it.
    FIRST_SIGN_IN = "first_sign_in"
    REVOKE = "revoke"
    # `count` sessions of the user: all but one, or all.
    REVOKE_OTHERS = "revoke_others"
    REVOKE_ALL = "revoke_all"
    # Another address, which was proved; `count` other sessions ended by it, if there were any.
    CHANGE_EMAIL = "change_email"
    # `count` of them, since a sign-in was one too many.
    END_OLDEST_SESSIONS = "end_oldest_sessions"
    # By Watchword itself, since a secret that was replaced came back.
    END_STOLEN_SESSION = "end_stolen_session"
    # `count` sessions ended by it, if there were any.
    CREATE_USER = "create_user"
    UPDATE_USER = "update_user"
    DISABLE_USER = "disable_user"
    ENABLE_USER = "enable_user"
    DELETE_USER = "delete_user"
    # Every session of those who hold a role, `count` of them, or of everybody.
    REVOKE_ALL_OF_ROLE = "revoke_all_of_role"
    REVOKE_ALL_OF_EVERYBODY = "revoke_all_of_everybody"
    # Every session and `count` codes ended after a restore.
    RESTORE_FENCE = "restore_fence"
    CREATE_SERVICE_KEY = "create_service_key"
    REVOKE_SERVICE_KEY = "revoke_service_key"
    CONFIRM_SERVICE_KEY = "confirm_service_key"
    CREATE_ROLE = "create_role"
    UPDATE_ROLE = "update_role"
    DELETE_ROLE = "delete_role"
    ASSIGN_ROLE = "assign_role"
    UNASSIGN_ROLE = "unassign_role"
    # By Watchword itself, since many codes were wrong.
    RAISE_CODE_LEVEL = "raise_code_level"
    # Any call, refused before it was looked at.
    CALL = "call"


class Outcome(StrEnum):
    """Done, or why not. The names of a refused caller's are those of errors.Reason."""

    OK = "ok"
    # No live challenge of this code's form, or none with an attempt left: nothing was compared.
    NOT_LIVE_OR_SPENT = "not_live_or_spent"
    WRONG_CODE = "wrong_code"
    # A right code, but the challenge, the address or the username went to somebody else meanwhile.
    LOST_RACE = "lost_race"
    # A right code for a shadow, a disabled account, or a registration that is gone.
    NOBODY_TO_SIGN_IN = "nobody_to_sign_in"
    # A limit was reached; the target says which.
    RATE_LIMITED = "rate_limited"
    # Done, but counted for the caller as a whole: it did not say whom the call is for.
    CLIENT_IP_MISSING = "client_ip_missing"
    CALLER_CREDENTIAL_MISSING = "caller_credential_missing"
    CALLER_CREDENTIAL_INVALID = "caller_credential_invalid"
    CALLER_SCOPE_MISSING = "caller_scope_missing"


class TargetKind(StrEnum):
    """What an action was about."""

    SESSION = "session"
    CHALLENGE = "challenge"
    # By the hexadecimal text of its key; challenges and registrations have the same key.
    SUBJECT = "subject"
    ROLE = "role"
    SERVICE_KEY = "service_key"
    # By the name that ErrorInfo has.
    LIMIT = "limit"
    # What new codes have at least.
    CODE_LENGTH = "code_length"


@dataclass(frozen=True, slots=True)
class Target:
    """What an action was about; the id of a role is its name."""

    kind: TargetKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; `id` has the slot that it is stored in, 0 where no person is concerned.

    `actor` is a caller's name, CLI or UNKNOWN_CALLER, and None where nobody asked; `user_id` is the
    account that acted or was changed; the `client_` fields are what the caller said of the end
    user. An event stands for `count` refusals, of which what they do not share is None, or for the
    end of `count` sessions.
    """

    id: UUID
    action: Action
    outcome: Outcome = Outcome.OK
    actor: str | None
    user_id: UUID | None = None
    target: Target | None = None
    client_ip: str | None = None
    client_user_agent: str | None = None
    client_device_name: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as it is stored, and when; a newer program may have words of its own."""

    at: datetime
    id: UUID
    action: str
    outcome: str
    actor: str | None
    user_id: UUID | None
    target_kind: str | None
    target_id: str | None
    client_ip: str | None
    client_user_agent: str | None
    client_device_name: str | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are asked for; None is any. From the start on, before the end."""

    user_id: UUID | None = None
    action: str | None = None
    actor: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventKey:
    """Where an event is in the order of a listing."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, and before which the next page begins; None for the last page.

    It may have fewer than were asked for, and none, though there are more pages.
    """

    events: Sequence[StoredEvent]
    following: EventKey | None
