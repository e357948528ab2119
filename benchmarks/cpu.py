"""CPU time of processes, read from /proc: utime and stime as the kernel counts them."""

import os
from collections.abc import Collection
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """Returns the CPU seconds of all threads of a process, without its children."""
    return _ticks(pid, "own") / TICKS_PER_SECOND


def family_seconds(pid: int, *, without: Collection[int] = ()) -> float:
    """Returns the CPU seconds of a process and of its children, those that have ended included.

    `without` names children that are not counted, which must be alive at every reading.
    """
    ticks = _ticks(pid, "with ended children")
    for child in children(pid):
        if child not in without:
            ticks += _ticks(child, "with ended children")
    return ticks / TICKS_PER_SECOND


def children(pid: int) -> list[int]:
    """Returns the processes that a process has started, from whichever of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except FileNotFoundError:
            continue
    return found


def child_named(pid: int, name: str) -> int:
    """Returns the one child with this command name; raises LookupError."""
    named = [child for child in children(pid) if _name(child) == name]
    if len(named) != 1:
        raise LookupError(f"{len(named)} children of {pid} are called `{name}`, not one")
    return named[0]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def _ticks(pid: int, what: str) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0  # ended since it was listed: its parent's `cutime` has it
    # Field 14 on (proc_pid_stat(5)); the name before may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    own, ended = fields[11:13], fields[13:15]
    return sum(map(int, own if what == "own" else own + ended))
