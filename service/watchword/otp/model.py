"""What a challenge is; the code itself is derived (crypto.KeyRing.derive_code) and never stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from watchword.crypto import CodeSource
from watchword.otp.policy import RESEND_AFTER


class Purpose(StrEnum):
    """What a challenge proves an address for; each RPC accepts one."""

    SIGN_IN = "sign_in"
    EMAIL_CHANGE = "email_change"


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device that has signed in to a subject before, first at `since_us`.

    `key`, 32 bytes, belongs to device and subject together; its counts are kept under it.
    """

    key: bytes = field(repr=False)
    since_us: int


@dataclass(frozen=True, slots=True)
class NewChallenge:
    """A challenge to be stored; without any user or registration it is a shadow: it mails nothing.

    It signs in `user_id`, or whom the registration makes, or changes the address of
    `changes_user_id`. `device_key` is that of the known device that asked for it.
    """

    source: CodeSource
    code_form: int
    lifetime: timedelta
    user_id: UUID | None = None
    registration_id: UUID | None = None
    changes_user_id: UUID | None = None
    mailbox_key: bytes | None = None
    device_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class IssuedChallenge:
    """What a caller is told of a challenge; `asked_time` is the database's time of this mail."""

    id: UUID
    code_form: int
    expire_time: datetime
    asked_time: datetime

    @property
    def resend_time(self) -> datetime:
        """The earliest time at which another mail makes sense."""
        return self.asked_time + RESEND_AFTER


@dataclass(frozen=True, slots=True)
class ResendableChallenge:
    """A live challenge that can be mailed again; those of older programs have no mailbox key."""

    issued: IssuedChallenge
    is_shadow: bool
    subject_key: bytes
    mailbox_key: bytes | None


@dataclass(frozen=True, slots=True)
class Charge:
    """The codes that may be compared, and what a failure budget was charged for them.

    `units` is one for each of them, or 0 where no budget applies; `failed_at_us`, the entry in the
    budget, is what a success gives back by. The budget is the known device's, otherwise, without
    `device_key`, the subject's.
    """

    sources: Sequence[CodeSource] = ()
    units: int = 0
    failed_at_us: int = 0
    by_email: bool = False
    device_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ConsumedChallenge:
    """A challenge that this transaction has used up, and whom it signs in."""

    user_id: UUID | None
    registration_id: UUID | None
