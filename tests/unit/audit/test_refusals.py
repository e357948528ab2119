"""How refusals are counted: one event for each subject, address or caller, and reason."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.audit import refusals as module
from watchword.audit.model import CLI, UNKNOWN_CALLER, Action, Event, Outcome, Target, TargetKind
from watchword.audit.refusals import KEYS_MAX, Refusals
from watchword.callers.registry import RESERVED_NAMES
from watchword.crypto import new_id
from watchword.errors import CallerError

SUBJECT = Target(TargetKind.SUBJECT, "5b" * 32)


def refused(
    outcome: Outcome = Outcome.WRONG_CODE,
    *,
    target: Target | None = None,
    ip: str | None = None,
    actor: str = "gateway",
) -> Event:
    """One refused code."""
    return Event(
        id=new_id(7),
        action=Action.SIGN_IN,
        outcome=outcome,
        actor=actor,
        target=target,
        client_ip=ip,
    )


def challenge(number: int) -> Target:
    """A challenge that a guesser named."""
    return Target(TargetKind.CHALLENGE, f"challenge {number}")


def counted(refusals: Refusals) -> list[Event]:
    """What has been counted."""
    return list(refusals.take().values())


def noted(events: Iterable[Event]) -> Refusals:
    """A process that has refused these."""
    refusals = Refusals()
    for event in events:
        refusals.note(event)
    return refusals


def test_a_subject_is_one_event_whoever_guesses() -> None:
    """From many addresses and by two callers: what they do not share is left out."""
    refusals = noted(
        refused(target=SUBJECT, ip=f"192.0.2.{number}", actor=f"caller{number % 2}")
        for number in range(200)
    )
    assert len(refusals) == 200
    (event,) = counted(refusals)
    assert (event.count, event.target, event.client_ip, event.actor) == (200, SUBJECT, None, None)


def test_without_a_subject_the_address_counts() -> None:
    """Any number of invented challenges from one address is one event, without a challenge."""
    (event,) = counted(noted(refused(target=challenge(n), ip="192.0.2.1") for n in range(50)))
    assert (event.count, event.target, event.client_ip) == (50, None, "192.0.2.1")


def test_without_an_address_the_caller_counts() -> None:
    """One event for each caller; what all of them share stays."""
    refusals = noted(refused(target=challenge(1), actor=f"caller{n % 2}") for n in range(10))
    events = counted(refusals)
    assert {(e.actor, e.count, e.target) for e in events} == {
        ("caller0", 5, challenge(1)),
        ("caller1", 5, challenge(1)),
    }


def test_reasons_are_counted_apart() -> None:
    """Five codes that were compared tell something else than a hundred that were not."""
    reasons = [Outcome.WRONG_CODE] * 5 + [Outcome.NOT_LIVE_OR_SPENT] * 100
    events = counted(noted(refused(outcome, target=SUBJECT) for outcome in reasons))
    assert {e.outcome: e.count for e in events} == {
        Outcome.WRONG_CODE: 5,
        Outcome.NOT_LIVE_OR_SPENT: 100,
    }


def test_memory_is_bounded() -> None:
    """Beyond 10,000 keys one event for each reason takes the rest, and no refusal is forgotten.

    Seen to fail without the comparison with KEYS_MAX.
    """
    refusals = noted(
        refused(outcome, ip=f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
        for n in range(KEYS_MAX + 5_000)
        for outcome in (Outcome.WRONG_CODE, Outcome.NOT_LIVE_OR_SPENT)
    )
    assert len(refusals) == 2 * (KEYS_MAX + 5_000)
    events = counted(refusals)
    assert len(events) == KEYS_MAX + 2
    rest = [event for event in events if event.count > 1]
    assert {event.outcome: event.count for event in rest} == {
        Outcome.WRONG_CODE: 10_000,
        Outcome.NOT_LIVE_OR_SPENT: 10_000,
    }
    assert all(event.client_ip is None for event in rest)


def test_known_keys_are_still_told_apart_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filling the memory with inventions does not hide who was being guessed at."""
    monkeypatch.setattr(module, "KEYS_MAX", 10)
    refusals = noted([refused(target=SUBJECT), *(refused(ip=f"192.0.2.{n}") for n in range(50))])
    refusals.note(refused(target=SUBJECT))
    assert {e.count for e in counted(refusals) if e.target == SUBJECT} == {2}


def test_what_could_not_be_stored_is_merged_into_the_next() -> None:
    """Taken, put back, and counted on as if it had never left."""
    refusals = noted([refused(target=SUBJECT), refused(ip="192.0.2.1")])
    taken = refusals.take()
    assert len(refusals) == 0
    refusals.note(refused(target=SUBJECT))
    refusals.note(refused(ip="192.0.2.2"))
    refusals.put_back(taken)
    events = counted(refusals)
    assert len(events) == 3
    assert [event.count for event in events if event.target == SUBJECT] == [2]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Outcome.WRONG_CODE, Outcome.NOT_LIVE_OR_SPENT]),
            st.sampled_from([None, SUBJECT, challenge(1), challenge(2)]),
            st.sampled_from([None, "192.0.2.1", "192.0.2.2"]),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_nothing_is_lost_and_nothing_is_said_that_does_not_hold_for_all(
    calls: list[tuple[Outcome, Target | None, str | None, bool]],
) -> None:
    """The counts add up, however often they are put back; an event tells what all of it shared."""
    refusals = Refusals()
    for outcome, target, ip, put_back in calls:
        refusals.note(refused(outcome, target=target, ip=ip))
        if put_back:
            refusals.put_back(refusals.take())
    assert len(refusals) == len(calls)
    for event in counted(refusals):
        matching = [
            call
            for call in calls
            if call[0] is event.outcome
            and (event.target is None or call[1] == event.target)
            and (event.client_ip is None or call[2] == event.client_ip)
        ]
        assert event.count <= len(matching)


def test_no_caller_has_a_name_of_the_audit() -> None:
    """A caller called `cli` could hide behind the operator."""
    assert {CLI, UNKNOWN_CALLER} == RESERVED_NAMES


def test_every_refusal_of_a_caller_has_an_outcome() -> None:
    """The pipeline looks them up by the name of the reason."""
    for error in CallerError.__subclasses__():
        assert Outcome[error.reason.name].value == error.reason.lower()
