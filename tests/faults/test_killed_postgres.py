"""PostgreSQL that dies by SIGKILL under load: what was acknowledged had been flushed."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from tests.faults.killable_postgres import KillablePostgres, killable_postgres
from tests.faults.ledger import Claim
from tests.faults.postbox import postbox
from tests.faults.run import FaultRun, Moment, fault_run, moments
from tests.races.bursts import FULL
from tests.support.postgres import fetch
from watchword.storage.migrate import migrate

pytestmark = pytest.mark.timeout(1200 if FULL else 120)

MOMENTS = moments(ordinary=3, full=10)
# COMMIT answers before its record is on the disk, and nobody hurries to get it there.
UNSAFE = {
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "wal_buffers": "16MB",
}


@contextlib.asynccontextmanager
async def killed(
    provider: str, moments: Sequence[Moment], settings: Mapping[str, str]
) -> AsyncIterator[FaultRun]:
    """Kills PostgreSQL under load and starts it again, each time; yields what is left."""
    async with killable_postgres(settings) as postgres:
        await fetch(postgres.url(), "CREATE DATABASE watchword")
        url = postgres.url("watchword")
        await migrate(url)
        await fetch(url, "CHECKPOINT")
        async with postbox(provider) as box, fault_run(url, box) as run:
            async with run.load.running():
                for moment in moments:
                    await run.live()
                    await _kill(run, moment, postgres)
                await run.live()
            await run.finish()
            yield run


async def _kill(run: FaultRun, moment: Moment, postgres: KillablePostgres) -> None:
    await run.at(moment, postgres.kill)
    await postgres.stop()
    await postgres.start()
    run.recovery_seconds.append(await run.seconds_to_answer())


@pytest.mark.parametrize("provider", ["resend", "smtp"] if FULL else ["resend"])
async def test_what_was_acknowledged_survives_a_killed_postgres(provider: str) -> None:
    async with killed(provider, MOMENTS, {}) as run:
        print(run.report(f"PostgreSQL killed, mail by {provider}"))
        assert run.ledger.broken == []


async def test_without_a_flush_at_commit_it_does_not() -> None:
    async with killed("resend", [Moment.ANY], UNSAFE) as run:
        print(run.report("control: PostgreSQL killed with synchronous_commit off"))
        assert {Claim.REGISTERED, Claim.SIGNED_IN} <= set(run.ledger.broken_claims())
