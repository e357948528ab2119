"""The mutants themselves; `make mutants` runs tests against them."""

from pathlib import Path

import pytest

from tests.mutants.copies import PACKAGE, ROOT, DoesNotApply, copy_with, mutated
from tests.mutants.model import Change, Mutant
from tests.mutants.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_applies(mutant: Mutant) -> None:
    """What a mutant changes stands once in its file, and the tests that it names are there."""
    assert mutated(mutant)
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert f"async def {name.partition('[')[0]}(" in (ROOT / path).read_text()


def test_a_mutant_that_no_longer_applies_is_an_error() -> None:
    """Text that is gone would otherwise be a bug that no test can catch."""
    with pytest.raises(DoesNotApply, match="no longer applies"):
        mutated(Mutant("gone", (Change("app.py", "no such text", ""),), ()))


def test_a_copy_is_a_package_with_the_change_in_it(tmp_path: Path) -> None:
    """The copy differs from the package by the change alone, and has the compiled core."""
    mutant = MUTANTS[0]
    copy_with(mutant, tmp_path)
    copy = tmp_path / "service/watchword"
    changed = {change.path for change in mutant.changes}
    for file in PACKAGE.rglob("*"):
        path = file.relative_to(PACKAGE)
        if file.is_file() and "__pycache__" not in path.parts:
            same = file.read_bytes() == (copy / path).read_bytes()
            assert same == (path.as_posix() not in changed)
    assert list(copy.glob("_core*.so"))
