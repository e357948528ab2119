"""The numbers that bound guessing (design.md 6; NIST SP 800-63B-4 3.1.3.2; ASVS 5.0 6.5)."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field

from watchword.settings import Duration, Section

# The lane by e-mail serves callers that keep no handle; a stranger can spend it, so it has less.
ATTEMPTS_BY_EMAIL_MAX = 3
# How many live challenges of a subject a code by e-mail is tried against.
NEWEST_BY_EMAIL = 3
# What `resend_time` promises; the limits enforce it once they are there.
RESEND_AFTER = timedelta(seconds=60)
# The form of a code of 13 characters of base32, 65 bits. Guessing it is hopeless, so neither
# attempts nor a budget are counted on it.
LONG_CODE_FORM = 13
# The wrong codes of the installation are counted in so many rows, so that none of them is hot.
FAILURE_STRIPES = 16
# The windows of a failure budget.
DAY = timedelta(hours=24)
MONTH = timedelta(days=30)
# How long failures in a row are remembered: NIST SP 800-63B-4, 3.2.2 knows no end of that, but a
# row for whatever was guessed at once cannot stay for ever.
IN_A_ROW_KEPT = timedelta(days=365)
# How long a browser that does not sign in stays known, and how far a host's clock may be behind.
DEVICE_TOKEN_LIFETIME = timedelta(days=180)
DEVICE_TOKEN_AHEAD_MAX = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureBudget:
    """How many wrong codes a subject may have compared; the lane by e-mail has half of each.

    `in_a_row` is what NIST SP 800-63B-4, 3.2.2 allows. With the others somebody who never stops
    guesses right with a chance of 1 in 20,000 a month, at 6 digits.
    """

    in_day: int
    in_month: int
    in_a_row: int


FAILURE_BUDGET = FailureBudget(in_day=10, in_month=50, in_a_row=100)


class OtpPolicy(Section):
    """Length, life and attempts of a code, and when the installation's codes become longer."""

    code_length: int = Field(6, ge=6, le=10, description="digits of a mailed code")
    lifetime: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=30),
        le=timedelta(minutes=10),
        description="how long a code verifies",
    )
    attempts_max: int = Field(5, ge=1, le=10, description="codes compared per challenge by its id")
    require_challenge_id: bool = Field(
        False,
        description="refuse VerifyOtp by `email`: only who asked for a code can spend it (ASVS 5.0 "
        "6.6.2)",
    )
    eight_digits_per_minute: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="wrong codes a minute, of everybody, from which new codes have 8 digits",
    )
    eight_digits_per_day: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        description="wrong codes in 24 hours, of everybody, from which new codes have 8 digits",
    )
    long_codes_per_minute: int = Field(
        600,
        ge=1,
        le=1_000_000,
        description="wrong codes a minute, of everybody, from which new codes have 13 characters",
    )
