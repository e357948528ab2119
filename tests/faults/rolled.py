"""Two servers whose key ring is rolled, and people who go on meanwhile and must not notice."""

import asyncio
import base64
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from tests.faults.postbox import Postbox
from tests.races.bursts import FULL
from tests.support.postgres import fetch
from tests.support.processes import watchword
from tests.support.replicas import SOURCE
from watchword.crypto import CodeSource, KeyRing
from watchword_client import (
    AsyncClient,
    OtpInvalid,
    Overloaded,
    SessionInvalid,
    Unavailable,
)

Response = TypeVar("Response")

SERVERS = 2
# People at once, each of whom signs in, is checked and refreshed; then comes the next one.
PEOPLE = 6 if FULL else 2
CHECKERS = 4 if FULL else 1
# So many go on while the servers' rings differ.
SOME = 50 if FULL else 5
PAUSE_SECONDS = 0.05
AGAIN_SECONDS = 0.02
PATIENCE_SECONDS = 20.0
# An answer of VerifyOtp that was lost is followed by another code.
CODES_MAX = 5


class Servers:
    """The servers of one installation, each replaced by one with another ring when it is rolled."""

    def __init__(self, environment: Mapping[str, str], ends: contextlib.AsyncExitStack) -> None:
        self.clients: list[AsyncClient] = []
        self.stopped: set[AsyncClient] = set()
        self._environment = environment
        self._running: list[contextlib.AsyncExitStack] = []
        self._ends = ends

    async def start(self, ring: str) -> None:
        """Starts all of them at once."""
        started = await asyncio.gather(*(self._started(ring) for _ in range(SERVERS)))
        self._running = [running for running, _ in started]
        self.clients = [client for _, client in started]

    async def roll(self, ring: str, *, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Ends a server by SIGTERM while one with this ring starts in its place, and so on.

        `meanwhile` is awaited while both have different rings.
        """
        for server in range(SERVERS):
            if server > 0:
                await meanwhile()
            self.stopped.add(self.clients[server])
            (self._running[server], self.clients[server]), _ = await asyncio.gather(
                self._started(ring), self._running[server].aclose()
            )

    async def _started(self, ring: str) -> tuple[contextlib.AsyncExitStack, AsyncClient]:
        running = await self._ends.enter_async_context(contextlib.AsyncExitStack())
        env = {**self._environment, "WATCHWORD_SECRETS__KEYS": ring}
        process = await running.enter_async_context(watchword("serve", env=env))
        # Not closed with its server: calls in flight are to hear of the end from that.
        return running, await self._ends.enter_async_context(process.client())


@dataclass(eq=False)
class Person:
    """Somebody with an address of their own; `replaced` is the token before the present one."""

    name: str
    challenge_id: str = ""
    token: str = field(default="", repr=False)
    replaced: str = field(default="", repr=False)
    busy: bool = False

    @property
    def email(self) -> str:
        """Nobody else's."""
        return f"{self.name}@example.com"


@dataclass
class Seen:
    """How many calls were answered, which were not and asked again, and what must not be."""

    answered: Counter[str] = field(default_factory=Counter)
    by_stopping: Counter[str] = field(default_factory=Counter)
    by_others: Counter[str] = field(default_factory=Counter)
    to_another_key: int = 0
    failed: list[str] = field(default_factory=list)


class Crowd:
    """People who sign in, are checked and refreshed at either server."""

    def __init__(
        self, servers: Servers, postbox: Postbox, keys: KeyRing, database_url: str
    ) -> None:
        self.seen = Seen()
        self.signed_in: list[Person] = []
        self._servers = servers
        self._postbox = postbox
        self._keys = keys
        self._database_url = database_url
        self._numbers = itertools.count()
        self._over = False

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Has them come and go until the block ends, and lets each finish what it does."""
        self._over = False
        async with asyncio.TaskGroup() as group:
            for _ in range(PEOPLE):
                group.create_task(self._come())
            for _ in range(CHECKERS):
                group.create_task(self._check())
            try:
                yield
            finally:
                self._over = True

    async def go_on(self) -> None:
        """Waits until some more have signed in and some more tokens were replaced."""
        before = Counter(self.seen.answered)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(
                self.seen.answered[method] < before[method] + SOME
                for method in ("VerifyOtp", "RefreshSession")
            ):
                await asyncio.sleep(AGAIN_SECONDS)

    async def newcomer(self) -> Person:
        """Registers somebody and has a code mailed."""
        person = Person(f"person{next(self._numbers)}")
        registered = await self._ask(
            "Register",
            lambda client: client.register(
                full_name="Ada Lovelace", username=person.name, email=person.email, send_otp=True
            ),
        )
        person.challenge_id = registered.challenge.id
        return person

    async def sign_in(self, person: Person) -> None:
        """Verifies the mailed code; after a lost answer a new one, at the other server."""
        first = random.randrange(SERVERS)
        for server in range(first, first + CODES_MAX):
            code = await self._mailed_code(person)
            if code is None:
                return
            call = self._once(
                "VerifyOtp",
                lambda client, code=code: client.verify_otp(
                    challenge_id=person.challenge_id, code=code
                ),
                server,
            )
            try:
                answer = await call
            except OtpInvalid:
                self.seen.failed.append(f"{person.name}: right code refused")
                return
            if answer is not None:
                person.token = answer.session_token
                self.signed_in.append(person)
                return
            sent = await self._ask("SendOtp", lambda client: client.send_otp(email=person.email))
            person.challenge_id = sent.challenge.id
        self.seen.failed.append(f"{person.name}: no answer to {CODES_MAX} codes")

    async def validate(self, person: Person, token: str) -> None:
        """Looks whether a token that must be good is: the present one, or the one before."""
        try:
            await self._ask("ValidateSession", lambda client: client.validate_session(token))
        except SessionInvalid:
            # It may have been replaced twice while it was asked about.
            if token in (person.token, person.replaced):
                self.seen.failed.append(f"{person.name}: session of key {key_of(token)} refused")

    async def refresh(self, person: Person) -> None:
        """Replaces somebody's token; both are good for a while."""
        token = person.token
        # It ends with the answer, which may be on its way.
        person.replaced = ""
        try:
            answer = await self._ask("RefreshSession", lambda client: client.refresh_session(token))
        except SessionInvalid:
            self.seen.failed.append(f"{person.name}: refresh of key {key_of(token)} refused")
            return
        person.token, person.replaced = answer.session_token, token
        self.seen.to_another_key += key_of(answer.session_token) != key_of(token)
        await self.validate(person, token)
        await self.validate(person, answer.session_token)

    async def _come(self) -> None:
        while not self._over:
            person = await self.newcomer()
            await self.sign_in(person)
            for each in random.sample(self.signed_in, min(2, len(self.signed_in))):
                # Who refreshes at two places at once looks like a thief.
                if not each.busy:
                    each.busy = True
                    await self.refresh(each)
                    each.busy = False
            await asyncio.sleep(PAUSE_SECONDS)

    async def _check(self) -> None:
        while not self._over:
            if self.signed_in:
                person = random.choice(self.signed_in)
                await self.validate(person, person.token)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _mailed_code(self, person: Person) -> str | None:
        """Returns the code of the challenge once a mail has brought it."""
        (row,) = await fetch(self._database_url, SOURCE, UUID(person.challenge_id))
        key_id, purpose, id, subject_key, nonce, form = row
        source = CodeSource(key_id, purpose, id, subject_key, nonce)
        code = self._keys.derive_code(source, length=form).reveal()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not any(
                    (mail.address, mail.code) == (person.email, code)
                    for mail in reversed(self._postbox.arrivals)
                ):
                    await asyncio.sleep(AGAIN_SECONDS)
                return code
        self.seen.failed.append(f"{person.name}: no mail with a code of key {key_id}")
        return None

    async def _ask(
        self, method: str, call: Callable[[AsyncClient], Awaitable[Response]]
    ) -> Response:
        """Calls either server, and the other one for what a server has not answered."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for server in itertools.count(random.randrange(SERVERS)):
                answer = await self._once(method, call, server)
                if answer is not None:
                    return answer
                await asyncio.sleep(AGAIN_SECONDS)
        raise AssertionError("unreachable: it is answered or the time is over")

    async def _once(
        self,
        method: str,
        call: Callable[[AsyncClient], Awaitable[Response]],
        server: int,
    ) -> Response | None:
        """Returns None when the server has not answered; they are counted on and on."""
        client = self._servers.clients[server % SERVERS]
        try:
            answer = await call(client)
        except (Unavailable, Overloaded) as error:
            stopping = client in self._servers.stopped
            counted = self.seen.by_stopping if stopping else self.seen.by_others
            counted[f"{method} {error.reason or error.code.name}"] += 1
            return None
        self.seen.answered[method] += 1
        return answer


def key_of(token: str) -> int:
    """Returns the id of the key that has signed a session token."""
    return base64.urlsafe_b64decode(token[3:7])[0]
