"""`watchword users|roles|keys|audit`: what they do to a running server, and what they say."""

import asyncio
import itertools
import json
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.test_user_commands import on, server
from tests.support.processes import WATCHWORD, environment, run
from tests.support.running import RunningApp
from watchword_client import AsyncClient, CallerRefused, SessionInvalid

__all__ = ["server"]

UNKNOWN = "01a1b2c3-4d5e-8f60-a1b2-c3d4e5f60770"
SEEN_SECONDS = 1.0


async def test_users_are_made_and_listed(server: RunningApp) -> None:
    """One who was made signs in; the listing tells by state and role, as a table and as JSON."""
    made = await on(server, "users create Ada@example.com --username ada --full-name Ada")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith("created `ada` with the id ")
    challenge = (await server.client.send_otp(email="ada@example.com")).challenge
    code = await server.mails.code_for("Ada@example.com")
    signed_in = await server.client.verify_otp(challenge_id=challenge.id, code=code)
    assert made.stdout.split()[-1] == signed_in.user.id
    for wrong, told in (
        ("ada@example.com --username other", "the address has an account already"),
        ("other@example.com --username ada", "the username is taken"),
    ):
        done = await on(server, f"users create {wrong} --full-name Ada")
        assert (done.exit_code, told in done.stderr, "hint:" in done.stderr) == (1, True, True)
    for wrong in ("nothing --username eve", "e@example.com --username admin"):
        assert (await on(server, f"users create {wrong} --full-name E")).exit_code == 2
    await on(server, "users create eve@example.com --username eve --full-name Eve --locale de")
    await on(server, "users disable eve")
    await on(server, "roles create editor --permission doc.write")
    await on(server, "roles assign ada editor")
    everybody = json.loads((await on(server, "users list --json")).stdout)
    assert {one["username"]: one["state"] for one in everybody} == {
        "ada": "active",
        "eve": "disabled",
    }
    for filters, name in (("--state disabled", "eve"), ("--role editor", "ada")):
        (one,) = json.loads((await on(server, f"users list {filters} --json")).stdout)
        assert one["username"] == name
    assert json.loads((await on(server, "users list --role nothing --json")).stdout) == []
    table = (await on(server, "users list --limit 1")).stdout.splitlines()
    assert len(table) == 2


async def test_a_role_changes_and_goes(server: RunningApp) -> None:
    """Other permissions and none, seen by a session that is known; deleted after a question."""
    token = (await server.sign_in("ada")).session_token
    await on(server, "roles create editor --permission doc.write")
    await on(server, "roles assign ada editor")

    async def seen() -> list[str]:
        await asyncio.sleep(SEEN_SECONDS)
        return list((await server.client.validate_session(token)).user.permissions)

    assert await seen() == ["doc.write"]
    updated = await on(server, "roles update editor --permission a --permission b")
    assert (updated.exit_code, updated.stdout) == (0, "updated role `editor`\n")
    assert await seen() == ["a", "b"]
    again = await on(server, "roles update editor --permission b --permission a")
    assert again.stdout == "the role has these permissions already\n"
    refused = await on(server, "roles delete editor")
    assert (refused.exit_code, "cannot be undone" in refused.stderr) == (2, True)
    deleted = await on(server, "roles delete editor --yes")
    assert (deleted.exit_code, deleted.stdout) == (0, "deleted role `editor`\n")
    assert await seen() == []
    for command in ("roles update editor", "roles delete editor --yes"):
        gone = await on(server, command)
        assert (gone.exit_code, "no role `editor`" in gone.stderr) == (1, True)
    assert (await on(server, "roles update Editor")).exit_code == 2


