"""A server that cannot hear of changes says nothing that is older than the lease (R7).

It is stopped, cut off from the database by a proxy, or its event loop stands still, while another
server revokes a session that both know. What it says is judged at the moment at which the check
began: the server decides no earlier, whatever the way to it and back takes.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC

import pytest

from tests.races.bursts import FULL
from tests.races.sessions import CACHED, LEASE_SECONDS, known, revoke, stored_sessions
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.postgres import DatabaseServer
from tests.support.replicas import replicas_on
from tests.support.server_at import BLOCK_SECONDS
from watchword_client import AsyncClient, Overloaded, SessionInvalid, Unavailable

pytestmark = pytest.mark.timeout(120)

FAULT_SECONDS = 5.0 if FULL else 2.0
TESTS = 3
# A check of each session so often, whether or not those before have been answered.
PAUSE_SECONDS = 0.05
# Longer than any fault: a check that waits it out is answered.
TIMEOUT_SECONDS = 30.0
WELL_AGAIN_SECONDS = 20.0
# The database's clock and this process's are one, the lease's is another of the same machine.
CLOCKS_SECONDS = 0.01


@dataclass(frozen=True)
class Said:
    """An answer: what was asked and when (the loop's time), and how old a yes was then."""

    token: str
    began: float
    waited: float
    words: str
    age_seconds: float = 0.0


@dataclass
class Late:
    """A server that can be stopped and cut off, and another one of its installation."""

    process: int
    client: AsyncClient
    other: AsyncClient
    proxy: FaultyProxy
    tokens: list[str]
    said: list[Said] = field(default_factory=list)

    async def check(self, token: str) -> None:
        """Asks once and notes what is said."""
        clock = asyncio.get_running_loop().time
        began, wall = clock(), time.time()
        age, words = 0.0, "OK"
        try:
            answer = await self.client.validate_session(token)
            age = wall - answer.as_of_time.ToDatetime(UTC).timestamp()
        except (SessionInvalid, Overloaded, Unavailable) as error:
            words = error.reason
        self.said.append(Said(token, began, clock() - began, words, age))

    @contextlib.asynccontextmanager
    async def checked(self, *tokens: str) -> AsyncIterator[None]:
        """Asks for these sessions again and again until the block ends; waits for the answers."""
        async with asyncio.TaskGroup() as group:

            async def ask() -> None:
                while True:
                    for token in tokens:
                        group.create_task(self.check(token))
                    await asyncio.sleep(PAUSE_SECONDS)

            asking = group.create_task(ask())
            try:
                yield
            finally:
                asking.cancel()


@pytest.fixture(scope="module")
async def late(postgres: DatabaseServer, template: str) -> AsyncIterator[Late]:
    """The server behind a proxy and the one beside it, for all tests of this file."""
    name = postgres.next_name("races")
    url = await postgres.create_database(name, template=template)
    async with (
        replicas_on(url, count=1, **CACHED) as replicas,
        faulty_proxy(url) as proxy,
        replicas.one_more(DATABASE__URL=proxy.url) as server,
        AsyncClient(
            server.ready["api"], service_key=server.ready["service_key"], timeout=TIMEOUT_SECONDS
        ) as client,
    ):
        tokens = await stored_sessions(replicas.servers[0].ready["env"], url, 2 * TESTS)
        yield Late(server.process.pid, client, replicas.clients[0], proxy, tokens)
    await postgres.drop_database(name)


async def _hold(
    late: Late,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    seconds: float = FAULT_SECONDS,
) -> None:
    """Holds a fault while a session is revoked elsewhere, and judges everything that was said."""
    revoked, kept = late.tokens.pop(), late.tokens.pop()
    late.said.clear()
    for token in (revoked, kept):
        await known(late.client, token)
    async with late.checked(revoked, kept):
        await asyncio.sleep(5 * PAUSE_SECONDS)
        await begin()
        try:
            acknowledged = await revoke(late.other, revoked)
            await asyncio.sleep(seconds)
        finally:
            await end()
        await known(late.client, kept)
        await asyncio.sleep(LEASE_SECONDS)
    _judge(late.said, revoked=revoked, acknowledged=acknowledged)
    # It was in effect: a known session is not waited for.
    assert max(said.waited for said in late.said) > LEASE_SECONDS / 2


def _judge(said: list[Said], *, revoked: str, acknowledged: float) -> None:
    for each in said:
        assert each.age_seconds <= LEASE_SECONDS + CLOCKS_SECONDS, each
        if each.token != revoked:
            assert each.words != "SESSION_INVALID", each
        elif each.began > acknowledged + LEASE_SECONDS:
            assert each.words != "OK", each
    assert any(each.words == "SESSION_INVALID" for each in said)


async def test_a_server_that_was_stopped(late: Late) -> None:
    """SIGSTOP for 2 s, in full 5: what waited meanwhile gets no yes from before, nor does the
    revoked session.

    Seen to fail with both looks at the lease taken out of Lane::validate.
    """

    async def begin() -> None:
        os.kill(late.process, signal.SIGSTOP)

    async def end() -> None:
        os.kill(late.process, signal.SIGCONT)

    await _hold(late, begin, end)


async def test_a_server_that_is_cut_off(late: Late) -> None:
    """A proxy that passes nothing on for 2 s, in full 5, stands between a server and the database:
    it answers from memory for the lease and not after that.

    Seen to fail with both looks at the lease taken out of Lane::validate.
    """
    await _hold(late, lambda: late.proxy.tell("hang"), lambda: late.proxy.tell("pass"))


async def test_a_loop_that_stands_still(late: Late) -> None:
    """The event loop of a server is blocked for 3 s, which its gate's threads are not: they answer
    from memory for the lease and not after that.

    Seen to fail with both looks at the lease taken out of Lane::validate.
    """

    async def begin() -> None:
        os.kill(late.process, signal.SIGUSR1)

    async def end() -> None:
        """It ends by itself."""

    await _hold(late, begin, end, BLOCK_SECONDS)
