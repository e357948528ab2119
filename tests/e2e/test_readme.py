"""What README.md tells a newcomer to type works as it stands there."""

import ast
import json
import re

import watchword_client
from tests.e2e.pages import Page, shape, shell
from tests.support.processes import watchword
from tests.support.running import code_of

README = Page("README.md")


async def test_the_first_call_answers_what_the_page_shows() -> None:
    """Both `buf curl` blocks run, and answer the fields of the JSON that follows each of them."""
    send, verify = README.blocks("sh", holding="buf curl")
    shown_send, shown_verify = (json.loads(block) for block in README.blocks("json"))
    async with watchword("dev", "--ephemeral") as process:
        key = process.ready["service_key"]
        sent = json.loads(await shell(send, process, KEY=key))
        assert shape(sent) == shape(shown_send)
        (mail,) = await process.mails.wait_for("demo@example.com")
        verified = json.loads(await shell(verify, process, KEY=key, CODE=code_of(mail)))
        assert shape(verified) == shape(shown_verify)


async def test_the_commands_for_people_in_charge() -> None:
    """Each of the five works beside a running server."""
    (block,) = README.blocks("sh", holding="users create")
    assert len(block.splitlines()) == 5
    async with watchword("dev", "--ephemeral") as process:
        told = await shell(block, process, **process.ready["env"])
    assert "created `ada`" in told
    assert "demo@example.com" in told
    assert "assigned `editor`" in told
    assert "wwk_" in told


def test_the_client_example_uses_names_that_exist() -> None:
    """Everything that the Python block imports from the client is there, and it parses."""
    (example,) = README.blocks("python")
    module = ast.parse("async def example():\n" + re.sub("^", "    ", example, flags=re.MULTILINE))
    imported = [
        name.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]
    assert imported
    assert all(hasattr(watchword_client, name) for name in imported)
