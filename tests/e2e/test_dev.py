"""`watchword dev` as a developer starts it, and what it leaves behind."""

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.e2e.buf import BUF, Buf, reason_of
from tests.support.postgres import open_folder
from tests.support.processes import WatchwordProcess, replica, run, watchword
from tests.support.running import installation_environment
from watchword_client import SessionInvalid

READY_KEYS = {"pid", "api", "admin", "metrics", "service_key", "database_url", "mail_dir", "env"}
GONE_TIMEOUT_SECONDS = 30.0
PORT = 50051
# `dev` with a state folder of the test's own: as root the real one is a fixed place.
DEV_IN = """
import sys
from pathlib import Path
from watchword import cli
from watchword.dev import installation
folder = Path(sys.argv.pop(1))
installation.state_folder = lambda: folder
cli.main()
"""


@pytest.fixture(scope="module")
async def dev() -> AsyncIterator[WatchwordProcess]:
    """One ephemeral installation for the tests that only call it."""
    with tempfile.TemporaryDirectory(prefix="watchword-mail-") as mail_dir:
        async with watchword("dev", "--ephemeral", "--mail-dir", mail_dir) as server:
            yield server


async def _data_folder(server: WatchwordProcess) -> Path:
    (row,) = await server.sql("SHOW data_directory")
    return Path(row[0])


def _postgres_pid(data_folder: Path) -> int:
    return int((data_folder / "postmaster.pid").read_text().splitlines()[0])


def _socket_folder(server: WatchwordProcess) -> Path:
    return Path(parse_qs(urlsplit(server.ready["database_url"]).query)["host"][0])


def _is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def _until_gone(pid: int, folder: Path) -> None:
    async with asyncio.timeout(GONE_TIMEOUT_SECONDS):
        while _is_running(pid) or folder.exists():
            await asyncio.sleep(0.05)


