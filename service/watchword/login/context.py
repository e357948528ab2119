"""What every use case works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import Field

from watchword.audit.refusals import Refusals
from watchword.changes.model import Change
from watchword.crypto import KeyRing
from watchword.login.failures import FailureCounter
from watchword.login.limits import Limits
from watchword.login.ports import Database, SessionCache
from watchword.otp.policy import OtpPolicy
from watchword.sessions.first_use import FirstUses
from watchword.sessions.last_seen import LastSeen
from watchword.sessions.model import SessionPolicy
from watchword.settings import Section


class LoginSettings(Section):
    """How sign-in behaves."""

    disclose_taken_email: bool = Field(
        False, description="answer EMAIL_TAKEN to Register for an address that has an account"
    )


@dataclass(frozen=True, slots=True)
class LoginContext:
    """The collaborators and numbers of the use cases.

    `mail_queued` is called after a commit that queued a mail, `callers_changed` after one that
    changed a service key; both only save a wait.
    """

    database: Database
    keys: KeyRing
    otp: OtpPolicy
    sessions: SessionPolicy
    settings: LoginSettings
    refusals: Refusals
    limits: Limits
    failures: FailureCounter
    last_seen: LastSeen
    first_uses: FirstUses
    mail_queued: Callable[[], None]
    callers_changed: Callable[[], Awaitable[None]]
    cache: SessionCache | None = None

    def tell_cache(self, change: Change) -> None:
        """Has this process's next checks know of a committed change; the other replicas poll it."""
        if self.cache is not None:
            self.cache.apply(change)
