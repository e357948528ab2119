"""What challenges need from storage. A look-up returns None when there is nothing."""

from datetime import timedelta
from typing import Protocol
from uuid import UUID

from watchword.otp.level import Alarm, CodeLevel, Standing
from watchword.otp.model import (
    Charge,
    ConsumedChallenge,
    IssuedChallenge,
    NewChallenge,
    Purpose,
    ResendableChallenge,
)
from watchword.otp.policy import FailureBudget


class ChallengeStore(Protocol):
    """Challenges: made, looked up, mailed again."""

    async def insert(self, challenge: NewChallenge) -> IssuedChallenge | None:
        """Stores the challenge; None when its id was stored before."""

    async def find_issued(self, challenge_id: UUID) -> tuple[IssuedChallenge, bool] | None:
        """Returns the challenge as it was first answered, and whether it is live."""

    async def exists(self, challenge_id: UUID) -> bool:
        """Answers whether the challenge was stored, live or not."""

    async def find_resendable(
        self, challenge_id: UUID, *, purpose: Purpose
    ) -> ResendableChallenge | None:
        """Returns the challenge while it is live, its lanes spent or not."""

    async def end_all(self, subject_key: bytes) -> None:
        """Ends the subject's live challenges."""

    async def subject_of(self, challenge_id: UUID, *, purpose: Purpose) -> bytes | None:
        """Returns the subject's key while the challenge is live."""


class AttemptStore(Protocol):
    """The two lanes that count what is compared, and the one time that a challenge is used up."""

    async def charge_by_id(
        self,
        challenge_id: UUID,
        *,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        budget: FailureBudget,
        device_key: bytes | None = None,
    ) -> Charge:
        """Counts one attempt on a live challenge whose code has this form, then one failure.

        The failure is the known device's of that key, or the subject's without one.
        Without sources, since there is no such challenge or the subject's budget has no room,
        nothing may be compared; the latter costs the attempt all the same. A code that is shorter
        than the installation's level demands, of a known device at most 8 digits, has one attempt
        left in each lane.
        """

    async def charge_by_email(
        self,
        subject_key: bytes,
        *,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        newest: int,
        budget: FailureBudget,
    ) -> Charge:
        """Counts one attempt on each of the newest live challenges that has one left.

        Then as many failures; where the budget has room for fewer, fewer challenges are tried.
        The level as in `charge_by_id`.
        """

    async def find_long_by_id(
        self, challenge_id: UUID, *, purpose: Purpose, device_key: bytes | None = None
    ) -> Charge:
        """Returns a live challenge with a long code, on which nothing is counted."""

    async def find_long_by_email(
        self, subject_key: bytes, *, purpose: Purpose, newest: int, device_key: bytes | None = None
    ) -> Charge:
        """Returns the newest live challenges with a long code, on which nothing is counted.

        Those that the known device of that key has asked for are the newest.
        """

    async def consume(
        self, challenge_id: UUID, *, subject_key: bytes, charge: Charge
    ) -> ConsumedChallenge | None:
        """Uses up the challenge, once, and ends the subject's others; None: not this time.

        Gives the budget back what this attempt was charged, and clears its failures in a row.
        """


class DeviceAttemptStore(Protocol):
    """The lane by e-mail of a known device."""

    async def charge_by_email(
        self,
        subject_key: bytes,
        *,
        device_key: bytes,
        purpose: Purpose,
        code_form: int,
        attempts_max: int,
        newest: int,
        budget: FailureBudget,
    ) -> Charge:
        """Counts one attempt on each of so many live challenges, as `charge_by_id` counts them.

        Those that the device has asked for come first, then the newest of the subject. Then as many
        failures of the device; where its budget has room for fewer, fewer challenges are tried.
        """


class BudgetStore(Protocol):
    """Failure budgets of subjects; what charges them is the AttemptStore's."""

    async def standing(self, key: bytes, *, slot: int, budget: FailureBudget) -> Standing:
        """Answers whether a lane has no room for one more wrong code, and the level.

        The key is a subject's or a known device's, the slot the subject's. One look-up for both, of
        what is committed: every replica knows a new level at once.
        """


class InstallationStore(Protocol):
    """The wrong codes of everybody, and the level of codes that follows from them."""

    async def count_failures(self, stripe: int, units: int) -> None:
        """Counts so many wrong codes on one of the stripes, 0 to FAILURE_STRIPES - 1."""

    async def alarm(self) -> Alarm:
        """Returns the level and the counts."""

    async def raise_level(self, level: CodeLevel, *, lasts: timedelta) -> bool:
        """Raises the level; answers whether it was this call that did."""

    async def extend_level(
        self, level: CodeLevel, *, lasts: timedelta, not_within: timedelta
    ) -> None:
        """Moves the end of the level that holds, unless that was done `not_within` ago."""
