"""Health while PostgreSQL comes and goes, as a load balancer sees it."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.faults.killable_postgres import KillablePostgres
from tests.support.health import NOT_SERVING, SERVING, WAIT_SECONDS, health_of, watched
from tests.support.processes import started
from tests.support.running import installation_environment
from watchword.config import load_config
from watchword.dev.ready import first_service_key
from watchword_client import AsyncClient, Unavailable

# Two probes that fail, each a second after the one before and given up after another second.
DOWN_SECONDS = 4.0 + 1.0


async def test_health_follows_the_database(folder: Path) -> None:
    """NOT_SERVING until PostgreSQL is there, again when it was killed, SERVING when it is back.

    The process lives through all of it, and a call without a database says UNAVAILABLE. Seen to
    fail with FAILURES_MAX of jobs/readiness.py at 1,000 (stays SERVING), and with the failures not
    set back after an answer (stays NOT_SERVING).
    """
    postgres = KillablePostgres(folder)
    target, ready = f"unix:{folder}/api", folder / "ready.json"
    env = installation_environment(postgres.url("watchword"), folder / "mail", API__ADDRESS=target)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(postgres.stop)
        process, log_path = await stack.enter_async_context(
            started("serve", "--ready-file", str(ready), env=env)
        )
        key = first_service_key(load_config(env))
        client = await stack.enter_async_context(AsyncClient(target, service_key=key))
        changes = watched(await stack.enter_async_context(health_of(target)))

        async def serving() -> None:
            async with asyncio.timeout(WAIT_SECONDS):
                assert await anext(changes) == SERVING
            assert (await client.send_otp(email="ada@example.com")).challenge.id

        async with asyncio.timeout(WAIT_SECONDS):
            assert await anext(changes) == NOT_SERVING
            while "database not ready" not in log_path.read_text():
                await asyncio.sleep(0.02)
        with pytest.raises(Unavailable):
            await client.send_otp(email="ada@example.com")
        assert not ready.exists()

        await postgres.start()
        await serving()
        assert ready.exists()

        postgres.kill()
        await postgres.stop()
        async with asyncio.timeout(DOWN_SECONDS):
            assert await anext(changes) == NOT_SERVING
        with pytest.raises(Unavailable):
            await client.send_otp(email="ada@example.com")

        await postgres.start()
        await serving()
        assert process.returncode is None
        assert "background task died" not in log_path.read_text()
