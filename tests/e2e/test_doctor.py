"""`watchword doctor` and `config` as commands: what they print and how they end."""

import json
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import watchword
from tests.support.postgres import fetch, open_folder
from tests.support.processes import run
from tests.support.running import installation_environment
from tests.support.smtp_server import PASSWORD, USERNAME, smtp_server
from watchword.dev.postgres import start
from watchword.storage.migrate import migrate

SERVICE = Path(watchword.__file__).parents[1]
MARKER = "xX-a-secret-that-nobody-prints-Xx"


async def test_an_installation_in_order() -> None:
    """Durable PostgreSQL, a role of its own, SMTP with a login: exit code 0 and nothing to mend."""
    with open_folder() as folder, start(folder / "postgres", ephemeral=False) as postgres:
        url = postgres.url("watchword")
        await fetch(postgres.url(), "CREATE DATABASE watchword")
        await migrate(url)
        await fetch(url, "CREATE ROLE app LOGIN")
        await fetch(
            url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app"
        )
        env = installation_environment(
            url.replace("postgres@", "app@"),
            folder,
            MAIL__SENDERS="smtp",
            MAIL__FROM="a@acme.example",
            MAIL__ALLOW_DEVELOPMENT_SENDERS="",
            LIMITS__ENABLED="true",
        )
        async with smtp_server(auth=True) as smtp:
            auth = f"{USERNAME}:{quote(PASSWORD, safe='')}"
            env["WATCHWORD_SMTP__URL"] = f"smtp://{auth}@127.0.0.1:{smtp.port}"
            done = await run("doctor", env=env)
            as_json = await run("doctor", "--json", env=env)
    assert (done.exit_code, done.stderr) == (0, ""), done
    *lines, summary = done.stdout.splitlines()
    assert all(line.startswith("ok  ") for line in lines), done.stdout
    assert "ok       cluster: is the one that was confirmed" in lines
    assert "ok       keys: what is alive has keys of this ring" in lines
    assert summary == f"{len(lines)} findings: 0 failures, 0 warnings"
    answer = json.loads(as_json.stdout)
    assert (as_json.exit_code, answer["ok"]) == (0, True)
    assert [f"ok       {it['check']}: {it['message']}" for it in answer["findings"]] == lines
    assert smtp.taken == []


async def test_an_installation_out_of_order(tmp_path: Path) -> None:
    """Exit code 1, each failure with a hint, no secret and no traceback."""
    env = installation_environment(
        f"postgresql://u:{MARKER}@127.0.0.1:1/x",
        tmp_path,
        MAIL__SENDERS="smtp,resend",
        MAIL__FROM="a@acme.example",
        SMTP__URL=f"smtp://u:{MARKER}@127.0.0.1:1",
        RESEND__API_KEY=f"re_{MARKER}",
        RESEND__BASE_URL="http://127.0.0.1:1",
        LIMITS__ENABLED="true",
    )
    done = await run("doctor", env=env)
    assert (done.exit_code, done.stderr) == (1, ""), done
    lines = done.stdout.splitlines()
    failed = [number for number, line in enumerate(lines) if line.startswith("failure")]
    assert [lines[number].split(": ")[0] for number in failed] == [
        "failure  database",
        "failure  sender smtp",
        "failure  sender resend",
    ]
    assert all(lines[number + 1].startswith("         hint: ") for number in failed)
    for secret in (MARKER, env["WATCHWORD_SECRETS__INDEX_KEY"], "wwk_"):
        assert secret not in done.stdout


async def test_an_empty_environment() -> None:
    """Every variable that is missing, in both forms."""
    done = await run("doctor")
    assert done.exit_code == 1
    for name in ("DATABASE__URL", "SECRETS__KEYS", "SECRETS__INDEX_KEY", "MAIL__SENDERS"):
        assert f"failure  configuration: `WATCHWORD_{name}` is required" in done.stdout
    assert json.loads((await run("doctor", "--json")).stdout)["ok"] is False


async def test_a_core_that_is_not_built(tmp_path: Path) -> None:
    """A finding like the others; the other commands say the same (the guard: cli._Commands)."""
    copy = shutil.copytree(SERVICE, tmp_path / "service", ignore=shutil.ignore_patterns("_core*"))
    program = [sys.executable, "-c", "import watchword.cli; watchword.cli.main()"]
    env = {"PYTHONPATH": str(copy)}
    done = await run("doctor", env=env, program=program)
    assert done.exit_code == 1
    assert done.stdout.startswith("failure  core: the Rust core is not built")
    assert "hint: run `make build`" in done.stdout
    other = await run("users", "show", "demo", env=env, program=program)
    assert other.exit_code == 1
    assert other.stderr.startswith("error: the Rust core is not built")
    assert other.stderr.endswith("hint: run `make build`\n")


async def test_config_check_and_show(tmp_path: Path) -> None:
    """Exit code 2 with everything that is wrong, 0 with what holds; secrets as `***` alone."""
    path = tmp_path / "url"
    path.write_text(f"postgresql://u:{MARKER}@127.0.0.1/x\n")
    env = installation_environment("", tmp_path, DATABASE__URL_FILE=str(path))
    fine = await run("config", "check", env=env)
    assert (fine.exit_code, fine.stdout) == (0, "the configuration is complete\n")
    wrong = {**env, "WATCHWORD_OTP__CODE_LENGTH": MARKER, "WATCHWORD_MAIL__SENDERS": ""}
    done = await run("config", "check", env=wrong)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: `WATCHWORD_OTP__CODE_LENGTH` " in done.stderr
    assert "error: `WATCHWORD_MAIL__SENDERS` is required" in done.stderr
    assert (await run("config", "show", env=wrong)).exit_code == 2
    shown = await run("config", "show", env=env)
    assert shown.exit_code == 0
    rows = {row[0]: row[1:] for row in map(str.split, shown.stdout.splitlines())}
    assert rows["WATCHWORD_DATABASE__URL"] == ["file", "***"]
    assert rows["WATCHWORD_SECRETS__KEYS"] == ["environment", "***"]
    assert rows["WATCHWORD_OTP__CODE_LENGTH"] == ["default", "6"]
    as_json = await run("config", "show", "--json", env=env)
    values = json.loads(as_json.stdout)
    assert values["WATCHWORD_DATABASE__URL"] == {"value": "***", "source": "file"}
    assert set(values) == set(rows)
    for secret in (MARKER, "wwk_", env["WATCHWORD_SECRETS__INDEX_KEY"]):
        assert secret not in done.stderr + shown.stdout + as_json.stdout


async def test_config_schema() -> None:
    """One JSON document, whatever the environment."""
    done = await run("config", "schema", env={"WATCHWORD_X__Y": MARKER})
    assert done.exit_code == 0
    assert "WATCHWORD_DATABASE__URL" in json.loads(done.stdout)["properties"]
