"""Runs PostgreSQL's programs, as a user that may.

PostgreSQL refuses to run as root, so root drops to uid and gid 65534 (`nobody` nearly everywhere).
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN_VARIABLE = "WATCHWORD_DEV_POSTGRES_BIN"
MAJOR_MIN = 15
PROBE_SECONDS = 10
UNPRIVILEGED_ID = 65534
# Nothing of the caller's environment: it may hold secrets, and PG* or LC_* change what happens.
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}


class DevelopmentPostgresError(RuntimeError):
    """The PostgreSQL of `dev` can't be used; the message ends with a `hint:` line."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}\nhint: {hint}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Binaries:
    """Programs that `run_as`, keyword arguments for subprocess, is known to be able to run."""

    folder: Path
    major: int
    run_as: dict[str, Any]


def server_user() -> dict[str, Any]:
    """Returns what subprocess needs to run PostgreSQL as a user that it accepts."""
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED_ID, "group": UNPRIVILEGED_ID, "extra_groups": []}


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


def probe(folder: Path, run_as: dict[str, Any]) -> Binaries:
    """Runs the programs of a folder as that user; raises DevelopmentPostgresError.

    Modes, mount options, missing libraries and containers without the right to change the user
    can each be in the way: only running them tells.
    """
    try:
        # `initdb` needs the libraries beside the programs, `postgres` does not.
        run([str(folder / "initdb"), "--version"], run_as, PROBE_SECONDS)
        printed = run([str(folder / "postgres"), "--version"], run_as, PROBE_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        user = run_as.get("user", os.geteuid())
        raise DevelopmentPostgresError(
            f"uid {user} can't run the PostgreSQL in `{folder}`: {error}",
            "run as an ordinary user that may read that folder, or name another one with "
            f"{BIN_VARIABLE}",
        ) from error
    # Debian's says `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    version = re.search(r"\(PostgreSQL\) (\d+)", printed)
    if version is None or int(version[1]) < MAJOR_MIN:
        raise DevelopmentPostgresError(
            f"PostgreSQL {MAJOR_MIN} or newer is needed, `{folder}` has `{printed.strip()}`",
            f"install a newer one, or name the folder of its programs with {BIN_VARIABLE}",
        )
    return Binaries(folder, int(version[1]), run_as)
