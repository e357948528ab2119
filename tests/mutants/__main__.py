"""`make mutants`: every bug of mutants.py must be caught by each test that it names."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.copies import ROOT, DoesNotApply, copy_with
from tests.mutants.model import Mutant
from tests.mutants.mutants import MUTANTS

TIMEOUT_SECONDS = 900
WIDTH = 120
# Of pytest: every test passed, some test failed. Any other says that nothing was tested.
PASSED, FAILED = 0, 1


def run_pytest(tests: Sequence[str], python_path: str = "") -> tuple[int, str]:
    """Runs tests at their ordinary sizes; returns pytest's exit code and what it printed."""
    environment = {**os.environ, "PYTHONPATH": python_path}
    environment.pop("WATCHWORD_TEST_FULL", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        timeout=TIMEOUT_SECONDS,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def seen(mutant: Mutant, test: str) -> str:
    """Runs one test against a copy with the bug; returns what it saw, empty when that is nothing.

    Raises RuntimeError when it could not run.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-mutant-") as folder:
        copy_with(mutant, Path(folder))
        code, printed = run_pytest([test], str(Path(folder, "service")))
    # A fixture that fails is a copy that does not start, which catches nothing.
    if code not in {PASSED, FAILED} or "\nERROR " in printed:
        raise RuntimeError(f"`{test}` could not be run with `{mutant.name}`:\n{printed}")
    if code == PASSED:
        return ""
    errors = [line[4:] for line in printed.splitlines() if line.startswith("E   ")]
    return errors[0] if errors else "failed"


def main() -> int:
    """Returns how many were not caught."""
    wanted = [mutant for mutant in MUTANTS if not sys.argv[1:] or mutant.name in sys.argv[1:]]
    tests = sorted({test for mutant in wanted for test in mutant.tests})
    code, printed = run_pytest(tests)
    if code != PASSED:
        print(printed, "error: the tests fail without any bug", sep="\n")
        return 1
    print(f"{len(tests)} tests pass without a bug\n", flush=True)
    survived = 0
    print(f"{'mutant':<48}{'seconds':<9}test and what it saw")
    for mutant in wanted:
        for test in mutant.tests:
            began = time.monotonic()
            saw = seen(mutant, test)
            survived += not saw
            seconds = time.monotonic() - began
            print(f"{mutant.name:<48}{seconds:<9.0f}{test.partition('::')[2]}")
            print(f"{'':<57}{saw.strip()[:WIDTH] or 'NOT CAUGHT'}", flush=True)
    print(f"\n{len(wanted)} mutants, {survived} not caught")
    return survived


if __name__ == "__main__":
    try:
        sys.exit(min(1, main()))
    except DoesNotApply as error:
        sys.exit(f"error: {error}")
