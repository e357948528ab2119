"""`watchword secrets status`: what each key of the ring is still needed for (row R17)."""

import base64
import json

from tests.e2e.pages import Page
from tests.support.processes import Finished, run
from tests.support.running import RunningApp, running_app
from watchword.crypto import random_key
from watchword.keyring import parse_ring


def entry(key_id: int) -> str:
    """A further key of a ring."""
    return f"{key_id}:{base64.b64encode(random_key()).decode()}"


async def status(app: RunningApp, ring: str, *options: str) -> Finished:
    """Runs the command with a ring on the server's database."""
    env = {
        "WATCHWORD_DATABASE__URL": app.database_url,
        "WATCHWORD_SECRETS__KEYS": ring,
        "WATCHWORD_SECRETS__INDEX_KEY": app.config.secrets.index_key.get_secret_value(),
    }
    return await run("secrets", "status", *options, env=env)


async def test_what_keys_are_needed_for(app: RunningApp) -> None:
    """With the key that signs, with another one first, and with a ring that lacks it: then somebody
    is refused, which is told; the keys themselves never are.
    """
    session = (await app.sign_in()).session
    await app.register("eve")
    ours = app.config.secrets.keys.get_secret_value()
    expire_time = f"{session.expire_time.ToDatetime():%Y-%m-%dT%H:%M:%S}+00:00"
    used = {"sessions": 1, "challenges": 1, "last_end": expire_time}
    unused = {"sessions": 0, "challenges": 0, "last_end": None}
    new, newer = entry(2), entry(3)
    done = await status(app, f"{ours},{new}", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [
        {"key": 1, "position": "signs", **used, "removable": False},
        {"key": 2, "position": "verifies", **unused, "removable": True},
    ]
    done = await status(app, f"{new},{ours}")
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["key", "position", "sessions", "challenges", "last_end", "removable"],
        ["2", "signs", "0", "0", "-", "no"],
        ["1", "verifies", "1", "1", expire_time, "no"],
    ]
    done = await status(app, f"{newer},{new}", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)[2:] == [
        {"key": 1, "position": "not in the ring", **used, "removable": False}
    ]
    warning, hint = done.stderr.splitlines()
    assert warning == (
        "warning: key 1 is not in the ring: 1 live sessions and 1 live challenges of it cannot be "
        "validated"
    )
    assert hint.startswith("hint: ")
    for secret in (ours, new, newer):
        assert secret.partition(":")[2] not in done.stdout + done.stderr


async def test_it_needs_the_ring_and_the_database() -> None:
    """Either is missed by its name, with a hint."""
    ring = {"WATCHWORD_SECRETS__KEYS": entry(1), "WATCHWORD_SECRETS__INDEX_KEY": entry(1)[2:]}
    for env, missed in (
        ({}, "WATCHWORD_SECRETS__KEYS"),
        (ring, "WATCHWORD_DATABASE__URL"),
    ):
        done = await run("secrets", "status", env=env)
        assert (done.exit_code, done.stdout) == (2, "")
        assert missed in done.stderr
        assert "hint: " in done.stderr


async def test_the_page_of_keys(app: RunningApp) -> None:
    """Its command makes a key that goes behind those of a ring, and the status has its columns."""
    make, show = Page("docs/key-rotation.md").blocks("sh")
    (shown,) = Page("docs/key-rotation.md").blocks("text")
    made = await run("-euc", make, program=["/bin/sh"])
    assert (made.exit_code, made.stderr) == (0, "")
    ours = app.config.secrets.keys.get_secret_value()
    ring = f"{ours},{made.stdout.strip()}"
    assert [key_id for key_id, _ in parse_ring(ring)] == [1, 2]
    program, *command = show.split()
    assert (program, command) == (".venv/bin/watchword", ["secrets", "status"])
    done = await status(app, ring)
    assert done.exit_code == 0
    assert done.stdout.split("\n")[0].split() == shown.split("\n")[0].split()


async def test_another_index_key(database_url: str) -> None:
    """Accounts and sessions stay, as the page says of one that has leaked."""
    async with running_app(database_url) as app:
        before = await app.sign_in()
        ring = app.config.secrets.keys.get_secret_value()
    async with running_app(database_url, SECRETS__KEYS=ring) as app:
        live = await app.client.validate_session(before.session_token)
        assert live.session.id == before.session.id
        challenge = (await app.client.send_otp(email="ada@example.com")).challenge
        code = await app.mails.code_for("ada@example.com")
        after = await app.client.verify_otp(challenge_id=challenge.id, code=code)
        assert after.user.id == before.user.id
        assert not after.first_sign_in
