"""One session's token refreshed by many at once, by whoever lost an answer, by who copied it, and
while it is revoked (row 31).
"""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from tests.races.bursts import FULL
from tests.races.results import Results
from tests.races.sessions import AGAIN_SECONDS, CACHED, KNOWN_SECONDS, revoke, stored_sessions
from tests.support.replicas import Replicas, replicas_on
from watchword_client import AsyncClient, Overloaded, SessionInvalid, Unavailable

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

TOGETHER = 10
CALLERS = 32
# What others may hear of a session that was ended (docs/validation.md).
SEEN_SECONDS = 1.0
# How long one waits for an answer that it is to lose: from nothing to what an answer takes.
LOST_SECONDS_MAX = 0.03


@pytest.fixture
async def caching(database_url: str) -> AsyncIterator[Replicas]:
    """Three servers that answer checks from memory."""
    async with replicas_on(database_url, **CACHED) as replicas:
        yield replicas


async def refreshed(client: AsyncClient, token: str) -> str | None:
    """Refreshes until there is an answer; None for SESSION_INVALID."""
    async with asyncio.timeout(KNOWN_SECONDS):
        while True:
            try:
                return (await client.refresh_session(token)).session_token
            except SessionInvalid:
                return None
            except (Overloaded, Unavailable):
                await asyncio.sleep(AGAIN_SECONDS)


async def honest(client: AsyncClient, token: str, patience: float) -> str | None:
    """Loses its first answer, unless that is there in time, and asks again with what it has."""
    try:
        async with asyncio.timeout(patience):
            await client.refresh_session(token)
    except (TimeoutError, SessionInvalid, Overloaded, Unavailable):
        pass
    return await refreshed(client, token)


async def good(replicas: Replicas, tokens: set[str]) -> int:
    """How many of the tokens are those of a live session, at any of the servers."""

    async def is_good(client: AsyncClient, token: str) -> bool:
        async with asyncio.timeout(KNOWN_SECONDS):
            while True:
                try:
                    await client.validate_session(token)
                    return True
                except SessionInvalid:
                    return False
                except (Overloaded, Unavailable):
                    await asyncio.sleep(AGAIN_SECONDS)

    checks = [is_good(client, token) for client in replicas.clients for token in tokens]
    return sum(await asyncio.gather(*checks))


async def _chain(caching: Replicas, token: str, chance: random.Random) -> tuple[list[str], int]:
    """Three refreshes in a row, each by 32 callers at three servers at once; every other of them
    loses its answer. Returns the tokens, the first one first, and how many have none.
    """
    tokens, signed_out = [token], 0
    for _ in range(3):
        calls = []
        for caller in range(CALLERS):
            client = caching.clients[caller % len(caching.clients)]
            if caller % 2:
                calls.append(refreshed(client, tokens[-1]))
            else:
                calls.append(honest(client, tokens[-1], chance.uniform(0, LOST_SECONDS_MAX)))
        answers = await asyncio.gather(*calls)
        signed_out += answers.count(None)
        tokens += {token for token in answers if token is not None}
    return tokens, signed_out


async def test_all_get_one_token_and_a_copy_ends_it(caching: Replicas, results: Results) -> None:
    """Three refreshes in a row, each by 32 callers at three servers at once, half of whom lose
    their answer: all have one token, and nobody is signed out. Then one of the first two tokens is
    refreshed: a second later, the bound of what others have in memory, no token is good.

    20 sessions, in full 1,000. Seen to fail with `s.generation = $4` taken out of ROTATE, with the
    token before refused, and without `_end_stolen`.
    """
    chance = random.Random(31)
    rows = ("31, new tokens", "31, honest", "31, copied")
    with results.measure_together(*rows) as (new, lost, copied):
        server = caching.servers[0].ready
        sessions = await stored_sessions(server["env"], server["database_url"], new.trials)
        counted = (row.each(TOGETHER) for row in (new, lost, copied))
        for first, *_ in zip(*counted, strict=True):
            some = sessions[first : first + TOGETHER]
            chains = await asyncio.gather(*(_chain(caching, token, chance) for token in some))
            for tokens, signed_out in chains:
                lost.saw(signed_out)
                new.saw(len(tokens) - 3)
            present = {tokens[-1] for tokens, _ in chains}
            assert await good(caching, present) == len(present) * len(caching.clients)
            for tokens, _ in chains:
                copy = chance.choice(tokens[:2])
                assert await refreshed(chance.choice(caching.clients), copy) is None
            await asyncio.sleep(SEEN_SECONDS)
            for tokens, _ in chains:
                copied.saw(await good(caching, set(tokens)))


async def _revoked_among(caching: Replicas, token: str, number: int) -> set[str]:
    """Returns the tokens that there are after 32 refreshes and a revoke at once."""
    clients = [caching.clients[at % len(caching.clients)] for at in range(CALLERS)]
    calls = [refreshed(client, token) for client in clients]
    *answers, _ = await asyncio.gather(*calls, revoke(clients[number % 3], token))
    following = {answer for answer in answers if answer is not None}
    assert len(following) <= 1
    return {token, *following}


async def test_a_revoke_among_refreshes_counts(caching: Replicas, results: Results) -> None:
    """32 refreshes of one token and a revoke by it at once: those who were answered hold one token,
    and a second after the acknowledgement no token is good, nor is one refreshed.

    20 sessions, in full 1,000. Seen to fail with `s.revoke_time IS NULL` taken out of ROTATE and
    FIND_ROTATION.
    """
    with results.measure("31, revoked") as row:
        server = caching.servers[0].ready
        sessions = await stored_sessions(server["env"], server["database_url"], row.trials)
        for first in row.each(TOGETHER):
            some = enumerate(sessions[first : first + TOGETHER])
            calls = [_revoked_among(caching, token, number) for number, token in some]
            ended = await asyncio.gather(*calls)
            await asyncio.sleep(SEEN_SECONDS)
            for tokens in ended:
                row.saw(await good(caching, tokens))
                again = [await refreshed(caching.clients[0], token) for token in tokens]
                row.saw(len(again) - again.count(None))
