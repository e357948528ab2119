"""The commands beside `dev`: what they print, how they end, and what they never print."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from tests.support.postgres import DatabaseServer
from tests.support.processes import Finished, WatchwordProcess, run, watchword
from tests.support.running import installation_environment
from watchword.cli import app
from watchword_client import AsyncClient, CallerRefused
from watchword_client import auth_service_pb2 as pb

COMMANDS = (
    "",
    "serve",
    "dev",
    "demo",
    "migrate",
    "doctor",
    "healthcheck",
    "version",
    "config",
    "config check",
    "config show",
    "config schema",
    "secrets",
    "secrets generate",
    "secrets status",
    "users",
    "users show",
    "roles",
    "roles create",
    "roles assign",
    "roles unassign",
    "roles list",
)
MARKER = "xX-a-secret-that-nobody-prints-Xx"


@pytest.fixture(scope="module")
async def dev() -> AsyncIterator[WatchwordProcess]:
    """One installation for this file."""
    async with watchword("dev", "--ephemeral") as server:
        yield server


@pytest.fixture(scope="module")
async def signed_in(dev: WatchwordProcess) -> pb.VerifyOtpResponse:
    """The demo user's session."""
    async with dev.client() as client:
        sent = await client.send_otp(email="demo@example.com")
        code = await dev.mails.code_for("demo@example.com")
        return await client.verify_otp(challenge_id=sent.challenge.id, code=code)


async def on(server: WatchwordProcess, command: str) -> Finished:
    """Runs a command on the server's database."""
    env = {"WATCHWORD_DATABASE__URL": server.ready["database_url"]}
    return await run(*command.split(), env=env)


