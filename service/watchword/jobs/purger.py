"""Removes what has been dead for its retention, in small batches with pauses between them.

Every replica has a purger. Two may meet: each row is removed once, and the one that comes second
finds less to do. Nothing that somebody is answered depends on dead rows, so a purger that is
behind, put off or killed costs space alone.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from pydantic import Field

from watchword.audit.model import AuditSettings
from watchword.changes.model import CHANGES_KEPT
from watchword.crypto import SLOTS, jitter_seconds, shuffled
from watchword.errors import Overloaded, StorageUnavailable
from watchword.login.ports import PURGE_BATCH, Database, PurgeStore
from watchword.otp.policy import IN_A_ROW_KEPT, MONTH
from watchword.settings import Duration, Section

# After a full batch the purger rests nine times as long as that took: it works at most a tenth
# of the time however slow the database is, and a fast one is not asked without pause.
REST_FACTOR = 9
REST_MIN_SECONDS = 0.05
# Of all slots, for what no index leads to: once around in 256 passes.
SLOTS_PER_PASS = 16
# Longer than any transaction, so that no row is removed under one that saw it alive.
_RETENTION_MIN = timedelta(hours=1)
_RETENTION_MAX = timedelta(days=3650)

_log = structlog.get_logger(__name__)


class PurgeSettings(Section):
    """How long what is dead is kept for operators to look at."""

    interval: Duration = Field(
        timedelta(minutes=1),
        ge=timedelta(seconds=1),
        le=timedelta(days=1),
        description="how often a process looks for dead rows, on average",
    )
    retention: Duration = Field(
        timedelta(days=1),
        ge=_RETENTION_MIN,
        le=_RETENTION_MAX,
        description="how long expired challenges with their mails, registrations and holds on "
        "usernames are kept",
    )
    session_retention: Duration = Field(
        timedelta(days=7),
        ge=_RETENTION_MIN,
        le=_RETENTION_MAX,
        description="how long expired and revoked sessions are kept",
    )


# Removes one batch and returns how many rows that were.
_Remove = Callable[[PurgeStore], Awaitable[int]]


@dataclass(slots=True)
class _Tally:
    """What a pass has done so far."""

    removed: Counter[str] = field(default_factory=Counter)
    longest_batch_seconds: float = 0.0


class Purger:
    """The purger of this process."""

    def __init__(self, database: Database, settings: PurgeSettings, audit: AuditSettings) -> None:
        self._database = database
        self._settings = settings
        self._audit = audit
        # Each process goes round in an order of its own.
        self._slots = itertools.cycle(shuffled(range(SLOTS)))

    async def run(self) -> None:
        """Purges for ever; a database that is gone or busy is left alone until the next pass."""
        clock = asyncio.get_running_loop().time
        interval = self._settings.interval.total_seconds()
        while True:
            # Half of it by chance: replicas that started together do not purge together.
            await asyncio.sleep(interval / 2 + jitter_seconds(interval))
            tally, started = _Tally(), clock()
            try:
                await self._purge(tally)
            except (StorageUnavailable, Overloaded) as error:
                # A statement that took too long is one of these; the pool has logged which.
                _log.warning("purge put off", error=type(error).__name__)
            if tally.removed.total():
                _log.info(
                    "purged",
                    **tally.removed,
                    seconds=round(clock() - started, 3),
                    longest_batch_seconds=round(tally.longest_batch_seconds, 3),
                )

    async def _purge(self, tally: _Tally) -> None:
        present = await self._database.run_statement(lambda tx: tx.purge.present())
        # In any order: a kind that fails each time does not keep the others from their turn.
        for kind, remove in shuffled(self._work(present)):
            while await self._remove_batch(kind, remove, tally):
                pass

    async def _remove_batch(self, kind: str, remove: _Remove, tally: _Tally) -> bool:
        """Removes a batch and rests if it was full; whether there may be more."""
        clock = asyncio.get_running_loop().time
        started = clock()
        removed = await self._database.run_statement(lambda tx: remove(tx.purge))
        took = clock() - started
        tally.removed[kind] += removed
        tally.longest_batch_seconds = max(tally.longest_batch_seconds, took)
        if removed < PURGE_BATCH:
            return False
        await asyncio.sleep(max(REST_MIN_SECONDS, took * REST_FACTOR))
        return True

    def _work(self, present: datetime) -> list[tuple[str, _Remove]]:
        """Returns what a pass removes, each with the kind that it is counted as."""
        over = present - self._settings.retention
        dead = present - self._settings.session_retention
        past = present - self._audit.retention
        slots = list(itertools.islice(self._slots, SLOTS_PER_PASS))
        return [
            ("challenges", lambda purge: purge.challenges(dead_before=over)),
            # No setting: there is an address in it that nothing needs any more.
            ("email_changes", lambda purge: purge.email_changes(dead_before=present)),
            # No setting: whatever still counts in a budget's longer window has to stay.
            ("budgets", lambda purge: purge.settled_budgets(dead_before=present - MONTH)),
            ("budgets", lambda purge: purge.budgets(dead_before=present - IN_A_ROW_KEPT)),
            ("registrations", lambda purge: purge.registrations(dead_before=over)),
            ("holds", lambda purge: purge.holds(dead_before=over)),
            ("sessions", lambda purge: purge.expired_sessions(dead_before=dead)),
            ("sessions", lambda purge: purge.revoked_sessions(dead_before=dead)),
            ("audit_events", lambda purge: purge.audit_events(dead_before=past)),
            # No setting: a replica that has not read for so long begins anew.
            ("changes", lambda purge: purge.changes(dead_before=present - CHANGES_KEPT)),
            *(("sessions", _outdated(slot, dead)) for slot in slots),
            *(("roles", _orphaned(slot)) for slot in slots),
            # A drained bucket says what no bucket says, so that nothing is kept to look at.
            *(("limits", _drained(slot, present)) for slot in slots),
        ]


def _outdated(slot: int, dead: datetime) -> _Remove:
    return lambda purge: purge.outdated_sessions(slot, dead_before=dead)


def _orphaned(slot: int) -> _Remove:
    return lambda purge: purge.orphaned_roles(slot)


def _drained(slot: int, present: datetime) -> _Remove:
    return lambda purge: purge.drained_limits(slot, dead_before=present)
