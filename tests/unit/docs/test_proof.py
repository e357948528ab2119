"""The page of results: what a full run of the races keeps, skips and appends."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.races.results import Line, Measured, append, keep, kept_rows, table
from tests.races.rows import ROWS

LINE = Line("18", trials=100, worst=15, seconds=200.4, passed=True)
HEADING = "\n### 2026-11-23, commit abc\n\nhead\n"


def test_a_finished_row_is_kept_for_its_commit_alone(tmp_path: Path) -> None:
    """At another commit, and where the tree has changes, everything is run again."""
    path = tmp_path / "target/races.jsonl"
    assert kept_rows(path, "abc") == {}
    keep(path, LINE, "abc")
    keep(path, replace(LINE, row="3"), "def")
    assert kept_rows(path, "abc") == {"18": LINE}
    assert kept_rows(path, None) == {}


def test_rows_of_one_run_stand_below_one_heading(tmp_path: Path) -> None:
    """A run that is taken up again goes on below its heading; another day or commit begins one."""
    page = tmp_path / "proof.md"
    page.write_text("# Proof\n")
    append(page, LINE, HEADING)
    append(page, replace(LINE, row="3"), HEADING)
    append(page, LINE, HEADING.replace("abc", "def"))
    assert page.read_text().count("### ") == 2
    assert page.read_text().startswith(f"# Proof\n{HEADING}| 18 | ")
    assert "| 15 | 15 | 200 |\n" in page.read_text()


def test_more_than_allowed_fails_the_row() -> None:
    """A row that has seen too much ends there, and the table says that it failed."""
    row = ROWS["18"]
    measured = Measured(row, trials=2)
    measured.saw(row.allowed)
    with pytest.raises(AssertionError, match="16 let through"):
        measured.saw(row.allowed + 1)
    head, line = table([measured.line(passed=False)])
    assert head.split() == ["row", "trial", "trials", "counted", "worst", "allowed", "seconds"]
    assert "16 FAILED" in line


def test_every_row_has_a_small_size_and_a_line_on_the_page() -> None:
    """docs/proof.md explains each row by its number."""
    page = (Path(__file__).parents[3] / "docs/proof.md").read_text()
    for name, row in ROWS.items():
        number = name.split(",")[0].split()[0]
        assert f"\n| {number} | " in page
        assert 1 <= row.ordinary_trials <= max(1, row.trials // 50)
