"""The clock that leases and the age of answers are counted by."""

import time


def boottime_ns() -> int:
    """Returns the time since boot; unlike a monotonic clock it goes on while the host sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
