"""The newcomer's path of docs/getting-started.md, block by block, in the order of the page."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.pages import Page, adapted, shape, shell
from tests.support.processes import WatchwordProcess, environment, watchword

PAGE = Page("docs/getting-started.md")
ADA = "ada@example.com"
SIGN_IN_SECONDS = 20.0


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[WatchwordProcess]:
    """`make dev`, in a place of its own, with its limits."""
    env = {"WATCHWORD_LIMITS__ENABLED": "true"}
    async with watchword("dev", "--ephemeral", env=env) as server:
        yield server


async def block(holding: str, process: WatchwordProcess, **variables: str) -> str:
    """Runs the one shell block that holds a text, after the one that defines `call`."""
    (definition,) = PAGE.blocks("sh", holding="call() {")
    (text,) = PAGE.blocks("sh", holding=holding)
    key = process.ready["service_key"]
    return await shell(
        definition + text, process, KEY=key, ADDRESS=process.ready["api"], **variables
    )


async def a_minute_later(process: WatchwordProcess) -> None:
    """What the page says to wait for; only the limits grow older."""
    await process.sql(
        "UPDATE rate_limits SET tat1_us = tat1_us - $1, tat2_us = tat2_us - $1,"
        " tat3_us = tat3_us - $1",
        60_000_000,
    )


async def test_every_step_works(process: WatchwordProcess, tmp_path: Path) -> None:
    """By hand and from Python: register, verify, validate, roles, revoke, as the page shows it."""
    shown = [shape(json.loads(text)) for text in PAGE.blocks("json")]
    registered = json.loads(await block("call Register", process))
    signed_in = json.loads(
        await block(
            "call VerifyOtp",
            process,
            CHALLENGE=registered["challenge"]["id"],
            CODE=await process.mails.code_for(ADA),
        )
    )
    await a_minute_later(process)
    assert shape(json.loads(await block("call SendOtp", process))) == {
        "challenge": shape(registered["challenge"])
    }
    await process.mails.wait_for(ADA, count=2)
    token = signed_in["sessionToken"]
    validated = json.loads(await block("call ValidateSession", process, TOKEN=token))
    assert set(validated) == {"session", "user", "asOfTime"}
    url = process.ready["database_url"]
    assert "editor" in await block("roles assign", process, WATCHWORD_DATABASE__URL=url)
    held = json.loads(await block("call GetRoles", process, TOKEN=token))
    assert [shape(registered), shape(signed_in), shape(held)] == shown
    assert held["roles"] == ["editor"]
    revoked = json.loads(await block("call Revoke", process, TOKEN=token))
    assert revoked["revokedCount"] == 1
    assert revoked["changeToken"].startswith("wwc_")
    await a_minute_later(process)
    said = await run_program(process, tmp_path, mails_before=2)
    assert said == ["ada ['editor'] ['article:read', 'article:write']", "signed out"]


async def run_program(process: WatchwordProcess, folder: Path, *, mails_before: int) -> list[str]:
    """Runs `sign_in.py`, gives it the code of the mail that it asked for; the lines it prints."""
    (program,) = PAGE.blocks("python")
    path = folder / "sign_in.py"
    path.write_text(adapted(program, process))
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, path),
        env=environment({"KEY": process.ready["service_key"], "ADDRESS": process.ready["api"]}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        code = await process.mails.code_for(ADA, count=mails_before + 1)
        async with asyncio.timeout(SIGN_IN_SECONDS):
            output, _ = await running.communicate(f"{code}\n".encode())
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 0
    return output.decode().removeprefix("code from the mail: ").splitlines()
