"""What waits to be mailed, and what the dispatcher needs from storage.

The outbox holds references: no code, no address and no rendered mail. The dispatcher derives the
code and looks the address up when it sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from watchword.crypto import CodeSource


class MailKind(StrEnum):
    """What a mail is; a newer program may queue others, which are left to it."""

    CODE = "otp"
    # To the old address, once another has taken its place.
    EMAIL_CHANGED = "email_changed"


@dataclass(frozen=True, slots=True)
class OutboxKey:
    """Where an outbox row is."""

    slot: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mail that is due; those that a known device asked for go before all others."""

    key: OutboxKey
    kind: MailKind
    known_device: bool


@dataclass(frozen=True, slots=True)
class CodeMail:
    """What a mail with a code is about: who signs in by it, or whose address it changes."""

    source: CodeSource
    code_length: int
    user_id: UUID | None
    registration_id: UUID | None
    changes_user_id: UUID | None


@dataclass(frozen=True, slots=True)
class EmailChangedMail:
    """The change of an address that a mail tells of."""

    user_id: UUID
    email_change_id: UUID


@dataclass(frozen=True, slots=True)
class LeasedMail:
    """A mail that this dispatcher alone may send until the lease ends.

    `wanted` is False once its challenge is used, ended or expired; until the last, or for as long
    as a notice is worth sending, it has `time_left`. `attempts` counts this one.
    `queued_time` dates the mail, so that a second attempt sends the same bytes.
    """

    key: OutboxKey
    lease_id: UUID
    attempts: int
    about: CodeMail | EmailChangedMail
    locale: str | None
    known_device: bool
    wanted: bool
    time_left: timedelta
    queued_time: datetime


@dataclass(frozen=True, slots=True)
class Recipient:
    """The stored address of a mail, and the stored language of the person."""

    address: str
    locale: str | None


class OutboxStore(Protocol):
    """The queue of mails. Everything but `put` and `queued_time` is the dispatcher's."""

    async def put(
        self,
        outbox_id: UUID,
        *,
        challenge_id: UUID,
        locale: str | None,
        is_shadow: bool = False,
        known_device: bool = False,
    ) -> None:
        """Queues the code mail of a challenge, in the transaction that makes or resends it.

        The same work for a shadow, whose mail is dropped from the start; nothing for an id that
        was queued before.
        """

    async def put_email_changed(
        self, outbox_id: UUID, *, user_id: UUID, email_change_id: UUID
    ) -> None:
        """Queues the notice to the old address, in the transaction that changes it."""

    async def queued_time(self, outbox_id: UUID) -> datetime | None:
        """Returns when the mail was queued; its slot is its challenge's."""

    async def candidates(self, *, limit: int) -> Sequence[Candidate]:
        """Returns mails that are due and not leased: of known devices first, then the oldest."""

    async def lease(
        self, candidate: Candidate, *, lease_id: UUID, lifetime: timedelta
    ) -> LeasedMail | None:
        """Takes the mail for this dispatcher; None when another has it."""

    async def recipient(self, mail: LeasedMail) -> Recipient | None:
        """Returns the stored address; None when there is nobody to be mailed now."""

    async def mark_sent(self, mail: LeasedMail) -> bool:
        """Notes that the provider took the mail; False when the lease was lost meanwhile."""

    async def retry_later(self, mail: LeasedMail, *, delay: timedelta) -> bool:
        """Gives the mail back to be sent again; False when the lease was lost meanwhile."""

    async def drop(self, mail: LeasedMail) -> bool:
        """Gives the mail up for good; False when the lease was lost meanwhile."""
