"""The figures of the rows: measured by tests, printed as a table, kept by a full run.

A full run writes each finished row to `target/races.jsonl` and appends it to docs/proof.md. At the
same commit it is not run again; a tree with changes is not of any commit, so its rows are neither
kept nor skipped.
"""

import contextlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.races.bursts import FULL
from tests.races.rows import ROWS, Row

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "target/races.jsonl"
PROOF = ROOT / "docs/proof.md"
PROGRESS_SECONDS = 15.0
TABLE_HEAD = "| row | trial | trials | counted | worst | allowed | seconds |"


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it came out; `worst` is None where nothing was seen."""

    row: str
    trials: int
    worst: int | None
    seconds: float
    passed: bool

    def cells(self) -> list[str]:
        """What the table shows of it."""
        row = ROWS[self.row]
        worst = "-" if self.worst is None else f"{self.worst:,}"
        return [
            self.row,
            row.trial,
            f"{self.trials:,}",
            row.counted,
            worst if self.passed else f"{worst} FAILED",
            f"{row.allowed:,}",
            f"{self.seconds:.0f}",
        ]


@dataclass
class Measured:
    """A row while it is tried."""

    row: Row
    trials: int
    worst: int | None = None
    done: int = 0
    _began: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    def each(self, step: int = 1) -> Iterator[int]:
        """Yields the numbers of the trials; a full run prints how far it is."""
        for number in range(0, self.trials, step):
            yield number
            self.done = min(number + step, self.trials)
            if FULL and time.monotonic() - self._told > PROGRESS_SECONDS:
                self._told = time.monotonic()
                print(f"row {self.row.name}: {self.done:,} of {self.trials:,}", flush=True)  # noqa: T201  # of hours

    def saw(self, count: int) -> None:
        """Notes what one trial has shown; more than allowed ends the row."""
        self.worst = count if self.worst is None else max(self.worst, count)
        assert count <= self.row.allowed, f"row {self.row.name}: {count} {self.row.counted}"

    def line(self, *, passed: bool) -> Line:
        """What there is to tell of it."""
        seconds = round(time.monotonic() - self._began, 1)
        return Line(
            self.row.name, self.done if passed else self.trials, self.worst, seconds, passed
        )


class Results:
    """The rows of this run."""

    def __init__(self, postgres_version: str) -> None:
        self.lines: list[Line] = []
        self._postgres_version = postgres_version
        self._commit = commit_of_clean_tree() if FULL else None
        self._kept = kept_rows(KEPT, self._commit)

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[Measured]:
        """Measures a row, or skips the test that would when that was done at this commit."""
        with self.measure_together(name) as (measured,):
            yield measured

    @contextlib.contextmanager
    def measure_together(self, *names: str) -> Iterator[list[Measured]]:
        """Measures rows of which the same trials tell."""
        if self._kept.keys() >= set(names):
            self.lines += [self._kept[name] for name in names]
            pytest.skip(f"done at this commit: row {', '.join(names)}")
        rows = [ROWS[name] for name in names]
        together = [Measured(row, row.trials if FULL else row.ordinary_trials) for row in rows]
        passed = False
        try:
            yield together
            for measured in together:
                assert measured.worst is not None, f"row {measured.row.name} has seen nothing"
            passed = True
        finally:
            for measured in together:
                self._finish(measured.line(passed=passed))

    def _finish(self, line: Line) -> None:
        self.lines.append(line)
        if line.passed and self._commit is not None:
            keep(KEPT, line, self._commit)
            append(PROOF, line, f"{self._heading()}\n")

    def _heading(self) -> str:
        day = datetime.now(UTC).date().isoformat()
        return (
            f"\n### {day}, commit {self._commit}\n\n"
            f"{os.cpu_count()} CPUs, PostgreSQL {self._postgres_version}, "
            f"Python {platform.python_version()}.\n\n{TABLE_HEAD}\n|{'---|' * 7}"
        )


def commit_of_clean_tree() -> str | None:
    """Returns the short name of the commit that the tree is; None when it has changes.

    docs/proof.md, which a run itself appends to, may differ.
    """
    proof = f":(exclude){PROOF.relative_to(ROOT)}"
    try:
        changes = _git("status", "--porcelain", "--", ".", proof)
        return None if changes else _git("rev-parse", "--short=10", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def kept_rows(path: Path, commit: str | None) -> dict[str, Line]:
    """Returns the rows that were finished at this commit, by name."""
    if commit is None or not path.exists():
        return {}
    entries = map(json.loads, path.read_text().splitlines())
    lines = [Line(**entry["line"]) for entry in entries if entry["commit"] == commit]
    return {line.row: line for line in lines}


def keep(path: Path, line: Line, commit: str) -> None:
    """Notes a finished row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"commit": commit, "line": asdict(line)}) + "\n")


def append(path: Path, line: Line, heading: str) -> None:
    """Writes a row at the end of the page, below its heading, which stands once for each run."""
    page = path.read_text()
    begun = page.rfind("\n### ")
    with path.open("a") as file:
        if begun < 0 or not page[begun:].startswith(heading):
            file.write(heading)
        file.write(f"| {' | '.join(line.cells())} |\n")


def table(lines: list[Line]) -> list[str]:
    """Returns the lines of the table that ends a run, in columns."""
    head = [cell.strip() for cell in TABLE_HEAD.strip("|").split("|")]
    order = {name: number for number, name in enumerate(ROWS)}
    cells = [head, *(line.cells() for line in sorted(lines, key=lambda each: order[each.row]))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
