"""`watchword users export` and `users import`, as installed, on one database and on two."""

import asyncio
import contextlib
import json
import os
import re
import stat
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import DatabaseServer, fetch
from tests.support.processes import WATCHWORD, Finished, environment, run
from tests.support.running import running_app

END = datetime(2999, 1, 1, 0, 0, 0, 1, tzinfo=UTC).isoformat()
PEOPLE = 1_203  # more than one page, more than two batches
KILLED_OF = 8_000


@pytest.fixture
async def second_url(postgres: DatabaseServer, template: str) -> AsyncIterator[str]:
    """Another empty migrated database."""
    name = postgres.next_name("second")
    yield await postgres.create_database(name, template=template)
    await postgres.drop_database(name)


def env(url: str) -> dict[str, str]:
    """The environment of a command on this database."""
    return {"WATCHWORD_DATABASE__URL": url}


async def on(url: str, *arguments: str) -> Finished:
    """Runs `watchword users ARGUMENTS`."""
    return await run("users", *arguments, env=env(url))


async def shell(command: str, **variables: str) -> Finished:
    """Runs a line of shell, in which W is the installed command."""
    return await run("-c", command, program=["/bin/sh"], env={"W": str(WATCHWORD), **variables})


def person(name: str, **fields: Any) -> dict[str, Any]:
    """What a line says of a person."""
    return {"username": name, "full_name": name.title(), "email": f"{name}@example.com"} | fields


def written(path: Path, lines: Iterable[dict[str, Any] | bytes]) -> str:
    """Writes a file of these lines and returns its path."""
    path.write_bytes(
        b"".join(
            one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
        )
    )
    return str(path)


def read_terminal(terminal: int) -> str:
    """Everything that is shown until nobody writes any more."""
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while True:
            shown += screen.read(4096) or b""
    return shown.decode()


async def count(url: str) -> int:
    """How many users there are."""
    return (await fetch(url, "SELECT count(*) FROM users"))[0][0]


async def make_roles(url: str) -> None:
    """Two roles to give."""
    for role in ("editor", "auditor"):
        assert (await run("roles", "create", role, env=env(url))).exit_code == 0


async def test_a_second_installation_gets_the_same(
    database_url: str, second_url: str, tmp_path: Path
) -> None:
    """Exported through a pipe into an empty database: ids, states, locales and roles are the same,
    and its own export is the same byte for byte. Once more, all are there already.
    """
    await make_roles(database_url)
    reason = "ticket 7 \u00e9"
    held = [{"role": "auditor"}, {"role": "editor", "expire_time": END, "reason": reason}]
    people = [
        person("ada", full_name="Ada \u00c9 \U0001f600", locale="pt-BR", roles=held),
        person("eve", state="disabled", email="Eve+x@B\u00fccher.example"),
        *(person(f"user{number}", roles=held[: number % 3]) for number in range(PEOPLE - 2)),
    ]
    done = await on(database_url, "import", written(tmp_path / "in", people))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"imported {PEOPLE}, already there 0, refused 0\n"

    await make_roles(second_url)
    piped = (
        'WATCHWORD_DATABASE__URL="$FROM" "$W" users export'
        ' | WATCHWORD_DATABASE__URL="$TO" "$W" users import -'
    )
    moved = await shell(piped, FROM=database_url, TO=second_url)
    assert (moved.exit_code, moved.stdout) == (0, done.stdout)
    assert moved.stderr == f"exported {PEOPLE}\n"
    first, second = tmp_path / "first", tmp_path / "second"
    for url, file in ((database_url, first), (second_url, second)):
        exported = await on(url, "export", str(file))
        assert (exported.exit_code, exported.stdout) == (0, "")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.read_bytes() == second.read_bytes()
    assert (await on(database_url, "export")).stdout == first.read_text()

    lines = {one["username"]: one for one in map(json.loads, first.read_text().splitlines())}
    assert len(lines) == PEOPLE
    assert lines["ada"] | {"id": ""} == {
        "id": "",
        "username": "ada",
        "full_name": "Ada \u00c9 \U0001f600",
        "email": "ada@example.com",
        "locale": "pt-BR",
        "state": "active",
        "roles": [
            {"role": "auditor", "expire_time": None, "reason": None},
            {
                "role": "editor",
                "expire_time": "2999-01-01T00:00:00.000001Z",
                "reason": reason,
            },
        ],
    }
    assert (lines["eve"]["state"], lines["eve"]["email"]) == (
        "disabled",
        "Eve+x@xn--bcher-kva.example",
    )
    again = await on(second_url, "import", str(first))
    assert again.exit_code == 0
    assert again.stdout == f"imported 0, already there {PEOPLE}, refused 0\n"
    assert (await on(second_url, "export")).stdout == first.read_text()


