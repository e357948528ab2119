"""What the pages about administration show works as it stands, in the order of each page."""

import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.pages import Page, shape, shell
from tests.support.processes import WatchwordProcess, run, watchword

ADMINISTRATION = Page("docs/administration.md")


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[WatchwordProcess]:
    """A whole installation."""
    async with watchword("dev", "--ephemeral") as server:
        yield server


async def test_the_calls_of_the_page(process: WatchwordProcess, tmp_path: Path) -> None:
    """By `buf curl`, by grpcurl where there is one, from Python, and the commands."""
    definition, made, changed, grpcurl, commands = ADMINISTRATION.blocks("sh")
    (shown,) = ADMINISTRATION.blocks("json")
    (program,) = ADMINISTRATION.blocks("python")
    env = {"KEY": process.ready["service_key"], "ADMIN": process.ready["admin"]}
    answers = await shell(definition + made, process, **env)
    found = json.loads(answers[answers.rindex('{\n  "user": ') :])
    assert shape(found) == shape(json.loads(shown))
    told = await shell(definition + changed, process, ID=found["user"]["id"], **env)
    assert told.count('"changeToken": "wwc_') == 3
    assert '"fullName": "Ada King"' in told
    path = tmp_path / "administer.py"
    path.write_text(program)
    done = await run(str(path), program=[sys.executable], env=env)
    assert (done.exit_code, done.stdout) == (0, "grace ['editor']\n"), done.stderr
    if shutil.which("grpcurl") is not None:
        assert "grace@example.com" in await shell(grpcurl, process, **env)
    told = await shell(commands, process, **process.ready["env"])
    assert "deleted, 0 sessions ended" in told
    assert "delete_user" in told


async def test_the_commands_about_roles(process: WatchwordProcess) -> None:
    """Made, changed, listed; given for a while and taken away."""
    env = process.ready["env"]
    await run("users", "create", "ada@example.net", "--username=ada", "--full-name=Ada", env=env)
    for name in ("editor", "auditor"):
        await run("roles", "delete", name, "--yes", env=env)
    roles, holders = Page("docs/roles.md").blocks("sh")
    assert "article:publish" in await shell(roles, process, **env)
    assert (await run("roles", "create", "auditor", env=env)).exit_code == 0
    told = await shell(holders, process, **env)
    assert "assigned `auditor`" in told
    assert "unassigned `auditor`" in told


async def test_the_commands_about_keys(process: WatchwordProcess) -> None:
    """Made, listed, replaced, revoked, and confirmed after a fence."""
    env = process.ready["env"]
    made, second, revoked, waits, confirmed = Page("docs/callers.md").blocks("sh")
    assert (await shell(made, process, **env)).count("wwk_") == 2
    listed = await shell(second, process, **env)
    keys = json.loads(listed.splitlines()[-1])
    assert [key["name"] for key in keys] == ["gateway", "back-office", "gateway"]
    told = await shell(revoked, process, OLD=keys[-1]["id"], **env)
    assert told == "revoked\n"
    assert (await run("restore-fence", "--yes", env=env)).exit_code == 0
    assert (await shell(waits, process, **env)).count("waits to be confirmed") == 2
    told = await shell(confirmed, process, KEY_ID=keys[0]["id"], **env)
    assert told == "confirmed\n"
