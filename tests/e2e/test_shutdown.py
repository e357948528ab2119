"""How a server begins and ends: health, calls in flight, a schema that comes late."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.support.health import (
    NOT_SERVING,
    SERVICES,
    SERVING,
    WAIT_SECONDS,
    health_of,
    status,
    watched,
)
from tests.support.postgres import DatabaseServer, open_folder
from tests.support.processes import WatchwordProcess, run, started, watchword
from tests.support.running import installation_environment

Serving = Callable[[], contextlib.AbstractAsyncContextManager[WatchwordProcess]]
CALLS = 5
# Backends of the server that wait for a lock of the test's.
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'watchword'
      AND wait_event_type = 'Lock'
"""


async def until_waiting(server: WatchwordProcess, count: int) -> None:
    """Returns once so many calls wait for the lock."""
    async with asyncio.timeout(WAIT_SECONDS):
        # Each time on another connection: a transaction sees the activity of its first look.
        while (await server.sql(WAITING))[0][0] < count:
            await asyncio.sleep(0.01)


async def until_refused(address: str) -> None:
    """Returns once the server takes no new connections."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except (ConnectionRefusedError, ConnectionResetError):
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def calls_in_flight(server: WatchwordProcess) -> AsyncIterator[list[asyncio.Task[str]]]:
    """Sign-ins that have reached the database and wait there until the block ends."""
    connection = await asyncpg.connect(server.ready["database_url"])
    client = server.client()
    try:
        rights = []
        for number in range(CALLS):
            email = f"person{number}@example.com"
            registered = await client.register(
                full_name="Person", username=f"person{number}", email=email, send_otp=True
            )
            rights.append((registered.challenge.id, await server.mails.code_for(email)))

        async def sign_in(challenge_id: str, code: str) -> str:
            answer = await client.verify_otp(challenge_id=challenge_id, code=code)
            return answer.session.id

        async with connection.transaction():
            await connection.execute("SELECT id FROM challenges FOR UPDATE")
            calls = [asyncio.create_task(sign_in(*right)) for right in rights]
            await until_waiting(server, CALLS)
            yield calls
        sessions = set(await asyncio.gather(*calls))
        assert len(sessions) == CALLS
        assert await connection.fetchval("SELECT count(*) FROM sessions") == CALLS
    finally:
        await client.close()
        await connection.close()


@pytest.fixture
def serving(database_url: str, tmp_path: Path) -> Serving:
    """Runs `serve`, whose database outlives it."""
    return lambda: watchword("serve", env=installation_environment(database_url, tmp_path))


async def test_calls_in_flight_finish_after_sigterm(serving: Serving) -> None:
    """After SIGTERM nothing new is taken, the calls that are there end well, and so does serve.

    Seen to fail with the `grace` of ApiServer.drain at 0: the calls are cut off.
    """
    async with serving() as server:
        async with calls_in_flight(server) as calls:
            server.process.send_signal(signal.SIGTERM)
            await until_refused(server.ready["api"])
            assert not any(call.done() for call in calls)
        assert await server.process.wait() == 0
        assert not server.ready_path.exists()
        assert "Traceback" not in server.log()


async def test_health_says_so_while_calls_finish(serving: Serving) -> None:
    """Who watches the health hears of the end while the calls in flight still have to finish.

    Seen to fail without `enter_graceful_shutdown` in ApiServer.drain.
    """
    async with (
        serving() as server,
        health_of(server.ready["api"]) as health,
        contextlib.aclosing(watched(health)) as changes,
    ):
        assert await anext(changes) == SERVING
        async with calls_in_flight(server) as calls:
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WAIT_SECONDS):
                assert await anext(changes) == NOT_SERVING
            assert not any(call.done() for call in calls)


async def test_health_says_so_before_the_server_goes() -> None:
    """With a shutdown delay health is NOT_SERVING at once, and calls are served until it is over.

    Seen to fail without `enter_graceful_shutdown` in ApiServer.drain.
    """
    env = {"WATCHWORD_API__SHUTDOWN_DELAY": "1s"}
    async with watchword("dev", "--ephemeral", env=env) as server:
        async with health_of(server.ready["api"]) as health, server.client() as client:
            for service in SERVICES:
                assert await status(health, service) == SERVING
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WAIT_SECONDS):
                while await status(health) == SERVING:
                    await asyncio.sleep(0.01)
            for service in SERVICES:
                assert await status(health, service) == NOT_SERVING
            assert (await client.revoke("none")).revoked_count == 0
        assert await server.process.wait() == 0


async def test_a_late_migration_needs_no_restart(postgres: DatabaseServer) -> None:
    """On an empty database a server is NOT_SERVING and says what to do, until that is done."""
    name = postgres.next_name("unmigrated")
    url = await postgres.create_database(name)
    with open_folder() as folder:
        target = f"unix:{folder}/api"
        env = installation_environment(url, folder / "mail", API__ADDRESS=target)
        ready = folder / "ready.json"
        async with (
            started("serve", "--ready-file", str(ready), env=env) as (process, log_path),
            health_of(target) as health,
        ):
            for service in SERVICES:
                assert await status(health, service) == NOT_SERVING
            async with asyncio.timeout(WAIT_SECONDS):
                while "watchword migrate" not in log_path.read_text():
                    await asyncio.sleep(0.02)
            assert not ready.exists()
            assert await status(health) == NOT_SERVING

            migrated = await run("migrate", env={"WATCHWORD_DATABASE__URL": url})
            assert migrated.exit_code == 0, migrated.stderr
            async with asyncio.timeout(WAIT_SECONDS):
                while not ready.exists():
                    await asyncio.sleep(0.02)
            for service in SERVICES:
                assert await status(health, service) == SERVING
            assert process.returncode is None
        assert process.returncode == 0
    await postgres.drop_database(name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_before_ready_ends_it(number: signal.Signals) -> None:
    """A server that waits for its database ends well on Ctrl-C and on SIGTERM."""
    with open_folder() as folder:
        target = f"unix:{folder}/api"
        url = f"postgresql:///watchword?host={folder}"
        env = installation_environment(url, folder / "mail", API__ADDRESS=target)
        async with started("serve", env=env) as (process, log_path), health_of(target) as health:
            assert await status(health) == NOT_SERVING
            process.send_signal(number)
            assert await process.wait() == 0
            assert "Traceback" not in log_path.read_text()
