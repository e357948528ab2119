"""Whom a folder in a place that everybody writes to belongs to."""

import os
import stat
from pathlib import Path

from watchword.dev.postgres_programs import DevelopmentPostgresError


def refuse_strangers(folder: Path) -> None:
    """Raises DevelopmentPostgresError for a link, and for a folder that others can change.

    Anybody may make names in /var/tmp, and whoever can change the folder decides on the keys in it
    or on the programs that are run from it.
    """
    found = folder.lstat()
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or writable:
        raise DevelopmentPostgresError(
            f"`{folder}` is not a folder that only uid {os.geteuid()} can change",
            "look who made it, then remove it; the next start makes it again",
        )
