"""How long the installation's new codes have to be while wrong codes come from everywhere.

What one subject's budget cannot see: a guess for each of many addresses (design.md 6). The level is
the database's and shared by all replicas; docs/codes.md says what an operator sees of it.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from watchword.otp.policy import LONG_CODE_FORM, OtpPolicy

# A level ends when its threshold has not been reached for so long.
CALM_TIME = timedelta(hours=6)
# While a threshold goes on being reached the end is moved no more often than this.
EXTEND_AFTER = timedelta(minutes=1)


class CodeLevel(IntEnum):
    """The shortest form that new codes have; 0 leaves it to the configured length."""

    CALM = 0
    EIGHT_DIGITS = 8
    LONG_CODES = LONG_CODE_FORM


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides the form of a new code: the subject's budget and the installation's level."""

    spent: bool
    level: CodeLevel


@dataclass(frozen=True, slots=True)
class Alarm:
    """How long each level still holds, not at all or less at 0, and the wrong codes so far.

    The counts are of the last minute and the last 24 hours at least, never too few. Long codes
    never hold for longer than eight digits.
    """

    eight_digits_left: timedelta
    long_codes_left: timedelta
    in_minute: int
    in_day: int

    @property
    def level(self) -> CodeLevel:
        """The level that holds."""
        if self.long_codes_left > timedelta(0):
            return CodeLevel.LONG_CODES
        return CodeLevel.EIGHT_DIGITS if self.eight_digits_left > timedelta(0) else CodeLevel.CALM

    def left(self, level: CodeLevel) -> timedelta:
        """How long this level still holds."""
        long = level is CodeLevel.LONG_CODES
        return self.long_codes_left if long else self.eight_digits_left


def reached_level(policy: OtpPolicy, *, in_minute: int, in_day: int) -> CodeLevel:
    """Returns what so many wrong codes demand."""
    if in_minute >= policy.long_codes_per_minute:
        return CodeLevel.LONG_CODES
    if in_minute >= policy.eight_digits_per_minute or in_day >= policy.eight_digits_per_day:
        return CodeLevel.EIGHT_DIGITS
    return CodeLevel.CALM


def level_max(*, known_device: bool) -> CodeLevel:
    """Returns the highest level that a call is held to: a known device never sees long codes."""
    return CodeLevel.EIGHT_DIGITS if known_device else CodeLevel.LONG_CODES


def code_form(policy: OtpPolicy, standing: Standing, *, known_device: bool = False) -> int:
    """Returns the form of a new code; `known_device`: the call has a valid device token."""
    if standing.spent:
        return LONG_CODE_FORM
    return max(policy.code_length, min(standing.level, level_max(known_device=known_device)))
