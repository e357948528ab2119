"""PostgreSQL that dies by SIGKILL under load: what was acknowledged had been flushed."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.faults.killable_postgres import killable_postgres
from tests.faults.postbox import postbox
from tests.faults.run import FaultRun, Moment, fault_run, moments
from tests.races.bursts import FULL

pytestmark = pytest.mark.timeout(1200 if FULL else 120)

MOMENTS = moments(ordinary=2, full=10)
# COMMIT answers before its record is on the disk, and nobody hurries to get it there.
UNSAFE = {
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "wal_buffers": "16MB",
}


@contextlib.asynccontextmanager
async def killed(
    folder: Path, provider: str, moments: Sequence[Moment], settings: Mapping[str, str]
) -> AsyncIterator[FaultRun]:
    """Kills PostgreSQL under load at these moments and starts it again; yields what came of it."""
    async with (
        killable_postgres(folder, settings) as postgres,
        postbox(provider) as box,
        fault_run(postgres.url("watchword"), box) as run,
    ):
        async with run.load.running():
            for moment in moments:
                await run.live()
                await run.at(moment, postgres.kill)
                await postgres.stop()
                await postgres.start()
                run.recovery_seconds.append(await run.seconds_to_answer())
            await run.live()
        await run.finish()
        yield run


@pytest.mark.parametrize("provider", ["resend", "smtp"] if FULL else ["resend"])
async def test_what_was_acknowledged_survives_a_killed_postgres(
    folder: Path, provider: str
) -> None:
    """After 2 kills (in full 10) under 50 codes a second every claim of ledger.py holds.

    The server lives through all of them. Printed: the time from PostgreSQL's taking connections to
    the first answer. Seen to fail with synchronous_commit off in the server_settings of Pool.
    """
    async with killed(folder, provider, MOMENTS, {}) as run:
        run.report(f"PostgreSQL killed, mail by {provider}")
        assert run.ledger.broken == []


async def test_without_a_flush_at_commit_it_does_not(folder: Path) -> None:
    """With synchronous_commit off registrations and sessions are lost: the checks can see that."""
    async with killed(folder, "resend", [Moment.ANY], UNSAFE) as run:
        run.report("control: PostgreSQL killed with synchronous_commit off")
        assert {"REGISTERED", "SIGNED_IN"} <= set(run.ledger.broken_claims())
