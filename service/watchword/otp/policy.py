"""The numbers that bound guessing (design.md 6; NIST SP 800-63B-4 3.1.3.2; ASVS 5.0 6.5)."""

from datetime import timedelta

from pydantic import Field

from watchword.settings import Duration, Section

# The lane by e-mail serves callers that keep no handle; a stranger can spend it, so it has less.
ATTEMPTS_BY_EMAIL_MAX = 3
# How many live challenges of a subject a code by e-mail is tried against.
NEWEST_BY_EMAIL = 3
# What `resend_time` promises; the limits enforce it once they are there.
RESEND_AFTER = timedelta(seconds=60)


class OtpPolicy(Section):
    """Length, life and attempts of a code."""

    code_length: int = Field(6, ge=6, le=10, description="digits of a mailed code")
    lifetime: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=30),
        le=timedelta(minutes=10),
        description="how long a code verifies",
    )
    attempts_max: int = Field(5, ge=1, le=10, description="codes compared per challenge by its id")
