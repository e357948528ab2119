"""A server that dies by SIGKILL under load takes nothing with it that it has acknowledged."""

import pytest

from tests.faults.postbox import postbox
from tests.faults.run import fault_run, moments
from tests.races.bursts import FULL

pytestmark = pytest.mark.timeout(1200 if FULL else 120)

MOMENTS = moments(ordinary=5, full=20)


@pytest.mark.parametrize("provider", ["resend", "smtp"])
async def test_what_a_killed_server_acknowledged_stands(provider: str, database_url: str) -> None:
    async with postbox(provider) as box, fault_run(database_url, box) as run:
        async with run.load.running():
            for moment in MOMENTS:
                await run.live()
                await run.kill_server(moment)
                run.recovery_seconds.append(await run.start_server())
            await run.live()
        await run.finish()
    print(run.report(f"server killed, mail by {provider}"))
    assert run.ledger.broken == []
