"""What README.md tells a newcomer to type works as it stands there."""

import ast
import json
import os
import re
import sys
from pathlib import Path

import watchword_client
from tests.support.processes import WatchwordProcess, run, watchword
from tests.support.running import code_of

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def blocks(language: str, *, holding: str = "") -> list[str]:
    """The fenced blocks of one language, in order."""
    return [
        text
        for kind, text in FENCE.findall(README.read_text())
        if kind == language and holding in text
    ]


async def shell(text: str, process: WatchwordProcess, **variables: str) -> str:
    """Runs a block as it stands, on this process instead of port 50051; gives its stdout."""
    script = text.replace("127.0.0.1:50051", process.ready["api"]).replace(".venv/bin", str(BIN))
    env = {**variables, "PATH": f"{BIN}:{os.environ['PATH']}"}
    finished = await run("-euc", script, program=["/bin/sh"], env=env)
    assert finished.exit_code == 0, finished.stderr
    return finished.stdout


async def test_the_first_call_answers_what_the_page_shows() -> None:
    """Both `buf curl` blocks run, and answer the fields of the JSON that follows each of them."""
    send, verify = blocks("sh", holding="buf curl")
    shown_send, shown_verify = (json.loads(block) for block in blocks("json"))
    async with watchword("dev", "--ephemeral") as process:
        key = process.ready["service_key"]
        sent = json.loads(await shell(send, process, KEY=key))
        assert shape(sent) == shape(shown_send)
        (mail,) = await process.mails.wait_for("demo@example.com")
        verified = json.loads(await shell(verify, process, KEY=key, CODE=code_of(mail)))
        assert shape(verified) == shape(shown_verify)


async def test_the_role_commands_show_in_the_next_check() -> None:
    """The block under `Roles` runs, and the demo user holds the role afterwards."""
    (roles,) = blocks("sh", holding="roles create")
    async with watchword("dev", "--ephemeral") as process:
        commands = "\n".join(roles.splitlines()[1:])
        url = process.ready["database_url"]
        shown = await shell(commands, process, WATCHWORD_DATABASE__URL=url)
        assert "article:read, article:write" in shown


def test_the_client_example_uses_names_that_exist() -> None:
    """Everything that the Python block imports from the client is there, and it parses."""
    (example,) = blocks("python")
    module = ast.parse("async def example():\n" + re.sub("^", "    ", example, flags=re.MULTILINE))
    imported = [
        name.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]
    assert imported
    assert all(hasattr(watchword_client, name) for name in imported)


def shape(value: object) -> object:
    """The keys of a JSON value, without what they hold."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return type(value).__name__
