"""Calls that count wrong codes at once share a write, and none of them is told before it is done.

A lock on the table holds the writes back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.storage.budgets import Sql
from tests.storage.database import login_context, new_challenge, open_database
from tests.support.running import Statements
from watchword.crypto import parse_code
from watchword.errors import OtpInvalid, StorageUnavailable
from watchword.login.failures import FailureCounter
from watchword.login.verify_otp import VerifyOtpCommand, verify_otp
from watchword.sessions.model import Client
from watchword.storage.installation import InstallationStore
from watchword.storage.transactions import PgTx

CALLS = 200
WAITING = """
    SELECT count(*)
    FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@asynccontextmanager
async def held(sql: Sql) -> AsyncIterator[None]:
    """Nothing is counted until the block ends."""
    async with sql.transaction():
        await sql.execute("LOCK TABLE failure_counts IN SHARE MODE")
        yield


async def until_one_waits(tx: PgTx) -> None:
    """Returns once a write waits for the lock."""
    async with asyncio.timeout(10):
        while not await tx._connection.fetchval(WAITING):
            await asyncio.sleep(0.01)


async def counted(tx: PgTx) -> int:
    """How many wrong codes there are."""
    return (await tx.installation.alarm()).in_minute


async def test_a_flood_costs_a_write_at_a_time(database_url: str, tx: PgTx, sql: Sql) -> None:
    """200 calls that come while one write is under way are one more write, and every unit is there.

    Seen to fail with a write for each call, and with the batch not swapped before it is written
    (units are counted again).
    """
    statements = Statements()
    async with open_database(database_url, query_logger=statements.log) as database:
        counter = FailureCounter(database)
        async with held(sql):
            calls = [asyncio.create_task(counter.count(1))]
            await until_one_waits(tx)
            calls += [asyncio.create_task(counter.count(3)) for _ in range(CALLS)]
            await asyncio.sleep(0.1)
            assert not any(call.done() for call in calls)
        await asyncio.gather(*calls)
        await counter.count(0)
    assert statements.seen == [InstallationStore.COUNT.strip()] * 2
    assert await counted(tx) == 1 + 3 * CALLS


async def test_what_is_not_counted_is_answered_so(database_url: str, tx: PgTx, sql: Sql) -> None:
    """Each call whose write fails is StorageUnavailable, those that shared it too; then it works
    again.
    """
    quick = timedelta(milliseconds=200)
    async with open_database(database_url, statement_timeout=quick) as database:
        counter = FailureCounter(database)
        async with held(sql):
            calls = [asyncio.create_task(counter.count(1))]
            await until_one_waits(tx)
            calls += [asyncio.create_task(counter.count(1)) for _ in range(CALLS)]
            async with asyncio.timeout(10):
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
        await counter.count(2)
    assert await counted(tx) == 2


async def test_a_cancelled_writer_leaves_its_batch_to_the_others(
    database_url: str, tx: PgTx, sql: Sql
) -> None:
    """The call that writes for all may be cancelled: the next one writes for them.

    Seen to fail with a batch called written before it is.
    """
    async with open_database(database_url) as database:
        counter = FailureCounter(database)
        async with held(sql):
            first = asyncio.create_task(counter.count(1))
            await until_one_waits(tx)
            calls = [asyncio.create_task(counter.count(1)) for _ in range(10)]
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await asyncio.sleep(0.1)
            # Now the first of the others is under way.
            calls[0].cancel()
            await asyncio.gather(calls[0], return_exceptions=True)
            assert not any(call.done() for call in calls[1:])
        await asyncio.gather(*calls[1:])
    # What was cancelled may be among them.
    assert 9 <= await counted(tx) <= 11


@pytest.mark.parametrize("form", [6, 13])
async def test_a_wrong_code_is_answered_once_it_is_counted(
    database_url: str, tx: PgTx, sql: Sql, form: int
) -> None:
    """While it cannot be counted VerifyOtp does not answer OTP_INVALID, and in the end UNAVAILABLE;
    a wrong long code, which is not counted, is answered at once.

    Seen to fail with the count after the answer (a task of its own), and left out.
    """
    challenge = await tx.challenges.insert(new_challenge(form=form))
    code = parse_code("0" * form)
    assert code is not None
    command = VerifyOtpCommand(target=challenge.id, code=code, client=Client(caller="tests"))
    async with open_database(
        database_url, statement_timeout=timedelta(milliseconds=300)
    ) as database:
        ctx = login_context(database)
        async with held(sql):
            with pytest.raises(OtpInvalid if form == 13 else StorageUnavailable):
                await verify_otp(ctx, command)
        with pytest.raises(OtpInvalid):
            await verify_otp(ctx, command)
    assert await counted(tx) == (0 if form == 13 else 1)
