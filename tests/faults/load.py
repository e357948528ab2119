"""An open loop: people come at their rate, however long those before them have to wait."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator

from tests.faults.caller import Caller
from tests.faults.ledger import Outcome, Person
from tests.faults.postbox import Postbox

CODES_PER_SECOND = 50
# The others' codes are left for the checks at the end.
SIGNS_IN = 2
SIGNS_OUT = 4
MAIL_PATIENCE_SECONDS = 5.0


class Load:
    """People who register, sign in, are looked up and sign out."""

    def __init__(self, caller: Caller, postbox: Postbox) -> None:
        self._caller = caller
        self._postbox = postbox
        self.seconds = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Has 50 people a second ask for a code until the block ends; then waits for them."""
        async with asyncio.TaskGroup() as people:
            source = people.create_task(self._come(people))
            try:
                yield
            finally:
                source.cancel()

    async def _come(self, people: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in itertools.count():
            await asyncio.sleep(began + number / CODES_PER_SECOND - loop.time())
            self.seconds = loop.time() - began
            person = Person(number)
            self._caller.ledger.people.append(person)
            people.create_task(self._live(person))

    async def _live(self, person: Person) -> None:
        await self._caller.ask_for_code(person)
        if not person.challenge_id or person.number % SIGNS_IN:
            return
        code = await self._postbox.code_for(person.email, seconds=MAIL_PATIENCE_SECONDS)
        if code is None:
            return
        await self._caller.sign_in(person, code)
        if person.sign_in is not Outcome.ACKNOWLEDGED:
            return
        await self._caller.validate(random.choice(self._caller.ledger.signed_in))
        if person.number % SIGNS_OUT == 0:
            await self._caller.sign_out(person)
        await self._caller.validate(person)
