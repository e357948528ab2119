"""Pages of the documentation: their fenced blocks, run as they stand."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import WatchwordProcess, run

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Values that a reader puts in; the tests give them as variables.
PLACEHOLDER = re.compile(r"^(export )?[A-Z_]+=\S*(\s+#.*)?\n", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page, by its path in the repository."""

    path: str

    def blocks(self, language: str, *, holding: str = "") -> list[str]:
        """The fenced blocks of one language, in order."""
        text = (ROOT / self.path).read_text()
        return [
            block for kind, block in FENCE.findall(text) if kind == language and holding in block
        ]


def adapted(text: str, process: WatchwordProcess) -> str:
    """A block for this process instead of port 50051, and for this environment's programs."""
    return text.replace("127.0.0.1:50051", process.ready["api"]).replace(".venv/bin", str(BIN))


async def shell(text: str, process: WatchwordProcess, **variables: str) -> str:
    """Runs a block, with `variables` in place of the values to put in; gives its stdout."""
    script = adapted(PLACEHOLDER.sub("", text), process)
    env = {**variables, "PATH": f"{BIN}:{os.environ['PATH']}"}
    finished = await run("-euc", script, program=["/bin/sh"], env=env)
    assert finished.exit_code == 0, finished.stderr
    return finished.stdout


def shape(value: object) -> object:
    """The keys of a JSON value, without what they hold."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return type(value).__name__
