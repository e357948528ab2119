"""Whether this ring and those of the other servers go together, as the database shows it."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from watchword.crypto import SLOTS
from watchword.doctor.findings import Finding, ok, warning
from watchword.login.key_status import KeyStatus, Position, status_of
from watchword.login.ports import KeyUse
from watchword.login.slots import slot_batches
from watchword.storage.inspection import Inspection

# Users are spread over the slots by chance: some of them tell of all where there are too many.
LOOK_SECONDS: Final = 2.0


async def keys(
    inspection: Inspection, ring: Sequence[int], idle_lifetime: timedelta
) -> Sequence[Finding]:
    """What is alive has keys of this ring, and the newest is signed by its first."""
    found: list[KeyUse] = []
    slots_seen = 0
    give_up = time.monotonic() + LOOK_SECONDS
    for slots in slot_batches():
        if time.monotonic() > give_up:
            break
        found += await inspection.key_use(slots, idle_lifetime=idle_lifetime)
        slots_seen = slots.stop
    share = "" if slots_seen == SLOTS else f" in {slots_seen} of {SLOTS} slots"
    status = status_of(ring, found)
    missing = [_missing(one, share) for one in status if one.position is Position.NOT_IN_RING]
    return missing or [_signing(status)]


def _missing(one: KeyStatus, share: str) -> Finding:
    return warning(
        f"{one.sessions} live sessions and {one.challenges} live challenges{share} have key "
        f"{one.key_id}, which is not in this ring, so they are refused",
        "compare `WATCHWORD_SECRETS__KEYS` of all servers; docs/key-rotation.md says when a key "
        "may go",
    )


def _signing(status: Sequence[KeyStatus]) -> Finding:
    """A challenge lives for minutes: its key signs now, or did until a roll-out just now."""
    others = [one.key_id for one in status[1:] if one.challenges]
    if others and not status[0].in_use:
        return ok(
            f"what is alive has keys of this ring; note: key {status[0].key_id} has signed nothing "
            f"that is alive, and key {others[0]} has within minutes: another server may have it "
            "first"
        )
    return ok("what is alive has keys of this ring")
