"""What machine the figures are of."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def facts(postgres_version: str | None = None) -> str:
    """Returns one line: processor, kernel, and the versions of what is measured.

    None says that there is no PostgreSQL.
    """
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    # What follows is the name of a build.
    kernel = ".".join(platform.release().split(".")[:2])
    postgres = "" if postgres_version is None else f"PostgreSQL {postgres_version}, "
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores; "
        f"{platform.system()} {kernel}; Python {platform.python_version()}, "
        f"{postgres}grpcio {version('grpcio')}, watchword {version('watchword')}"
    )
