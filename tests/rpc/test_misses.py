"""Checks that the gate cannot answer: how they are read, and what they are told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.races.sessions import stored_sessions
from tests.support.held_reads import HeldReads, held_reads
from tests.support.running import RunningApp
from watchword.callers.model import Scope
from watchword.dev.ready import joining_environment
from watchword.transport.session_reader import TURN_SESSIONS_MAX, TURNS_MAX
from watchword_client import AsyncClient, Overloaded, SessionInvalid, Unavailable, WatchwordError
from watchword_client import auth_service_pb2 as pb

# Two calls of each are fewer than one connection may have streams.
SESSIONS = 120
BATCH = 256
# What may wait for a read (WAITING_MAX in rust_core/gate/src/settings.rs).
WAITING_MAX = 1_024


@pytest.fixture
async def held(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningApp, HeldReads]]:
    """A server whose reads of sessions wait."""
    async with held_reads(database_url, monkeypatch, GATE__CACHE_MIB="16") as both:
        yield both


async def _tokens(app: RunningApp, count: int) -> list[str]:
    return await stored_sessions(joining_environment(app.config), app.database_url, count)


async def _outcome(call: "asyncio.Future[pb.ValidateSessionResponse]") -> type[Exception] | None:
    try:
        await call
    except (Overloaded, SessionInvalid, Unavailable) as error:
        return type(error)
    return None


async def test_many_misses_are_few_statements(held: tuple[RunningApp, HeldReads]) -> None:
    """While as many reads as may be are under way, 240 calls for 120 sessions gather; they are one
    statement, of each session once, and every call has the answer of its own session.

    Seen to fail with a queue of which a turn takes one.
    """
    app, reads = held
    tokens = await _tokens(app, SESSIONS + TURNS_MAX)
    async with asyncio.TaskGroup() as group:
        for number, token in enumerate(tokens[:TURNS_MAX], start=1):
            group.create_task(app.client.validate_session(token))
            await reads.wait_for(number)
        gathered = tokens[TURNS_MAX:] * 2
        calls = [group.create_task(app.client.validate_session(token)) for token in gathered]
        # Longer than 240 calls take to get there; were they read at once, it would be seen.
        await asyncio.sleep(0.5)
        assert reads.sizes == [1] * TURNS_MAX
        reads.open.set()
    assert reads.sizes[TURNS_MAX:] == [SESSIONS]
    answered = {token: call.result() for token, call in zip(gathered, calls, strict=True)}
    assert len({answer.session.id for answer in answered.values()}) == SESSIONS
    for token, answer in answered.items():
        presented = app.keys.parse_session_token(token)
        assert presented is not None
        assert answer.session.id == str(presented.session_id)


async def test_a_read_under_way_is_not_joined(held: tuple[RunningApp, HeldReads]) -> None:
    """Who asks after a revoke has a read that began after it, though an older one is under way."""
    app, reads = held
    (token,) = await _tokens(app, 1)
    early = asyncio.create_task(app.client.validate_session(token))
    await reads.wait_for(1)
    await app.client.revoke(token)
    late = asyncio.create_task(_outcome(asyncio.ensure_future(app.client.validate_session(token))))
    await reads.wait_for(2)
    assert reads.sizes == [1, 0]
    reads.open.set()
    assert await late is SessionInvalid
    # It began before the revoke, and its time says so.
    await early


async def test_a_full_queue_refuses_at_once(held: tuple[RunningApp, HeldReads]) -> None:
    """With no room left a check is OVERLOADED, with the time after which to try again; those who
    wait are answered.

    Seen to fail without the bound.
    """
    app, reads = held
    reads_max = TURNS_MAX * TURN_SESSIONS_MAX
    tokens = await _tokens(app, reads_max + WAITING_MAX + 1)
    batches = [tokens[at : at + BATCH] for at in range(0, reads_max + WAITING_MAX, BATCH)]
    async with asyncio.TaskGroup() as group:
        full = []
        for number, batch in enumerate(batches, start=1):
            full.append(group.create_task(app.client.batch_validate_sessions(batch)))
            await reads.wait_for(min(number, TURNS_MAX))
        await asyncio.sleep(0.3)
        with pytest.raises(Overloaded) as refused:
            await app.client.validate_session(tokens[-1])
        assert refused.value.retry_after is not None
        reads.open.set()
    for batch, call in zip(batches, full, strict=True):
        assert all(result.HasField("session") for result in call.result().results), len(batch)
    assert (await app.client.validate_session(tokens[-1])).HasField("session")


async def test_who_has_gone_is_not_read(held: tuple[RunningApp, HeldReads]) -> None:
    """Calls that were cancelled while they waited cost no read."""
    app, reads = held
    tokens = await _tokens(app, TURNS_MAX + 20)
    async with asyncio.TaskGroup() as group:
        for number, token in enumerate(tokens[:TURNS_MAX], start=1):
            group.create_task(app.client.validate_session(token))
            await reads.wait_for(number)
        gone = [asyncio.create_task(app.client.validate_session(it)) for it in tokens[TURNS_MAX:]]
        await asyncio.sleep(0.3)
        for call in gone:
            call.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        await asyncio.sleep(0.3)
        reads.open.set()
    assert (await app.client.validate_session(tokens[0])).HasField("session")
    assert sum(reads.sizes) <= TURNS_MAX + 1


@pytest.mark.parametrize(("deadline", "waits"), [(0.6, 0.5), (9.0, 2.0)])
async def test_a_read_that_takes_too_long_is_unavailable(
    held: tuple[RunningApp, HeldReads], deadline: float, waits: float
) -> None:
    """The answer is STORAGE_UNAVAILABLE 100 ms before the deadline, after 2 s at the latest."""
    app, _ = held
    (token,) = await _tokens(app, 1)
    clock = asyncio.get_running_loop().time
    began = clock()
    key = app.service_key(*Scope)
    async with AsyncClient(app.app.api_address, service_key=key, timeout=deadline) as client:
        with pytest.raises(Unavailable) as error:
            await client.validate_session(token)
    assert error.value.reason == "STORAGE_UNAVAILABLE"
    assert waits - 0.01 <= clock() - began


async def test_without_the_gate_no_yes_is_old_either(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read more than a second ago is no answer.

    Seen to fail without `_young` of login/sessions.py.
    """
    async with held_reads(database_url, monkeypatch, GATE__ENABLED="false") as (app, reads):
        tokens = await _tokens(app, 1)
        call = asyncio.create_task(app.client.batch_validate_sessions(tokens))
        await reads.wait_for(1)
        await asyncio.sleep(1.1)
        reads.open.set()
        with pytest.raises(Unavailable):
            await call
        again = await app.client.batch_validate_sessions(tokens)
        assert again.results[0].HasField("session")


async def test_a_stray_cancel_takes_no_reader_away(
    held: tuple[RunningApp, HeldReads], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CancelledError that nobody asked for is INTERNAL for who waits, as often as it comes.

    Seen to fail with `Exception` alone caught in `SessionReader._read`.
    """
    app, reads = held
    reads.open.set()
    (token,) = await _tokens(app, 1)

    async def stray(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr("watchword.transport.session_reader.sessions.read_by_id", stray)
        for _ in range(TURNS_MAX + 1):
            with pytest.raises(WatchwordError) as error:
                await app.client.validate_session(token)
            assert error.value.reason == "INTERNAL"
    assert (await app.client.validate_session(token)).HasField("session")
