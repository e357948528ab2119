"""What machine the figures are of."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def facts(postgres_version: str) -> str:
    """Returns one line: processor, kernel, and the versions of what is measured."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    # What follows is the name of a build.
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores; "
        f"{platform.system()} {kernel}; Python {platform.python_version()}, "
        f"PostgreSQL {postgres_version}, grpcio {version('grpcio')}, "
        f"watchword {version('watchword')}"
    )
