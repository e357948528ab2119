"""What a limit is: a rate, the windows that hold it, and the bucket that is counted.

The counting is the generic cell rate algorithm (ITU-T I.371, Annex A): a bucket remembers the
theoretical arrival time of its next unit, and a unit has room while that is at most `slack` ahead
of the present. Times are whole microseconds.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from watchword.settings import format_duration, parse_duration

COUNT_MAX = 1_000_000
PERIOD_MAX = timedelta(days=30)
OFF = "off"

_MICROSECOND = timedelta(microseconds=1)
_RATE = re.compile(r"([0-9]{1,7})/([0-9]{1,9}[smhd])")


class LimitKind(StrEnum):
    """What is counted; callers are told which of them refused."""

    MAILBOX = "mailbox"
    CLIENT = "client"
    NETWORK = "network"
    CALLER = "caller"
    DEVICE = "device"
    FAILURES = "failures"
    LONG_CODE = "long_code"
    # Of the dispatcher: mail waits, nobody is refused.
    INSTALLATION_MAILS = "installation_mails"
    DOMAIN_MAILS = "domain_mails"


@dataclass(frozen=True, slots=True)
class Window:
    """One rate as the table counts it, in microseconds; `step_us` is what a unit takes."""

    step_us: int
    slack_us: int


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any half-open window of `period`."""

    count: int
    period: timedelta

    def window(self) -> Window:
        """Returns burst B = ceil(count / 2) and interval period / (count - B + 1), rounded up.

        In less than `period`, units that come as early as they can number at most B and one for
        each whole interval within, which makes `count`; rounding up lets fewer pass, never more.
        """
        burst = -(-self.count // 2)
        step_us = -(-(self.period // _MICROSECOND) // (self.count - burst + 1))
        return Window(step_us=step_us, slack_us=(burst - 1) * step_us)

    def __str__(self) -> str:
        """As it is written in the environment."""
        return f"{self.count}/{format_duration(self.period)}"


def parse_rate(text: str) -> Rate | None:
    """Reads `5/1h`, or `off`, which is None; raises ValueError."""
    if text == OFF:
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("is no rate; write `5/1h`, or `off`")
    count, period = int(match[1]), parse_duration(match[2])
    assert isinstance(period, timedelta)
    if not 1 <= count <= COUNT_MAX or not timedelta(seconds=1) <= period <= PERIOD_MAX:
        raise ValueError(
            f"must be 1 to {COUNT_MAX} in `1s` to `{format_duration(PERIOD_MAX)}`, or `off`"
        )
    return Rate(count, period)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one key may still do: 1 to 3 windows, which have room or not together."""

    kind: LimitKind
    key: bytes = field(repr=False)
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Shortage:
    """A bucket without room, and how long until it may have some if nobody else takes it."""

    bucket: Bucket
    wait: timedelta
