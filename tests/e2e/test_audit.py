"""The audit over a process's life: what was refused just before its end is there after it."""

import asyncio
import signal

import pytest

from tests.support.postgres import fetch, open_folder
from tests.support.processes import watchword
from tests.support.running import installation_environment
from watchword_client import OtpInvalid

REFUSED = 20
END_SECONDS = 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_refusals_are_stored_when_the_process_ends(
    database_url: str, number: signal.Signals
) -> None:
    """Long before their minute is over, with their number.

    Seen to fail without `AuditWriter.drain` in App.stop.
    """
    with open_folder() as folder:
        env = installation_environment(database_url, folder / "mail")
        async with watchword("serve", env=env) as server:
            async with server.client() as client:
                for _ in range(REFUSED):
                    with pytest.raises(OtpInvalid):
                        await client.verify_otp(email="ada@example.com", code="123456")
            assert await fetch(database_url, "SELECT 1 FROM audit_events") == []
            server.process.send_signal(number)
            async with asyncio.timeout(END_SECONDS):
                assert await server.process.wait() == 0
            assert "refusals lost" not in server.log()
    rows = await fetch(database_url, "SELECT outcome, count FROM audit_events")
    assert [tuple(row) for row in rows] == [("not_live_or_spent", REFUSED)]
