"""`watchword healthcheck`: what a container engine sees of a server."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Finished, run, started, watchword
from tests.support.running import installation_environment
from watchword.cli import healthcheck
from watchword.transport.server import ApiSettings

TIMEOUT_SECONDS = 3.0


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def check(*arguments: str, **variables: str) -> Finished:
    """Runs the command with these WATCHWORD_ variables and no others."""
    env = {f"WATCHWORD_{name}": value for name, value in variables.items()}
    return await run("healthcheck", *arguments, env=env)


def assert_unhealthy(done: Finished, words: str) -> None:
    """Exit code 1, one line and a hint."""
    assert (done.exit_code, done.stdout) == (1, ""), done
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert words in error
    assert hint.startswith("hint: ")


def test_the_default_is_that_of_serve() -> None:
    """The command repeats it, to import less."""
    assert ApiSettings().address == healthcheck.DEFAULT_ADDRESS


async def test_serving(database_url: str, tmp_path: Path) -> None:
    """Asked by port, from all addresses, and with a proxy and a wrong setting in the way."""
    env = installation_environment(database_url, tmp_path)
    async with watchword("serve", env=env) as server:
        port = server.ready["api"].rpartition(":")[2]
        by_variable = {"API__ADDRESS": server.ready["api"]}
        proxied = {"http_proxy": "http://127.0.0.1:1", "grpc_proxy": "http://127.0.0.1:1"}
        for done in await asyncio.gather(
            check(**by_variable),
            check(API__ADDRESS=f"0.0.0.0:{port}"),
            check("--address", server.ready["api"], API__ADDRESS="127.0.0.1:1"),
            check(**by_variable, X__Y="unknown", DATABASE__URL="nonsense"),
            run("healthcheck", env={"WATCHWORD_API__ADDRESS": server.ready["api"], **proxied}),
        ):
            assert (done.exit_code, done.stderr) == (0, "")
            assert done.stdout == f"`127.0.0.1:{port}` is SERVING\n"


async def test_a_unix_socket_and_a_server_that_is_not_ready(tmp_path: Path) -> None:
    """Without its database the server listens and is NOT_SERVING."""
    env = installation_environment("postgresql:///watchword?host=/nowhere", tmp_path)
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/api.sock"
        async with started("serve", env={**env, "WATCHWORD_API__ADDRESS": address}):
            async with asyncio.timeout(20):
                while not Path(folder, "api.sock").exists():
                    await asyncio.sleep(0.05)
            assert_unhealthy(await check(API__ADDRESS=address), f"`{address}` is NOT_SERVING")
        assert_unhealthy(await check(API__ADDRESS=address), "nothing answers gRPC")


async def test_nothing_listens() -> None:
    """The port of a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert_unhealthy(await check(API__ADDRESS=address), f"nothing answers gRPC at `{address}`")


async def test_a_server_that_hangs(silent: str) -> None:
    """The question ends after its time (the guard: `timeout` of the call)."""
    done = await check("--timeout", "0.5", API__ADDRESS=silent)
    assert_unhealthy(done, f"`{silent}`")


async def test_a_stopped_process(database_url: str, tmp_path: Path) -> None:
    """SIGSTOP: the port is open and nobody answers; woken up it is well again."""
    env = installation_environment(database_url, tmp_path)
    async with watchword("serve", env=env) as server:
        api = server.ready["api"]
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            done = await check("--timeout", "0.5", API__ADDRESS=api)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        assert_unhealthy(done, "0.5 s")
        assert (await check(API__ADDRESS=api)).exit_code == 0


@pytest.mark.parametrize(
    "address", ["nowhere", "unix:relative", ":50051", "127.0.0.1:x", "127.0.0.1:65536", "[::]:٣"]
)
def test_what_is_no_address(address: str) -> None:
    """Told, and never asked."""
    with pytest.raises(healthcheck._Unhealthy, match="must be"):
        healthcheck.target_of(address)


def test_addresses() -> None:
    """All addresses become this machine's own; a free port cannot be known."""
    assert healthcheck.target_of("0.0.0.0:1") == "127.0.0.1:1"
    assert healthcheck.target_of("[::]:1") == "[::1]:1"
    assert healthcheck.target_of("10.0.0.5:50051") == "10.0.0.5:50051"
    assert healthcheck.target_of("unix:/run/api.sock") == "unix:/run/api.sock"
    with pytest.raises(healthcheck._Unhealthy, match="port 0"):
        healthcheck.target_of("127.0.0.1:0")


async def test_it_imports_little() -> None:
    """The driver, the settings and the core cost most of a start (the guard: cli._Commands)."""
    program = (
        "import sys\nimport watchword.cli\ntry: watchword.cli.main()\nfinally: print(*sys.modules)"
    )
    arguments = ("healthcheck", "--address", "127.0.0.1:1")
    done = await run(*arguments, program=[sys.executable, "-c", program])
    imported = done.stdout.split()
    assert "grpc" in imported
    for name in ("asyncpg", "structlog", "watchword.config", "watchword.crypto"):
        assert name not in imported