async def test_an_imported_user_signs_in(database_url: str, tmp_path: Path) -> None:
    """A server that runs meanwhile knows the account at once, with its id and roles."""
    user_id = "0190b2c4-6f1e-8a3d-9c5b-7e2f1a4d8c06"
    await make_roles(database_url)
    people = [person("ada", id=user_id, roles=[{"role": "editor"}])]
    async with running_app(database_url, GATE__CACHE_MIB="16") as app:
        done = await on(database_url, "import", written(tmp_path / "in", people))
        assert done.exit_code == 0
        challenge = (await app.client.send_otp(email="ada@example.com")).challenge
        code = await app.mails.code_for("ada@example.com")
        signed_in = await app.client.verify_otp(challenge_id=challenge.id, code=code)
        assert (signed_in.user.id, signed_in.first_sign_in) == (user_id, False)
        assert list(signed_in.user.roles) == ["editor"]


async def test_a_deleted_user_comes_back(database_url: str, tmp_path: Path) -> None:
    """Exported, deleted and imported with the id of before, beside a server that remembers the end
    of the first account: old sessions stay dead, and a new one lives, also in the cache's answers.
    """
    file = str(tmp_path / "out")
    async with running_app(database_url, GATE__CACHE_MIB="16") as app:
        old = await app.sign_in("ada")
        for _ in range(3):
            await app.client.validate_session(old.session_token)
        assert (await on(database_url, "export", file)).exit_code == 0
        assert (await on(database_url, "delete", "ada", "--yes")).exit_code == 0
        done = await on(database_url, "import", file)
        assert done.stdout == "imported 1, already there 0, refused 0\n"
        challenge = (await app.client.send_otp(email="ada@example.com")).challenge
        code = await app.mails.code_for("ada@example.com", count=2)
        new = await app.client.verify_otp(challenge_id=challenge.id, code=code)
        for _ in range(30):
            answer = await app.client.batch_validate_sessions(
                [new.session_token, old.session_token]
            )
            assert [one.HasField("session") for one in answer.results] == [True, False]
            assert answer.results[0].user.id == old.user.id
            await asyncio.sleep(0.1)


async def test_a_terminal_sees_how_far_it_is(database_url: str, tmp_path: Path) -> None:
    """The bar and the refused lines are on stderr, and stdout has what it always has."""
    people = [person(f"user{number}") for number in range(PEOPLE)]
    file = written(tmp_path / "in", [*people, b"{}x\n"])
    for arguments, words in (
        (("import", file), ["importing", f"line {PEOPLE + 1}: is not JSON"]),
        (("export",), ["exporting", f"exported {PEOPLE}"]),
    ):
        terminal, side = os.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *(str(WATCHWORD), "users", *arguments),
                env=environment({**env(database_url), "TERM": "xterm", "COLUMNS": "100"}),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=side,
            )
        finally:
            os.close(side)
        (stdout, _), shown = await asyncio.gather(
            process.communicate(), asyncio.to_thread(read_terminal, terminal)
        )
        assert all(word in shown for word in words), shown
        if arguments == ("export",):
            assert len(list(map(json.loads, stdout.splitlines()))) == PEOPLE
        else:
            assert stdout.decode() == f"imported {PEOPLE}, already there 0, refused 1\n"


