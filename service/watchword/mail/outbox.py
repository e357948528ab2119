"""What waits to be mailed, and what the dispatcher needs from storage.

The outbox holds references: no code, no address and no rendered mail. The dispatcher derives the
code and looks the address up when it sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from watchword.crypto import CodeSource


@dataclass(frozen=True, slots=True)
class OutboxKey:
    """Where an outbox row is."""

    slot: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mail that is due; those that a known device asked for go before all others."""

    key: OutboxKey
    known_device: bool


@dataclass(frozen=True, slots=True)
class LeasedMail:
    """A mail that this dispatcher alone may send until the lease ends.

    `wanted` is False once its challenge is used, ended or expired; until the last it has
    `time_left`. `attempts` counts this one.
    `queued_time` dates the mail, so that a second attempt sends the same bytes.
    """

    key: OutboxKey
    lease_id: UUID
    attempts: int
    source: CodeSource
    code_length: int
    locale: str | None
    known_device: bool
    user_id: UUID | None
    registration_id: UUID | None
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

    async def queued_time(self, outbox_id: UUID) -> datetime | None:
        """Returns when the mail was queued; its slot is its challenge's."""

    async def candidates(self, *, limit: int) -> Sequence[Candidate]:
        """Returns mails that are due and not leased: of known devices first, then the oldest."""

    async def lease(
        self, key: OutboxKey, *, lease_id: UUID, lifetime: timedelta
    ) -> LeasedMail | None:
        """Takes the mail for this dispatcher; None when another has it."""

    async def recipient(self, mail: LeasedMail) -> Recipient | None:
        """Returns the stored address; None when there is no active user or registration now."""

    async def mark_sent(self, mail: LeasedMail) -> bool:
        """Notes that the provider took the mail; False when the lease was lost meanwhile."""

    async def retry_later(self, mail: LeasedMail, *, delay: timedelta) -> bool:
        """Gives the mail back to be sent again; False when the lease was lost meanwhile."""

    async def drop(self, mail: LeasedMail) -> bool:
        """Gives the mail up for good; False when the lease was lost meanwhile."""
