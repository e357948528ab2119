"""Refusals, counted in memory until jobs/audit_writer.py stores them once a minute.

A guesser must not be able to fill the table, nor cost a statement more than a guess does: refusals
of one subject (or else one client address, or else one caller) for one reason are one event with
their number. What they do not share, that event leaves out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from watchword.audit.model import Action, Event, Outcome, TargetKind

KEYS_MAX: Final = 10_000

T = TypeVar("T")


class Key(NamedTuple):
    """Whose refusals are counted together; no `whose` at all: those beyond KEYS_MAX."""

    action: Action
    outcome: Outcome
    whose: tuple[str, str] | None


class Refusals:
    """The refusals of this process that are not stored yet; KEYS_MAX events, and one a reason."""

    def __init__(self) -> None:
        self._events: dict[Key, Event] = {}

    def note(self, refused: Event) -> None:
        """Counts a refusal, which takes microseconds and no statement."""
        self._add(_key_of(refused), refused)

    def take(self) -> dict[Key, Event]:
        """Returns what has been counted, and begins anew."""
        taken, self._events = self._events, {}
        return taken

    def put_back(self, taken: Mapping[Key, Event]) -> None:
        """Adds what could not be stored to what has been counted since."""
        for key, event in taken.items():
            self._add(key, event)

    def __len__(self) -> int:
        """How many refusals have been counted, not events."""
        return sum(event.count for event in self._events.values())

    def _add(self, key: Key, event: Event) -> None:
        if key not in self._events and len(self._events) >= KEYS_MAX:
            key = key._replace(whose=None)
        known = self._events.get(key)
        self._events[key] = event if known is None else _merged(known, event)


def _key_of(event: Event) -> Key:
    if event.target is not None and event.target.kind is TargetKind.SUBJECT:
        whose = ("subject", event.target.id)
    elif event.client_ip is not None:
        whose = ("client", event.client_ip)
    else:
        whose = ("caller", event.actor or "")
    return Key(event.action, event.outcome, whose)


def _merged(one: Event, other: Event) -> Event:
    return replace(
        one,
        actor=_shared(one.actor, other.actor),
        target=_shared(one.target, other.target),
        client_ip=_shared(one.client_ip, other.client_ip),
        count=one.count + other.count,
    )


def _shared(one: T | None, other: T | None) -> T | None:
    return one if one == other else None