async def test_what_is_refused_is_told(database_url: str, tmp_path: Path) -> None:
    """Each refused line with its number and why; the others are imported; exit code 1. The file
    mended and run again imports what was left.
    """
    taken = "0190b2c4-6f1e-8a3d-9c5b-7e2f1a4d8c06"
    async with running_app(database_url) as app:
        await app.client.register(full_name="H", username="held", email="h@example.com")
    first = written(tmp_path / "first", [person("ada", id=taken)])
    assert (await on(database_url, "import", first)).exit_code == 0
    lines = [
        person("eve"),
        b"{\n",
        b"[1]\n",
        b"\xff\xfe\x00binary\x1b[31m\n",
        b'{"username": "' + b"x" * 2_000_000 + b'"}\n',
        b"\n",
        person("bob", roles=[{"role": "nothing"}]),
        person("bob", rolls=[]),
        person("bob", id="no-uuid"),
        person("bob", id=taken),
        person("ada", email="other@example.com"),
        person("held"),
        person("root"),
        person("max", email="max", locale="x y", state="asleep"),
        {"username": "zoe"},
        person("ada", id=taken, full_name="Another"),
        person("twin"),
        person("twin", full_name="Another"),
        person("twin", email="twin2@example.com"),
        b'{"username": "last", "full_name": "Last", "email": "last@example.com"}',
    ]
    done = await on(database_url, "import", written(tmp_path / "in", lines))
    assert (done.exit_code, done.stdout) == (1, "imported 3, already there 2, refused 14\n")
    names = "`id`, `username`, `full_name`, `email`, `locale`, `state`, `roles`"
    assert done.stderr.splitlines() == [
        "line 2: is not JSON",
        "line 3: must be a JSON object",
        "line 4: is not UTF-8",
        "line 5: has more than 65536 bytes",
        "line 7: `roles` names `nothing`, which is no role",
        f"line 8: `rolls` is no field; there are {names}",
        "line 9: `id` must be a UUID like `0190b2c4-6f1e-8a3d-9c5b-7e2f1a4d8c06`",
        "line 10: `id` is taken",
        "line 11: `username` is taken",
        "line 12: `username` is held by a registration",
        "line 13: `username` is a reserved name; choose another",
        "line 14: `email` must be an address like `ada@example.com`; `locale` must be a BCP 47 "
        "language tag like `de` or `pt-BR`; `state` must be `active` or `disabled`",
        "line 15: `full_name` is required; `email` is required",
        "line 19: `username` is taken",
    ]
    rows = await fetch(database_url, "SELECT username, full_name FROM users ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("ada", "Ada"),
        ("eve", "Eve"),
        ("last", "Last"),
        ("twin", "Twin"),
    ]
    lines[6:10] = [person("bob")] * 4
    mended = await on(database_url, "import", written(tmp_path / "in", lines))
    assert (mended.exit_code, mended.stdout) == (1, "imported 1, already there 8, refused 10\n")


async def test_nothing_to_read(database_url: str, tmp_path: Path) -> None:
    """An empty file and no users are no error; what cannot be read or written is, with a hint."""
    empty = tmp_path / "empty"
    empty.touch()
    for file in (str(empty), "-", "/dev/null"):
        done = await on(database_url, "import", file)
        assert (done.exit_code, done.stdout, done.stderr) == (
            0,
            "imported 0, already there 0, refused 0\n",
            "",
        )
    exported = await on(database_url, "export")
    assert (exported.exit_code, exported.stdout, exported.stderr) == (0, "", "exported 0\n")
    for command in ("import", "export"):
        for file in (str(tmp_path), str(tmp_path / "no" / "file")):
            wrong = await on(database_url, command, file)
            assert (wrong.exit_code, wrong.stdout) == (1, "")
            assert "hint: look whether" in wrong.stderr
            assert "Traceback" not in wrong.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


