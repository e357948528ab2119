"""A server that dies by SIGKILL under load takes nothing with it that it has acknowledged."""

from pathlib import Path

import pytest

from tests.faults.killable_postgres import killable_postgres
from tests.faults.postbox import postbox
from tests.faults.run import fault_run, moments
from tests.races.bursts import FULL

pytestmark = pytest.mark.timeout(1200 if FULL else 120)

MOMENTS = moments(ordinary=3, full=20)


@pytest.mark.parametrize("provider", ["resend", "smtp"])
async def test_what_a_killed_server_acknowledged_stands(folder: Path, provider: str) -> None:
    """After 3 kills (in full 20) under 50 codes a second every claim of ledger.py holds.

    Each kill comes at a moment of its own (run.py). Printed: the time from the start of a process
    to SERVING. Seen to fail with: the outbox row written in a transaction after the answer
    (MAILED); `lease_expire_time <= now()` taken out of the outbox's statements, and mails not
    marked as sent (both MAILED: they stay pending); `consume_time IS NULL` taken out of
    CHARGE_BY_ID and CONSUME (SPENT); Revoke answered before its statement (SIGNED_OUT); run_tx
    answering before COMMIT (SIGNED_IN, REGISTERED, MAILED, SPENT); the time of sending in
    Resend's JSON and as the date of an SMTP mail (ONE_BODY); a new Idempotency-Key a call, and
    SMTP without its lock around the last step (COPIES).
    """
    async with (
        killable_postgres(folder) as postgres,
        postbox(provider) as box,
        fault_run(postgres.url("watchword"), box) as run,
    ):
        async with run.load.running():
            for moment in MOMENTS:
                await run.live()
                await run.kill_server(moment)
                run.recovery_seconds.append(await run.start_server())
            await run.live()
        await run.finish()
    run.report(f"server killed, mail by {provider}")
    assert run.ledger.broken == []
