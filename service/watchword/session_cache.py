"""The session cache of this process, as Python sees it: it fills and empties what the gate reads.

The cache and its lease are Rust (rust_core/core/src/cache); docs/validation.md says what they
promise. Everything here is called on the event loop and takes microseconds, some for each session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import final
from uuid import UUID

from watchword import _core
from watchword.callers.model import Scope, StoredCaller
from watchword.callers.registry import CallerRegistry
from watchword.changes.model import Change, ChangeKind
from watchword.crypto import KeyRing
from watchword.login.ports import EncodedStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NANOSECONDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRefusals:
    """What the gate answers on its own: no live session, one whose user proved the address too long
    ago, no room, no database in time.
    """

    invalid: EncodedStatus
    reauthentication_needed: EncodedStatus
    overloaded: EncodedStatus
    unavailable: EncodedStatus


@final
class GateCache:
    """Implements SessionCache and MissedSessions of login.ports, changes.ports.ChangeSink and
    service_key_reader's CallerSink.
    """

    def __init__(
        self,
        keys: KeyRing,
        callers: CallerRegistry,
        refusals: GateRefusals,
        *,
        bytes_max: int,
        idle_lifetime: timedelta,
        report_period: timedelta,
    ) -> None:
        self.lane = _core.Lane(
            keys.core,
            callers=[
                (digest, Scope.VALIDATE in caller.scopes) for digest, caller in callers.by_digest()
            ],
            invalid=_refusal(refusals.invalid),
            reauthentication_needed=_refusal(refusals.reauthentication_needed),
            overloaded=_refusal(refusals.overloaded),
            unavailable=_refusal(refusals.unavailable),
            bytes_max=bytes_max,
            idle_us=idle_lifetime // _MICROSECOND,
            report_every_us=report_period // _MICROSECOND,
        )

    @property
    def wake_fd(self) -> int:
        return self.lane.wake_fd

    def take_misses(self, most: int) -> "Turn | None":
        turn = self.lane.take_misses(most)
        return None if turn is None else Turn(turn)

    def take_refills(self, most: int) -> "Turn | None":
        turn = self.lane.take_refills(most)
        return None if turn is None else Turn(turn)

    def apply(self, change: Change) -> None:
        if change.user is not None:
            user = change.user
            self.lane.apply_user(user_id=user.user_id.bytes, version=user.version, epoch=user.epoch)
        elif change.kind is ChangeKind.ROLE:
            self.lane.apply_role(change_id=change.id.bytes)
        elif change.kind is ChangeKind.SERVICE_KEY:
            pass  # read by itself (jobs/service_key_reader.py); no session's answer depends on it
        else:
            # What this program does not know may have changed anything.
            self.lane.clear()

    def clear(self) -> None:
        self.lane.clear()

    def replace_callers(self, stored: Sequence[StoredCaller], *, sent_ns: int) -> None:
        """Takes the stored callers in place of those before."""
        self.lane.replace_callers(
            [(it.digest, Scope.VALIDATE in it.caller.scopes) for it in stored],
            sent_us=sent_ns // _NANOSECONDS,
        )

    def take_used_callers(self) -> Sequence[bytes]:
        """Takes the hashes of stored keys that calls came with."""
        return self.lane.take_used_callers()

    def take_seen(self) -> tuple[Sequence[tuple[UUID, datetime]], int]:
        """Takes the sessions that hits reported, and how many reports had no room."""
        reports, dropped = self.lane.take_seen()
        return [
            (UUID(bytes=id), _EPOCH + timedelta(microseconds=us)) for id, us in reports
        ], dropped

    def take_first_uses(self) -> tuple[Sequence[tuple[UUID, bytes]], int]:
        """Takes the sessions whose present secret came into use, and how many had no room."""
        uses, dropped = self.lane.take_first_uses()
        return [(UUID(bytes=id), verifier) for id, verifier in uses], dropped

    def renew(self, *, sent_ns: int, database_time: datetime) -> None:
        self.lane.renew(
            sent_us=sent_ns // _NANOSECONDS, database_time_us=_microseconds(database_time)
        )


@final
class Turn:
    """Implements login.ports.SessionTurn."""

    def __init__(self, turn: _core.Turn) -> None:
        self._turn = turn

    @property
    def session_ids(self) -> Sequence[str]:
        return self._turn.session_ids

    def take_rows(self, rows: Sequence[bytes]) -> None:
        self._turn.take_rows(rows)

    def fail(self, status: EncodedStatus) -> None:
        self._turn.fail(_refusal(status))


def _refusal(status: EncodedStatus) -> _core.Refusal:
    return _core.Refusal(status.code, status.message, status.SerializeToString())


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND
