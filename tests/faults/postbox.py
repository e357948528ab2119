"""Where the mails arrive: the stand-ins for the providers, which outlive the server."""

import asyncio
import contextlib
import email
import email.policy
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.faults.ledger import Claim, Ledger
from tests.support.resend_server import API_KEY, ResendServerDouble, resend_server
from tests.support.running import code_of
from tests.support.smtp_server import SmtpServerDouble, Taken, smtp_server

SENDER = "Acme <no-reply@acme.example>"


@dataclass(frozen=True)
class Arrival:
    """A mail at the moment that the provider has taken it, which the sender does not know yet."""

    address: str
    code: str
    time: datetime


class Postbox:
    """Every mail in the order of arrival; `settings` make a server send to here.

    `on_mail` is called once, with the next mail that arrives, before the sender has its answer.
    `copies_max` is how many mails a kill may have sent once more.
    """

    copies_max: int

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        self.arrivals: list[Arrival] = []
        self.on_mail: Callable[[], None] | None = None
        self._first: dict[str, Arrival] = {}
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def put(self, arrival: Arrival) -> None:
        """Takes a mail."""
        self.arrivals.append(arrival)
        self._first.setdefault(arrival.address, arrival)
        self._arrived[arrival.address].set()
        if self.on_mail is not None:
            self.on_mail()
            self.on_mail = None

    def first(self, address: str) -> Arrival | None:
        """Returns the first mail to the address."""
        return self._first.get(address)

    async def code_for(self, address: str, *, seconds: float) -> str | None:
        """Returns the code that was mailed to the address; None when none came in this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived[address].wait()
        arrival = self.first(address)
        return None if arrival is None else arrival.code

    def copied(self, kills: Sequence[datetime]) -> Counter[datetime]:
        """Returns how many mails each kill has had sent once more.

        It is the one nearest to the copy before: that had been taken, and this was not noted.
        """
        last: dict[str, datetime] = {}
        copied: Counter[datetime] = Counter()
        for arrival in self.arrivals:
            before = last.get(arrival.address)
            if before is not None:
                copied[min(kills, key=lambda kill: abs(kill - before))] += 1
            last[arrival.address] = arrival.time
        return copied

    def check(self, ledger: Ledger, kills: Sequence[datetime]) -> None:
        """Notes which claims about the mails themselves are broken."""
        for kill, copies in self.copied(kills).items():
            if copies > self.copies_max:
                ledger.break_claim(Claim.COPIES, f"{copies} mails once more by the kill at {kill}")


class ResendPostbox(Postbox):
    """Takes mails as Resend does: a key is one mail, however often it comes."""

    copies_max = 0

    def __init__(self, server: ResendServerDouble) -> None:
        super().__init__()
        self.settings = {
            "MAIL__SENDERS": "resend",
            "MAIL__FROM": SENDER,
            "RESEND__API_KEY": API_KEY,
            "RESEND__BASE_URL": server.base_url,
            "RESEND__RATE": "200",
        }
        self.server = server
        server.sent = _Noted(self._note)

    def _note(self, sent: dict[str, Any]) -> None:
        code = sent["subject"].partition(" ")[0]
        self.put(Arrival(sent["to"][0], code, datetime.now(UTC)))

    def check(self, ledger: Ledger, kills: Sequence[datetime]) -> None:
        """Besides, no key came with two bodies."""
        super().check(ledger, kills)
        for key in self.server.conflicts:
            ledger.break_claim(Claim.ONE_BODY, f"key {key} with another body")


class SmtpPostbox(Postbox):
    """Takes mails as a mail server does: every copy is a mail.

    A kill may have one sent once more, which had been taken and not noted yet.
    """

    copies_max = 1

    def __init__(self, server: SmtpServerDouble) -> None:
        super().__init__()
        self.settings = {
            "MAIL__SENDERS": "smtp",
            "MAIL__FROM": SENDER,
            "SMTP__URL": f"smtp://127.0.0.1:{server.port}",
        }
        self._contents: defaultdict[str, set[bytes]] = defaultdict(set)
        server.taken = _Noted(self._note)

    def _note(self, taken: Taken) -> None:
        (address,) = taken.recipients
        self._contents[address].add(taken.content)
        mail = email.message_from_bytes(taken.content, policy=email.policy.default)
        self.put(Arrival(address, code_of(mail), datetime.now(UTC)))

    def check(self, ledger: Ledger, kills: Sequence[datetime]) -> None:
        """Besides, the copies of a mail are equal, Message-ID included: mailboxes can tell."""
        super().check(ledger, kills)
        for address in (address for address, seen in self._contents.items() if len(seen) > 1):
            ledger.break_claim(Claim.ONE_BODY, f"different mails to {address}")


@contextlib.asynccontextmanager
async def postbox(provider: str) -> AsyncIterator[Postbox]:
    """Runs the stand-in of `resend` or `smtp`."""
    if provider == "resend":
        async with resend_server() as http:
            yield ResendPostbox(http)
    else:
        async with smtp_server() as smtp:
            yield SmtpPostbox(smtp)


class _Noted(list[Any]):
    """The list of a stand-in, which says what is put in before the stand-in answers."""

    def __init__(self, note: Callable[[Any], None]) -> None:
        super().__init__()
        self._note = note

    def append(self, item: Any) -> None:
        super().append(item)
        self._note(item)