async def test_a_file_is_whole_or_not_there(database_url: str, tmp_path: Path) -> None:
    """An export that fails leaves the file of before; one that goes well leaves nobody else a way
    in, whatever the file of before allowed, and a link stays one. A pipe is written, not replaced.
    """
    await on(database_url, "import", written(tmp_path / "in", [person("ada")]))
    file, link = tmp_path / "out", tmp_path / "link"
    file.write_text("before")
    file.chmod(0o644)
    link.symlink_to(file)
    failed = await on(database_url.replace("/test_", "/no_"), "export", str(file))
    assert (failed.exit_code, file.read_text()) == (1, "before")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "link", "out"]
    assert (await on(database_url, "export", str(link))).exit_code == 0
    assert link.is_symlink()
    assert json.loads(file.read_text())["username"] == "ada"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = '"$W" users export "$PIPE" & cat "$PIPE"; wait'
    read = await shell(command, PIPE=str(pipe), **env(database_url))
    assert read.stdout == file.read_text()
    assert stat.S_ISFIFO(pipe.stat().st_mode)


async def test_whoever_reads_has_enough(database_url: str, tmp_path: Path) -> None:
    """A pipe that is closed early ends the export without a word."""
    people = (person(f"user{number}") for number in range(PEOPLE))
    assert (await on(database_url, "import", written(tmp_path / "in", people))).exit_code == 0
    done = await shell('"$W" users export | head -n 1', **env(database_url))
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


async def test_killed_half_way(database_url: str, tmp_path: Path) -> None:
    """What was imported before a SIGKILL is whole and stays; the second run makes the rest."""
    await make_roles(database_url)
    roles = [{"role": "editor"}]
    people = (person(f"user{number}", roles=roles) for number in range(KILLED_OF))
    file = written(tmp_path / "in", people)
    process = await asyncio.create_subprocess_exec(
        *(str(WATCHWORD), "users", "import", file),
        env=environment(env(database_url)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while await count(database_url) < 500:
                await asyncio.sleep(0.01)
    finally:
        process.kill()
        await process.wait()
    made = await count(database_url)
    assert made < KILLED_OF
    done = await on(database_url, "import", file)
    assert done.exit_code == 0
    left = await count(database_url)
    assert left == KILLED_OF
    assert done.stdout.startswith("imported ")
    imported = int(done.stdout.split()[1].rstrip(","))
    # The last batch of the first run may have been committed after its end was seen.
    assert imported % 500 == 0
    assert 0 < imported <= KILLED_OF - made
    assert done.stdout == (
        f"imported {imported}, already there {KILLED_OF - imported}, refused 0\n"
    )
    for table, rows in (("identifiers", 2), ("user_roles", 1), ("audit_events", 2)):
        found = await fetch(database_url, f"SELECT count(*) FROM {table}")
        # Two roles were made.
        assert found[0][0] - 2 * (table == "audit_events") == rows * KILLED_OF


async def test_two_imports_at_once(database_url: str, tmp_path: Path) -> None:
    """Both end well, and each line was imported by one of them."""
    people = (person(f"user{number}") for number in range(PEOPLE))
    file = written(tmp_path / "in", people)
    both = await asyncio.gather(*(on(database_url, "import", file) for _ in range(2)))
    assert [(done.exit_code, done.stderr) for done in both] == [(0, "")] * 2
    counts = [list(map(int, re.findall("[0-9]+", done.stdout))) for done in both]
    assert [sum(column) for column in zip(*counts, strict=True)] == [PEOPLE, PEOPLE, 0]
    assert await count(database_url) == PEOPLE


async def test_a_database_that_is_away(tmp_path: Path) -> None:
    """It is told with what was done, and no line of the file is shown."""
    file = written(tmp_path / "in", [person("ada")])
    done = await on("postgresql://127.0.0.1:1/nobody", "import", file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "stopped: imported 0, already there 0, refused 0; run it again" in done.stderr
    assert "the database cannot be used" in done.stderr
    assert "ada" not in done.stderr
