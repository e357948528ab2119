"""Right and wrong codes by both lanes, and resends, in any order and at once (row 3).

A reference model says which outcomes are possible; it knows the rules and nothing of the server.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.races.bursts import (
    FULL,
    SENT,
    SIGNED_IN,
    Connections,
    Request,
    by_email,
    by_id,
    guesses,
)
from tests.races.results import Results
from tests.support.replicas import Person, Replicas
from watchword_client import auth_service_pb2 as pb

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

AT_ONCE = 10
CALLS = (4, 16)
BATCH_MAX = 8
ATTEMPTS_MAX = {"id": 5, "e-mail": 3}
UNKNOWN = {"STORAGE_UNAVAILABLE", "OVERLOADED"}


@dataclass
class Model:
    """What is known of a challenge whose calls were served in an order that nobody knows."""

    right: str
    used: bool = False
    # The least and the most that each lane can have been charged.
    least: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def contradictions(self, batch: Sequence[Request], outcomes: Sequence[str]) -> list[str]:
        """Returns what cannot have happened, of calls that were made at once."""
        calls = list(zip(batch, outcomes, strict=True))
        codes = [(each, how) for each, how in calls if isinstance(each, pb.VerifyOtpRequest)]
        tried = Counter(_lane(each) for each, _ in codes)
        accepted = [each for each, how in codes if how == SIGNED_IN]
        may_be_used = bool(accepted) or any(
            each.code == self.right and how in UNKNOWN for each, how in codes
        )
        wrong = []
        for each, how in codes:
            lane = _lane(each)
            if how == SIGNED_IN:
                if each.code != self.right or self.used or accepted[0] is not each:
                    wrong.append(f"accepted by {lane}: {each.code}")
                if self.least[lane] >= ATTEMPTS_MAX[lane]:
                    wrong.append(f"accepted by {lane} after its last charge")
            elif how == "OTP_INVALID":
                room = self.most[lane] + tried[lane] <= ATTEMPTS_MAX[lane]
                if each.code == self.right and room and not (self.used or may_be_used):
                    wrong.append(f"right code refused by {lane}")
            elif how not in UNKNOWN:
                wrong.append(how)
        for each, how in calls:
            if isinstance(each, pb.SendOtpRequest) and how not in UNKNOWN:
                if how == SENT and self.used:
                    wrong.append("a used code mailed again")
                if how != SENT and not (self.used or may_be_used):
                    wrong.append(f"resend: {how}")
        self.least.update(_lane(each) for each, how in codes if how not in UNKNOWN)
        self.most.update(tried)
        self.used = self.used or bool(accepted)
        return wrong


def _lane(request: pb.VerifyOtpRequest) -> str:
    return "e-mail" if request.email else "id"


def _batches(person: Person, chance: random.Random) -> list[list[Request]]:
    """Calls by chance, in batches of those that are made at once."""
    wrong = iter(guesses(person.code, CALLS[1]))
    likely_right = chance.choice([0.05, 0.2, 0.5])
    batches: list[list[Request]] = [[]]
    for _ in range(chance.randint(*CALLS)):
        if len(batches[-1]) == BATCH_MAX or (batches[-1] and chance.random() < 0.3):
            batches.append([])
        code = person.code if chance.random() < likely_right else next(wrong)
        if chance.random() < 0.1:
            batches[-1].append(pb.SendOtpRequest(challenge_id=person.challenge_id))
        elif chance.random() < 0.4:
            batches[-1] += by_email(person.email, [code])
        else:
            batches[-1] += by_id(person.challenge_id, [code])
    return batches


@pytest.mark.parametrize("replicas", ["read_committed"], indirect=True)
async def test_only_what_the_model_allows_is_accepted(
    replicas: Replicas, burst: Connections, results: Results
) -> None:
    """A code is accepted once at most, never after its lane's last charge, and only if compared.

    200 interleavings, in full 10,000, ten of them at once. Seen to fail with `attempts < $5` taken
    out of AttemptStore, and with verify_otp.py made to read, compare and then charge.
    """
    accepted = 0

    async def interleaved(number: int) -> tuple[Person, list[str]]:
        nonlocal accepted
        person = await replicas.newcomer()
        model, wrong = Model(person.code), list[str]()
        for batch in _batches(person, random.Random(number)):
            wrong += model.contradictions(batch, await burst.each_at_once(batch))
        accepted += model.used
        return person, wrong

    with results.measure("3") as row:
        for first in row.each(step=AT_ONCE):
            replicas.compared()
            done = await asyncio.gather(*map(interleaved, range(first, first + AT_ONCE)))
            compared = Counter(challenge for challenge, _ in replicas.compared())
            for person, wrong in done:
                over = max(0, compared[person.challenge_id] - sum(ATTEMPTS_MAX.values()))
                assert wrong == []
                row.saw(len(wrong) + over)
        assert 0 < accepted < row.trials
