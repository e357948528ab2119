"""What challenges need from storage. A look-up returns None when there is nothing."""

from typing import Protocol
from uuid import UUID

from watchword.crypto import CodeSource
from watchword.otp.model import (
    ConsumedChallenge,
    IssuedChallenge,
    NewChallenge,
    Purpose,
    ResendableChallenge,
)


class ChallengeStore(Protocol):
    """Challenges, and the two lanes that count what is compared."""

    async def insert(self, challenge: NewChallenge) -> IssuedChallenge:
        """Stores the challenge."""

    async def exists(self, challenge_id: UUID) -> bool:
        """Answers whether the challenge was stored, live or not."""

    async def find_resendable(
        self, challenge_id: UUID, *, purpose: Purpose
    ) -> ResendableChallenge | None:
        """Returns the challenge while it is live, its lanes spent or not."""

    async def charge_by_id(
        self, challenge_id: UUID, *, purpose: Purpose, code_form: int, attempts_max: int
    ) -> list[CodeSource]:
        """Counts one attempt on a live challenge whose code has this form; none: compare none."""

    async def charge_by_email(
        self,
        subject_key: bytes,
        *,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        newest: int,
    ) -> list[CodeSource]:
        """Counts one attempt on each of the newest live challenges that has one left."""

    async def consume(self, challenge_id: UUID, *, subject_key: bytes) -> ConsumedChallenge | None:
        """Uses up the challenge, once, and ends the subject's others; None: not this time."""
