"""What callers were promised: every acknowledged answer, kept until it is checked.

A call that failed, or whose answer was lost, may have done its work or not: it promises nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TypeVar

from watchword_client import Overloaded, Unavailable

Response = TypeVar("Response")
NEVER = datetime.max.replace(tzinfo=UTC)


class Claim(Enum):
    """What holds for everything that was acknowledged."""

    MAILED = "a code is mailed while it lives"
    REGISTERED = "a registration's code signs in with its user id"
    SIGNED_IN = "a session is live until it is revoked"
    SIGNED_OUT = "a revoked session is refused"
    SPENT = "a code signs in once"
    ONE_BODY = "a mail that is sent once more is the same mail"
    COPIES = "by SMTP a kill has one mail sent once more at most, by Resend none"
    ANSWERED = "a server that is well answers"


class Outcome(Enum):
    """What is known of a call; it is UNKNOWN from the moment that it is made."""

    NOT_ASKED = auto()
    UNKNOWN = auto()
    ACKNOWLEDGED = auto()


@dataclass
class Person:
    """Somebody with an address of their own, who asks for one code and may use it.

    A value that is empty was never acknowledged.
    """

    number: int
    user_id: str = ""
    challenge_id: str = ""
    code_ask_time: datetime = NEVER
    code_expire_time: datetime = NEVER
    session_id: str = ""
    session_token: str = field(default="", repr=False)
    sign_in: Outcome = Outcome.NOT_ASKED
    sign_out: Outcome = Outcome.NOT_ASKED

    @property
    def username(self) -> str:
        """Nobody else's."""
        return f"person{self.number}"

    @property
    def email(self) -> str:
        """Nobody else's."""
        return f"{self.username}@example.com"


@dataclass
class Ledger:
    """Everybody, how calls ended, and the claims that were seen broken."""

    people: list[Person] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[Claim, str]] = field(default_factory=list)
    # By the loop's clock.
    last_answer_seconds: float = 0.0
    # Called once, with the next answer of this method.
    on_answer: tuple[str, Callable[[], None]] | None = None

    async def call(self, method: str, call: Awaitable[Response]) -> Response | None:
        """Returns the answer of a call; None when its outcome is unknown."""
        try:
            answer = await call
        except (Unavailable, Overloaded) as error:
            self.unanswered[f"{method} {error.reason or error.code.name}"] += 1
            return None
        self.answered[method] += 1
        self.last_answer_seconds = asyncio.get_running_loop().time()
        if self.on_answer is not None and self.on_answer[0] == method:
            self.on_answer[1]()
            self.on_answer = None
        return answer

    def break_claim(self, claim: Claim, what: str) -> None:
        """Notes that a claim does not hold."""
        self.broken.append((claim, what))

    def broken_claims(self) -> dict[str, int]:
        """Returns how often each claim was broken, by its name."""
        return dict(Counter(claim.name for claim, _ in self.broken))

    @property
    def signed_in(self) -> list[Person]:
        """Everybody whose session was acknowledged."""
        return [person for person in self.people if person.session_token]
