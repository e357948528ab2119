"""Going through all slots, some at once, for what has no index over them."""

from collections.abc import Iterator
from typing import Final

from watchword.crypto import SLOTS

# Some milliseconds of work, whatever there is; few enough not to hold a sign-in up.
SLOTS_AT_ONCE: Final = 64


def slot_batches() -> Iterator[range]:
    """Yields every slot, as many together as are gone through at once."""
    for first in range(0, SLOTS, SLOTS_AT_ONCE):
        yield range(first, first + SLOTS_AT_ONCE)