async def test_keys_are_made_and_revoked(server: RunningApp) -> None:
    """The secret is shown once and opens its scopes; revoked it opens nothing a second later."""
    secrets = {
        f"WATCHWORD_SECRETS__{name}": getattr(
            server.config.secrets, name.lower()
        ).get_secret_value()
        for name in ("KEYS", "INDEX_KEY")
    }
    env = {"WATCHWORD_DATABASE__URL": server.database_url, **secrets}
    made = await run("keys", "create", "gateway", "validate", "--json", env=env)
    assert made.exit_code == 0, made.stderr
    key = json.loads(made.stdout)
    await asyncio.sleep(SEEN_SECONDS)
    async with AsyncClient(server.app.api_address, service_key=key["secret"]) as gateway:
        with pytest.raises(SessionInvalid):
            await gateway.validate_session("ww_none")
        with pytest.raises(CallerRefused):
            await gateway.send_otp(email="ada@example.com")
        (listed,) = json.loads((await on(server, "keys list --json")).stdout)
        assert (listed["id"], listed["name"], listed["scopes"]) == (
            key["id"],
            "gateway",
            ["validate"],
        )
        assert (listed["state"], listed["expires"]) == ("good", "")
        assert key["secret"] not in (await on(server, "keys list")).stdout
        done = await on(server, f"keys revoke {key['id']} --yes")
        assert (done.exit_code, done.stdout) == (0, "revoked\n")
        await asyncio.sleep(SEEN_SECONDS)
        with pytest.raises(CallerRefused):
            await gateway.validate_session("ww_none")
    again = await on(server, f"keys revoke {key['id']} --yes")
    assert again.stdout == "the key is revoked already\n"
    (listed,) = json.loads((await on(server, "keys list --json")).stdout)
    assert listed["state"] == "revoked"
    for command, code in (
        (f"keys revoke {UNKNOWN} --yes", 1),
        (f"keys revoke {UNKNOWN}", 2),
        ("keys revoke nothing", 2),
        (f"keys confirm {UNKNOWN}", 1),
    ):
        wrong = await on(server, command)
        assert (wrong.exit_code, "hint:" in wrong.stderr) == (code, True)
    for arguments in (("Gateway", "validate"), ("cli", "validate"), ("gateway", "root")):
        assert (await run("keys", "create", *arguments, env=env)).exit_code == 2
    span = await run("keys", "create", "gateway", "login", "--expires-in", "0s", env=env)
    assert span.exit_code == 2


async def test_a_restored_key_waits_to_be_confirmed(server: RunningApp) -> None:
    """After `restore-fence` it opens nothing until somebody has looked at it."""
    created = await server.admin.create_service_key("gateway", scopes=["validate"])
    fenced = await on(server, "restore-fence --yes")
    assert "service keys that wait for `watchword keys confirm`: 1" in fenced.stdout
    await asyncio.sleep(SEEN_SECONDS)
    async with AsyncClient(server.app.api_address, service_key=created.secret) as gateway:
        with pytest.raises(CallerRefused):
            await gateway.validate_session("ww_none")
        (listed,) = json.loads((await on(server, "keys list --json")).stdout)
        assert listed["state"] == "waits to be confirmed"
        confirmed = await on(server, f"keys confirm {created.service_key.id}")
        assert (confirmed.exit_code, confirmed.stdout) == (0, "confirmed\n")
        await asyncio.sleep(SEEN_SECONDS)
        with pytest.raises(SessionInvalid):
            await gateway.validate_session("ww_none")
    for change, state in (("expire", "expired"), ("revoke", "revoked")):
        await server.sql(f"UPDATE service_keys SET suspend_time = now(), {change}_time = now()")
        (listed,) = json.loads((await on(server, "keys list --json")).stdout)
        assert listed["state"] == state
    confirmed = await on(server, f"keys confirm {created.service_key.id}")
    assert confirmed.stdout == "the key does not wait to be confirmed\n"


async def roles_for_ever(server: RunningApp) -> None:
    """Makes one after the other."""
    for number in itertools.count(1000):
        await server.admin.create_role(f"role{number}")
        await asyncio.sleep(0.1)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lets children hear SIGINT: what a shell without job control runs behind it has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
async def test_the_audit_is_followed(server: RunningApp) -> None:
    """Each event once, as it comes, one JSON object a line; Ctrl-C ends it quietly."""
    await server.sign_in("before")
    process = await asyncio.create_subprocess_exec(
        str(WATCHWORD),
        *("audit", "tail", "--json"),
        env=environment({"WATCHWORD_DATABASE__URL": server.database_url}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            making = group.create_task(roles_for_ever(server))
            lines = [json.loads(await process.stdout.readline()) for _ in range(4)]
            making.cancel()
        names = [line["target_id"] for line in lines]
        assert names == sorted(names)
        assert len(set(names)) == 4
        assert {line["action"] for line in lines} == {"create_role"}
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, stderr = await process.communicate()
        assert (process.returncode in {0, 130}, b"Traceback" in stderr) == (True, False)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    by_caller = json.loads((await on(server, "audit list --actor tests --json")).stdout)
    assert {event["actor"] for event in by_caller} == {"tests"}
