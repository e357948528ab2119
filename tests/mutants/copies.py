"""Copies of service/watchword with a bug in them."""

import ast
import shutil
from pathlib import Path

from tests.mutants.model import Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "service/watchword"


class DoesNotApply(Exception):
    """The text that a mutant changes does not stand once in its file."""


def mutated(mutant: Mutant) -> dict[str, str]:
    """Returns the changed files, by their paths in the package; raises DoesNotApply."""
    texts: dict[str, str] = {}
    for change in mutant.changes:
        text = texts.get(change.path) or (PACKAGE / change.path).read_text()
        if (count := text.count(change.old)) != 1:
            raise DoesNotApply(
                f"mutant `{mutant.name}` no longer applies: {change.path} has {count} times:\n"
                f"{change.old}\nhint: change its text in tests/mutants"
            )
        texts[change.path] = text.replace(change.old, change.new)
    for path, text in texts.items():
        ast.parse(text, path)
    return texts


def copy_with(mutant: Mutant, folder: Path) -> None:
    """Copies the package, with its compiled core, into a folder for PYTHONPATH.

    No Rust sources stand beside the copy, so the core is not taken for stale.
    """
    texts = mutated(mutant)
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(PACKAGE, folder / "service/watchword", ignore=ignored)
    for path, text in texts.items():
        (copy / path).write_text(text)
