"""Reads the ledger against the mails, the database and a server that is well."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tests.faults.caller import Caller
from tests.faults.ledger import Claim, Ledger, Outcome, Person
from tests.faults.postbox import Postbox
from tests.races.bursts import FULL
from tests.support.processes import WatchwordProcess

AT_ONCE = 8
DRAIN_SECONDS = 60.0
# A send takes milliseconds: what is pending for longer was leased by a server that is dead.
STILL_SECONDS = 1.0
# The full size waits 30 seconds for it.
END_LEASES = "UPDATE outbox SET lease_expire_time = now() WHERE state = 'pending'"
PENDING = "SELECT count(*) FROM outbox WHERE state = 'pending'"
KNOWN_USER_IDS = "SELECT user_id FROM registrations UNION SELECT id FROM users"
# Each is made in the transaction that uses a challenge up.
SESSIONS_AND_CONSUMED = """
    SELECT (SELECT count(*) FROM sessions) AS sessions,
           (SELECT count(*) FROM challenges WHERE consume_time IS NOT NULL) AS consumed
"""


async def drained(ledger: Ledger, server: WatchwordProcess) -> None:
    """Waits until no mail is pending; ends the leases that dead servers have left."""
    before = pending = -1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while pending := (await server.sql(PENDING))[0][0]:
                if pending == before and not FULL:
                    await server.sql(END_LEASES)
                before = pending
                await asyncio.sleep(STILL_SECONDS)
    if pending:
        ledger.break_claim(Claim.MAILED, f"{pending} mails stay pending")


async def check(ledger: Ledger, server: WatchwordProcess, postbox: Postbox) -> None:
    """Notes every claim that does not hold; the codes that nobody has used sign in now."""
    unanswered = ledger.unanswered.total()
    async with server.client() as client:
        caller = Caller(ledger)
        caller.client = client
        await _each(ledger.people, lambda person: _check_code(caller, postbox, person))
        await _each(ledger.signed_in, caller.validate)
    if lost := ledger.unanswered.total() - unanswered:
        ledger.break_claim(Claim.ANSWERED, f"{lost} calls failed: {ledger.unanswered}")
    known = {str(row["user_id"]) for row in await server.sql(KNOWN_USER_IDS)}
    for person in ledger.people:
        if person.user_id and person.user_id not in known:
            ledger.break_claim(Claim.REGISTERED, f"{person}: not in the database")
    (row,) = await server.sql(SESSIONS_AND_CONSUMED)
    if row["sessions"] != row["consumed"]:
        ledger.break_claim(Claim.SPENT, f"{row}")


async def _check_code(caller: Caller, postbox: Postbox, person: Person) -> None:
    if not person.challenge_id:
        return
    mail = postbox.first(person.email)
    if mail is None or mail.time > person.code_expire_time:
        caller.ledger.break_claim(Claim.MAILED, f"{person}: {mail and mail.time}")
        return
    if person.sign_in is not Outcome.ACKNOWLEDGED:
        await caller.sign_in(person, mail.code)
    if person.sign_in is Outcome.ACKNOWLEDGED:
        await caller.replay(person, mail.code)


async def _each(people: list[Person], work: Callable[[Person], Awaitable[None]]) -> None:
    """Does the work for everybody, a few at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(person: Person) -> None:
        async with places:
            await work(person)

    await asyncio.gather(*map(one, people))