async def test_the_ready_file_and_what_sigterm_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    """The ready file says how to join, readable by its owner alone; SIGTERM leaves nothing behind.

    The promise is 10 s from a warm start to ready; the harness waits 30 s and shows what it took.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-mail-") as mail_dir:
        begun = time.monotonic()
        async with watchword("dev", "--ephemeral", "--mail-dir", mail_dir) as server:
            with capsys.disabled():
                sys.stdout.write(f"\n`dev` was ready after {time.monotonic() - begun:.2f} s\n")
            ready = server.ready
            assert set(ready) == READY_KEYS
            assert stat.S_IMODE(server.ready_path.stat().st_mode) == 0o600
            assert (ready["pid"], ready["mail_dir"]) == (server.process.pid, mail_dir)
            assert ready["admin"] not in (None, ready["api"])
            assert ready["metrics"] is None
            data_folder, socket_folder = await _data_folder(server), _socket_folder(server)
            postgres = _postgres_pid(data_folder)
            assert _is_running(postgres)
            assert socket_folder.is_dir()

            server.process.send_signal(signal.SIGTERM)
            assert await server.process.wait() == 0
            assert not server.ready_path.exists()
            assert not _is_running(postgres)
            assert not socket_folder.exists()
            assert not data_folder.parent.exists()
            assert "Traceback" not in server.log()


async def test_postgres_ends_when_dev_is_killed() -> None:
    """SIGKILL leaves no PostgreSQL running: its guard sees the end of `dev` and stops it."""
    async with watchword("dev", "--ephemeral") as server:
        data_folder, socket_folder = await _data_folder(server), _socket_folder(server)
        postgres = _postgres_pid(data_folder)
        server.process.kill()
        await server.process.wait()
        try:
            await _until_gone(postgres, socket_folder)
        finally:
            # Nobody is left who could remove it.
            shutil.rmtree(data_folder.parent)


async def test_buf_curl_goes_through_every_rpc(dev: WatchwordProcess) -> None:
    """`buf curl` with server reflection calls all nine RPCs, and is refused after the sign-out."""
    buf = Buf(dev)
    email = "grace@example.com"
    registered = await buf.call("Register", fullName="Grace Hopper", username="grace", email=email)
    sent = await buf.call("SendOtp", email=email, locale="en")
    code = await dev.mails.code_for(email)
    challenge = sent["challenge"]
    assert challenge["codeLength"] == len(code) == 6
    signed_in = await buf.call("VerifyOtp", challengeId=challenge["id"], code=code)
    assert signed_in["user"]["id"] == registered["userId"]
    assert signed_in["firstSignIn"] is True
    token = signed_in["sessionToken"]
    live = await buf.call("ValidateSession", sessionToken=token)
    assert live["session"]["id"] == signed_in["session"]["id"]
    assert live["user"]["fullName"] == "Grace Hopper"
    for target in ({"sessionToken": token}, {"userId": registered["userId"]}):
        assert set(await buf.call("GetRoles", **target)) == {"asOfTime"}
    batch = await buf.call("BatchValidateSessions", sessionTokens=[token, "none"])
    assert batch["results"][0]["session"] == live["session"]
    assert batch["results"][1] == {"errorReason": "ERROR_REASON_SESSION_INVALID"}
    refreshed = await buf.call("RefreshSession", sessionToken=token)
    assert refreshed["session"] == live["session"]
    token = refreshed["sessionToken"]
    listed = await buf.call("ListSessions", sessionToken=token)
    assert [one["session"] for one in listed["sessions"]] == [live["session"]]
    revoked = await buf.call("Revoke", sessionToken=token)
    assert revoked["revokedCount"] == 1
    assert revoked["changeToken"].startswith("wwc_")
    error = await buf.refused("ValidateSession", sessionToken=token)
    assert error["code"] == "unauthenticated"
    assert reason_of(error) == "SESSION_INVALID"


async def test_the_printed_commands_sign_in(dev: WatchwordProcess) -> None:
    """The two `buf curl` commands on stdout work as they stand, with the code put in."""
    commands = [line for line in dev.log().splitlines() if "buf curl" in line and " -d " in line]
    assert len(commands) == 2
    send, verify = commands
    shell = ["/bin/sh", "-c"]
    beside = {"PATH": f"{BUF.parent}:/usr/bin:/bin"}
    sent = await run(send, program=shell, env=beside)
    assert sent.exit_code == 0, sent.stderr
    code = await dev.mails.code_for("demo@example.com")
    assert verify.count("<code>") == 1
    signed_in = await run(verify.replace("<code>", code), program=shell, env=beside)
    assert signed_in.exit_code == 0, signed_in.stderr
    assert '"username": "demo"' in signed_in.stdout


async def test_a_second_replica_joins(dev: WatchwordProcess) -> None:
    """`serve` with the ready file's `env` is the same installation: codes, tokens and revokes."""
    email = "alan@example.com"
    async with replica(dev) as second, dev.client() as here, second.client() as there:
        assert second.ready["env"] == dev.ready["env"]
        await here.register(full_name="Alan Turing", username="alan", email=email)
        sent = await here.send_otp(email=email)
        code = await dev.mails.code_for(email)
        signed_in = await there.verify_otp(challenge_id=sent.challenge.id, code=code)
        token = signed_in.session_token
        assert (await here.validate_session(token)).session.id == signed_in.session.id
        assert (await here.revoke(token)).revoked_count == 1
        with pytest.raises(SessionInvalid):
            await there.validate_session(token)
        ready_path = second.ready_path
        assert ready_path.exists()
    assert not ready_path.exists()
    assert second.process.returncode == 0


async def test_sessions_survive_a_restart_of_dev() -> None:
    """Without `--ephemeral` the database, the key ring and the service key stay as they were."""
    with open_folder() as folder:
        state = folder / "state"
        program = [sys.executable, "-c", DEV_IN, str(state)]
        env = {"WATCHWORD_API__ADDRESS": "127.0.0.1:0", "WATCHWORD_ADMIN__ADDRESS": "127.0.0.1:0"}
        async with watchword("dev", env=env, program=program) as server, server.client() as client:
            sent = await client.send_otp(email="demo@example.com")
            code = await server.mails.code_for("demo@example.com")
            signed_in = await client.verify_otp(challenge_id=sent.challenge.id, code=code)
            before = server.ready
        assert stat.S_IMODE((state / "environment").stat().st_mode) == 0o600
        async with watchword("dev", env=env, program=program) as server, server.client() as client:
            assert server.ready["service_key"] == before["service_key"]
            live = await client.validate_session(signed_in.session_token)
            assert live.session.id == signed_in.session.id
            with pytest.raises(Exception, match="OTP_INVALID"):
                await client.verify_otp(challenge_id=sent.challenge.id, code=code)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example.com/watchword",
        "postgresql://user:hunter2@192.0.2.1/watchword",
        "postgresql:///watchword?host=db.example.com",
    ],
)
async def test_dev_refuses_a_database_elsewhere(url: str) -> None:
    """Known keys and a demo user have no business in a database off this machine."""
    done = await run("dev", "--database-url", url)
    assert done.exit_code == 1
    assert "error: `--database-url` is not on this machine" in done.stderr
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


