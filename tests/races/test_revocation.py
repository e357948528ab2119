"""Who is revoked is refused: at once by the server that said so, soon by the others (R7)."""

import asyncio
import contextlib
import itertools
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from tests.races.bursts import FULL
from tests.races.histogram import histogram, percentile
from tests.races.results import ROOT, Results, commit_of_clean_tree
from tests.races.sessions import CACHED, LEASE_SECONDS, accepted, known, revoke, stored_sessions
from tests.support.replicas import REPLICAS, Replicas, replicas_on
from watchword_client import AsyncClient

pytestmark = pytest.mark.timeout(3_600 if FULL else 120)

TOGETHER = 10
SAME_REPLICA_CHECKS = 10
# So often a check is asked for elsewhere: what the figures can tell apart.
PAUSE_SECONDS = 0.01
# The other sessions, which nobody revokes, and how often each server is asked for one of them.
BYSTANDERS = 100
LOAD_PAUSE_SECONDS = 0.005
# The bound that is promised, of 99 of 100: 100 ms and one poll.
P99_MS = 200.0
WRITTEN = ROOT / "target/revocation.txt"


@pytest.fixture
async def caching(database_url: str) -> AsyncIterator[Replicas]:
    """Three servers that answer from memory."""
    async with replicas_on(database_url, **CACHED) as replicas:
        yield replicas


@contextlib.asynccontextmanager
async def _load(replicas: Replicas, tokens: Sequence[str]) -> AsyncIterator[Counter[str]]:
    """Has each server check sessions that are not revoked, all of which it has to accept."""
    answered: Counter[str] = Counter()

    async def checks(client: AsyncClient) -> None:
        for token in itertools.cycle(tokens):
            said = await accepted(client, token)
            assert said is not False, "a session that was not revoked was refused"
            answered["accepted" if said else "not answered"] += 1
            await asyncio.sleep(LOAD_PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(checks(client)) for client in replicas.clients]
        try:
            yield answered
        finally:
            for task in tasks:
                task.cancel()


async def _late_ms(client: AsyncClient, token: str, acknowledged: asyncio.Future[float]) -> float:
    """Checks a session until it is refused, or far too late is not.

    Returns how many milliseconds after its revoke the last that was accepted began.
    """
    clock = asyncio.get_running_loop().time
    last = clock()
    while True:
        began = clock()
        said = await accepted(client, token)
        if said:
            last = began
        too_late = acknowledged.done() and last > acknowledged.result() + 2 * LEASE_SECONDS
        if said is False or too_late:
            return max(0.0, (last - await acknowledged) * 1_000)
        await asyncio.sleep(PAUSE_SECONDS)


async def _revoked(replicas: Replicas, token: str, number: int) -> tuple[int, list[float]]:
    """Revokes a session that every server knows, at one of them.

    Returns how many checks that began after the answer were accepted there, and for each of the
    others how many milliseconds after the answer the last that was accepted began.
    """
    home = replicas.clients[number % REPLICAS]
    others = [client for client in replicas.clients if client is not home]
    for client in replicas.clients:
        await known(client, token)
    acknowledged = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(_late_ms(client, token, acknowledged)) for client in others]
        acknowledged.set_result(await revoke(home, token))
        here = [await accepted(home, token) for _ in range(SAME_REPLICA_CHECKS)]
    assert set(here) != {None}
    return here.count(True), [task.result() for task in asking]


async def test_a_revoke_is_seen_in_time(caching: Replicas, results: Results) -> None:
    """Sessions that three servers know are revoked under load, each at one of them: no check that
    begins there after the answer is accepted, and elsewhere none that begins 1 s after it; 99 of
    100 are seen within 100 ms and one poll.

    200 revokes, in full 10,000, which also judges the 99 of 100. Seen to fail with `tell_cache`
    left out of `revoke` (same replica), and with the poller's `apply` left out (the others).
    """
    late: list[float] = []
    with results.measure_together("R7, same replica", "R7, other replicas") as (same, others):
        server = caching.servers[0].ready
        tokens = await stored_sessions(
            server["env"], server["database_url"], same.trials + BYSTANDERS
        )
        bystanders = [tokens.pop() for _ in range(BYSTANDERS)]
        async with _load(caching, bystanders) as load:
            for first, _ in zip(same.each(TOGETHER), others.each(TOGETHER), strict=True):
                numbers = range(first, min(first + TOGETHER, same.trials))
                for here, there in await asyncio.gather(
                    *(_revoked(caching, tokens[number], number) for number in numbers)
                ):
                    same.saw(here)
                    others.saw(math.ceil(max(there)))
                    late += there
        assert load["accepted"] > same.trials
        _write(late, load)
        assert not FULL or percentile(late, 0.99) <= P99_MS


def _write(late: list[float], load: Counter[str]) -> None:
    """Prints the histogram; a full run also leaves it in a file, for docs/validation.md."""
    day, commit = datetime.now(UTC).date().isoformat(), commit_of_clean_tree()
    text = "\n".join(
        [
            f"{day}, commit {commit}: {len(late) // 2:,} revokes, other checks: {dict(load)}",
            *histogram(late),
        ]
    )
    sys.stdout.write(f"\n{text}\n")
    if FULL:
        WRITTEN.parent.mkdir(exist_ok=True)
        WRITTEN.write_text(f"{text}\n")