def assert_told(done: Finished, *parts: str, exit_code: int) -> None:
    """It ended with this exit code and messages, a hint, and no traceback."""
    assert done.exit_code == exit_code, done
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr
    assert re.search(r"^hint: \S", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def lines_of(text: str) -> dict[str, str]:
    """Reads environment lines."""
    return dict(line.split("=", 1) for line in text.splitlines())


async def test_version() -> None:
    """`version` prints one line."""
    done = await run("version")
    assert (done.exit_code, done.stdout) == (0, f"watchword {version('watchword')}\n")


def test_every_command_explains_itself() -> None:
    """`--help` of each command ends well and shows how it is called.

    In this process: a start of Python for each would tell no more.
    """
    for name in COMMANDS:
        done = CliRunner().invoke(app, [*name.split(), "--help"], prog_name="watchword")
        assert done.exit_code == 0, done.output
        assert " ".join(f"Usage: watchword {name}".split()) in done.output


async def test_demo_prints_one_object() -> None:
    """`demo --json` shows the whole round trip as one JSON object and nothing else."""
    done = await run("demo", "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {
        "user_id",
        "challenge_id",
        "session_id",
        "roles",
        "validated_before_revoke",
        "validated_after_revoke",
    }
    for name in ("user_id", "challenge_id", "session_id"):
        assert str(UUID(result[name])) == result[name]
    assert result["roles"] == ["editor"]
    assert result["validated_before_revoke"] is True
    assert result["validated_after_revoke"] is False


async def test_demo_for_people_ends_well() -> None:
    """`demo` without options shows the mail and never a whole session token."""
    done = await run("demo")
    assert done.exit_code == 0, done.stderr
    assert "ada@example.com" in done.stdout
    assert re.search(r"ww_[\w-]{60,}", done.stdout) is None


async def test_migrate_and_check(postgres: DatabaseServer) -> None:
    """`migrate --check` fails while something is pending and changes nothing."""
    name = postgres.next_name("unmigrated")
    env = {"WATCHWORD_DATABASE__URL": await postgres.create_database(name)}
    try:
        for _ in range(2):
            pending = await run("migrate", "--check", env=env)
            assert pending.exit_code == 1
            assert pending.stdout.startswith("pending 0001_")
        applied = await run("migrate", env=env)
        assert applied.exit_code == 0
        assert applied.stdout == pending.stdout.replace("pending", "applied")
        for arguments in (["migrate"], ["migrate", "--check"]):
            done = await run(*arguments, env=env)
            assert (done.exit_code, done.stdout) == (0, "the schema is up to date\n")
    finally:
        await postgres.drop_database(name)


async def test_no_database_is_told() -> None:
    """Commands on a database that is not there say so, with a hint."""
    env = {"WATCHWORD_DATABASE__URL": "postgresql:///watchword?host=/nowhere"}
    migrate, show = await asyncio.gather(
        run("migrate", env=env), run("users", "show", "demo", env=env)
    )
    assert_told(migrate, "error: the database cannot be reached", exit_code=1)
    assert_told(show, "error: the database cannot be used", exit_code=1)


async def test_serve_names_every_missing_variable() -> None:
    """Without configuration `serve` ends with exit code 2 and every variable that it needs."""
    done = await run("serve")
    required = ("DATABASE__URL", "SECRETS__KEYS", "SECRETS__INDEX_KEY", "MAIL__SENDERS")
    wanted = [f"error: `WATCHWORD_{name}` is required" for name in required]
    assert_told(done, *wanted, exit_code=2)


# Each is one start of `serve`; what is wrong in one environment is told all at once.
MALFORMED: tuple[dict[str, str], ...] = (
    {
        "SECRETS__KEYS": f"1:{MARKER}",
        "SECRETS__INDEX_KEY": MARKER,
        "SECRETS__TYPO": MARKER,
        "CALLERS__KEYS": f"{MARKER}:login:wwk_{MARKER}",
        "DATABASE__URL": f"mysql://user:{MARKER}@127.0.0.1/watchword",
    },
    {
        "SECRETS__KEYS": MARKER,
        "CALLERS__KEYS": MARKER,
        "DATABASE__URL": f"postgresql://user:{MARKER}@db.example.com/watchword",
    },
    {"CALLERS__KEYS": f"web:login:wwk_{MARKER}"},
    {"CALLERS__KEYS": f"web:{MARKER}:wwk_{MARKER}"},
    {"DATABASE__URL": f"postgresql://user:{MARKER}@[127.0.0.1/watchword"},
    {"SECRETS__KEYS_FILE": f"/nowhere/{MARKER}"},
)


async def test_malformed_secrets_are_not_echoed(tmp_path: Path) -> None:
    """A wrong secret is named by its variable, and neither it nor a traceback is shown."""
    good = installation_environment("postgresql:///watchword?host=/nowhere", tmp_path)

    async def refused(settings: dict[str, str]) -> None:
        env = good | {f"WATCHWORD_{name}": value for name, value in settings.items()}
        if "SECRETS__KEYS_FILE" in settings:
            del env["WATCHWORD_SECRETS__KEYS"]
        done = await run("serve", env=env)
        # The URL is told by its section.
        named = [f"`WATCHWORD_{name.removesuffix('__URL')}" for name in settings]
        assert_told(done, *named, exit_code=2)
        assert MARKER not in done.stdout + done.stderr

    await asyncio.gather(*map(refused, MALFORMED))


async def test_unknown_settings_are_refused_and_foreign_names_are_not(
    database_url: str, tmp_path: Path
) -> None:
    """`WATCHWORD_X__Y` stops `serve`; what Kubernetes injects and reserved names do not."""
    env = installation_environment(database_url, tmp_path)
    done = await run("serve", env={**env, "WATCHWORD_X__Y": "1", "WATCHWORD_OTP__CODE_LENGHT": "8"})
    assert_told(done, "`WATCHWORD_X__Y` is not", "`WATCHWORD_OTP__CODE_LENGHT` is not", exit_code=2)
    foreign = {
        "WATCHWORD_SERVICE_HOST": "10.0.0.1",
        "WATCHWORD_PORT": "tcp://10.0.0.1:50051",
        "WATCHWORD_METRICS__ADDRESS": "127.0.0.1:9090",
    }
    async with watchword("serve", env={**env, **foreign}) as server:
        assert server.ready["api"].startswith("127.0.0.1:")


async def test_secrets_may_come_from_files(database_url: str, tmp_path: Path) -> None:
    """`..._FILE` of every secret stands for it; both at once are refused."""
    env = installation_environment(database_url, tmp_path / "mail")
    by_file = dict(env)
    for name in ("DATABASE__URL", "SECRETS__KEYS", "SECRETS__INDEX_KEY", "CALLERS__KEYS"):
        path = tmp_path / name
        path.write_text(by_file.pop(f"WATCHWORD_{name}") + "\n")
        by_file[f"WATCHWORD_{name}_FILE"] = str(path)
    async with watchword("serve", env=by_file) as server, server.client() as client:
        assert (await client.revoke("none")).revoked_count == 0
        assert server.ready["env"]["WATCHWORD_SECRETS__KEYS"] == env["WATCHWORD_SECRETS__KEYS"]
    both = {**by_file, "WATCHWORD_SECRETS__KEYS": env["WATCHWORD_SECRETS__KEYS"]}
    done = await run("serve", env=both)
    assert_told(done, "`WATCHWORD_SECRETS__KEYS_FILE`", "both set", exit_code=2)
    assert env["WATCHWORD_SECRETS__KEYS"] not in done.stderr


async def test_generated_secrets_serve(database_url: str, tmp_path: Path) -> None:
    """The lines of `secrets generate` are an environment; a further caller key works beside."""
    generated = await run("secrets", "generate")
    assert generated.exit_code == 0
    secrets = lines_of(generated.stdout)
    assert set(secrets) == {
        "WATCHWORD_SECRETS__KEYS",
        "WATCHWORD_SECRETS__INDEX_KEY",
        "WATCHWORD_CALLERS__KEYS",
    }
    further = await run("secrets", "generate", "--caller", "web:validate", env=secrets)
    assert further.exit_code == 0
    ((name, web),) = lines_of(further.stdout).items()
    assert name == "WATCHWORD_CALLERS__KEYS"
    assert re.fullmatch(r"web:validate:wwk_[\w-]+", web)
    env = {
        **installation_environment(database_url, tmp_path),
        **secrets,
        "WATCHWORD_CALLERS__KEYS": f"{secrets['WATCHWORD_CALLERS__KEYS']},{web}",
    }
    async with watchword("serve", env=env) as server:
        key = web.rpartition(":")[2]
        async with (
            server.client() as every,
            AsyncClient(server.ready["api"], service_key=key) as it,
        ):
            demo = await every.register(full_name="A", username="abc", email="a@example.com")
            with pytest.raises(CallerRefused, match="CALLER_SCOPE_MISSING"):
                await it.register(full_name="B", username="bcd", email="b@example.com")
            with pytest.raises(Exception, match="USER_NOT_FOUND"):
                await it.get_roles(user_id=demo.user_id)
    two = await run("secrets", "generate", "--caller", "web:login+validate", env=secrets)
    assert set(two.stdout.split(":")[1].split("+")) == {"login", "validate"}


async def test_a_wrong_caller_is_told() -> None:
    """`--caller` takes a name and known scopes, nothing else."""
    env = lines_of((await run("secrets", "generate")).stdout)
    wrong = ("web", "web:", "Web:login", ":login", "web:login+nothing", "cli:login")
    for done in await asyncio.gather(
        *(run("secrets", "generate", "--caller", caller, env=env) for caller in wrong)
    ):
        assert_told(done, "`--caller`", exit_code=2)


async def test_users_show(dev: WatchwordProcess, signed_in: pb.VerifyOtpResponse) -> None:
    """A user is found by id, username and address, in any case of the letters."""
    names = (signed_in.user.id, "demo", "Demo", "demo@example.com", "Demo@Example.COM")
    shown = await asyncio.gather(*(on(dev, f"users show {name} --json") for name in names))
    for done in shown:
        assert done.exit_code == 0, done.stderr
        user = json.loads(done.stdout)
        assert user["id"] == signed_in.user.id
        assert (user["username"], user["email"]) == ("demo", "demo@example.com")
        assert user["state"] == "active"
    table = await on(dev, "users show demo")
    assert table.exit_code == 0
    assert re.search(r"^username +demo *$", table.stdout, re.MULTILINE)


async def test_unknown_users_are_told(dev: WatchwordProcess) -> None:
    """No user of that id, name or address: exit code 1, and nothing on stdout."""
    names = ("nobody", "nobody@example.com", "01a204a6-948a-8945-a339-45351be34ebe", "a@b@c")
    for done in await asyncio.gather(*(on(dev, f"users show {name} --json") for name in names)):
        assert_told(done, "error: no user `", exit_code=1)


async def test_roles_show_at_once(dev: WatchwordProcess, signed_in: pb.VerifyOtpResponse) -> None:
    """A role that is created and assigned is in the next ValidateSession of a live session."""
    made = await on(dev, "roles create author --permission post:write --permission post:read")
    assert (made.exit_code, made.stdout) == (0, "created role `author`\n")
    async with dev.client() as client:
        assert "author" not in (await client.validate_session(signed_in.session_token)).user.roles
        given = await on(dev, "roles assign demo author")
        assert (given.exit_code, given.stdout) == (0, "assigned `author`\n")
        live = await client.validate_session(signed_in.session_token)
        assert list(live.user.roles) == ["author"]
        assert list(live.user.permissions) == ["post:read", "post:write"]
        assert (await client.get_roles(user_id=signed_in.user.id)).roles == ["author"]
    again, duplicate, no_user, no_role = await asyncio.gather(
        on(dev, "roles assign demo@example.com author"),
        on(dev, "roles create author --permission other"),
        on(dev, "roles assign nobody author"),
        on(dev, "roles assign demo nothing"),
    )
    assert (again.exit_code, again.stdout) == (0, "the user holds it already\n")
    assert_told(duplicate, "there is a role `author` already", exit_code=1)
    assert_told(no_user, "no user `nobody`", exit_code=1)
    assert_told(no_role, "no role `nothing`", exit_code=1)
    user = json.loads((await on(dev, "users show demo --json")).stdout)
    assert user["roles"] == ["author"]
    assert user["permissions"] == ["post:read", "post:write"]


async def test_a_role_that_is_taken_away_is_gone_at_once(
    dev: WatchwordProcess, signed_in: pb.VerifyOtpResponse
) -> None:
    """The next ValidateSession and GetRoles of a live session are without it."""
    await on(dev, "roles create guest --permission door:open")
    await on(dev, "roles assign demo guest")
    async with dev.client() as client:
        live = await client.validate_session(signed_in.session_token)
        assert "guest" in live.user.roles
        taken = await on(dev, "roles unassign demo@example.com guest")
        assert (taken.exit_code, taken.stdout) == (0, "unassigned `guest`\n")
        live = await client.validate_session(signed_in.session_token)
        assert "guest" not in live.user.roles
        assert "door:open" not in live.user.permissions
        assert "guest" not in (await client.get_roles(user_id=signed_in.user.id)).roles
    again, no_user, no_role = await asyncio.gather(
        on(dev, "roles unassign demo guest"),
        on(dev, "roles unassign nobody guest"),
        on(dev, "roles unassign demo nothing"),
    )
    assert (again.exit_code, again.stdout) == (0, "the user does not hold it\n")
    assert_told(no_user, "no user `nobody`", exit_code=1)
    assert_told(no_role, "no role `nothing`", exit_code=1)


async def test_roles_are_listed(database_url: str) -> None:
    """As JSON, and as a line a role however many permissions it has."""
    env = {"WATCHWORD_DATABASE__URL": database_url}
    empty = await run("roles", "list", "--json", env=env)
    assert (empty.exit_code, json.loads(empty.stdout)) == (0, [])
    permissions = [f"permission-{number:02}" for number in range(20)]
    options = [part for name in permissions for part in ("--permission", name)]
    await run("roles", "create", "many", *options, env=env)
    await run("roles", "create", "few", env=env)
    listed, table = await asyncio.gather(
        run("roles", "list", "--json", env=env), run("roles", "list", env=env)
    )
    assert json.loads(listed.stdout) == [
        {"name": "few", "permissions": []},
        {"name": "many", "permissions": permissions},
    ]
    lines = [line.split(maxsplit=1) for line in table.stdout.splitlines()]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["name", "permissions"],
        ["few", "-"],
        ["many", ", ".join(permissions)],
    ]


async def test_names_of_roles(dev: WatchwordProcess) -> None:
    """Names of roles and permissions are 1 to 64 of `a-z 0-9 . _ : -`; a wrong one makes none."""
    env = {"WATCHWORD_DATABASE__URL": dev.ready["database_url"]}
    wrong = (["Author"], ["a" * 65], [""], ["ok", "--permission", "Ö"], ["ok", "--permission", ""])
    for done in await asyncio.gather(*(run("roles", "create", *it, env=env) for it in wrong)):
        assert_told(done, "must be 1 to 64", exit_code=2)
    (row,) = await dev.sql("SELECT count(*) FROM roles WHERE name NOT IN ('author', 'guest')")
    assert row[0] == 0