async def test_dev_uses_a_database_that_is_there(database_url: str) -> None:
    """`--database-url` takes a local database, and stopping leaves its data where they are."""
    arguments = ("dev", "--ephemeral", "--database-url", database_url)
    async with watchword(*arguments) as server:
        assert server.ready["database_url"] == database_url
    async with watchword(*arguments) as server:
        (row,) = await server.sql("SELECT count(*) FROM users")
        assert row[0] == 1


@pytest.mark.parametrize("command", ["serve", "dev"])
async def test_a_taken_port_is_told(command: str, database_url: str) -> None:
    """A port in use ends in one error with a hint, not in two processes sharing its calls."""
    with socket.create_server(("127.0.0.1", 0)) as taken, open_folder() as folder:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        env = installation_environment(database_url, folder, API__ADDRESS=address)
        options = ["--ephemeral", "--database-url", database_url] if command == "dev" else []
        ready_path = folder / "ready.json"
        done = await run(command, *options, "--ready-file", str(ready_path), env=env)
        assert not ready_path.exists()
    assert done.exit_code == 1
    assert f"error: cannot listen on `{address}`" in done.stderr
    assert re.search(r"^hint: .*WATCHWORD_API__ADDRESS", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def _free_offset() -> int:
    """An offset that leads to a port which was free a moment ago."""
    while True:
        offset = random.randrange(1, 65_536 - PORT)
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", PORT + offset)),
        ):
            return offset


async def test_two_devs_differ_by_an_offset(database_url: str) -> None:
    """A taken port is told with an offset as hint; with another offset `dev` listens elsewhere."""
    with open_folder() as folder:
        arguments = ("dev", "--database-url", database_url, "--port-offset")
        programs = [[sys.executable, "-c", DEV_IN, str(folder / name)] for name in ("a", "b")]
        offset = _free_offset()
        async with watchword(*arguments, str(offset), program=programs[0]) as first:
            address = f"127.0.0.1:{PORT + offset}"
            assert first.ready["api"] == address
            refused = await run(*arguments, str(offset), program=programs[1])
            assert refused.exit_code == 1
            another = 200 if offset == 100 else 100
            assert refused.stderr.endswith(
                f"error: cannot listen on `{address}`\nhint: use --port-offset {another}\n"
            )
            assert "Traceback" not in refused.stderr
            other = _free_offset()
            async with (
                watchword(*arguments, str(other), program=programs[1]) as second,
                first.client() as here,
                second.client() as there,
            ):
                assert second.ready["api"] == f"127.0.0.1:{PORT + other}"
                for client in (here, there):
                    assert (await client.revoke("none")).revoked_count == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port-offset", "-1"], "must be 0 to 15483"),
        (["--port-offset", "100", "--ephemeral"], "`--ephemeral` takes free ports"),
    ],
)
async def test_an_offset_that_cannot_be_is_told(options: list[str], told: str) -> None:
    """Usage, exit code 2: before anything is started."""
    done = await run("dev", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr


async def test_it_ends_with_its_postgres() -> None:
    """A PostgreSQL that was killed is told, and not waited for: nothing would bring it back."""
    async with watchword("dev", "--ephemeral") as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        for child in map(int, children.read_text().split()):
            if Path(f"/proc/{child}/comm").read_text() == "postgres\n":
                os.kill(child, signal.SIGKILL)
        async with asyncio.timeout(30):
            assert await server.process.wait() == 1
        assert "the PostgreSQL of this process has ended" in server.log()
