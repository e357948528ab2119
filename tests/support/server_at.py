"""`watchword serve` at an isolation level, which notes every code that it compares.

Run as `python server_at.py LEVEL NOTES serve --ready-file FILE`. A line of NOTES is a challenge and
the code that was compared with its own; several processes may write to one file. SIGUSR1 blocks the
event loop, as a call that should have been awaited would, for BLOCK_SECONDS.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from watchword.app import App, run_until_signal
from watchword.config import REQUIRED_BY_SERVE, Config, load_config
from watchword.crypto import CodeSource, KeyRing, PresentedCode
from watchword.dev.ready import ready_file, write_ready_file
from watchword.observability.logging import configure_logging
from watchword.storage.pool import Isolation

BLOCK_SECONDS = 3.0


def note_comparisons(path: Path) -> None:
    """Notes what the Rust core is asked to compare, while it does its work."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    check = KeyRing.check_code

    def noted(ring: KeyRing, presented: PresentedCode, sources: Sequence[CodeSource]) -> int | None:
        code = presented.code.reveal()
        lines = "".join(f"{source.challenge_id} {code}\n" for source in sources)
        os.write(file, lines.encode())
        return check(ring, presented, sources)

    KeyRing.check_code = noted


async def serve(config: Config, level: Isolation, ready: Path) -> None:
    """Serves until SIGTERM, as the command does."""
    app = App(config, isolation=level)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, BLOCK_SECONDS)
    await run_until_signal(app, on_ready=lambda app: write_ready_file(ready, app, config))


def main(level: Isolation, notes: str, *command: str) -> None:
    """Does what `watchword serve --ready-file FILE` does."""
    assert command[:2] == ("serve", "--ready-file"), command
    ready = Path(command[2])
    note_comparisons(Path(notes))
    with ready_file(ready):
        config = load_config(os.environ, required=REQUIRED_BY_SERVE)
        configure_logging(config.log)
        asyncio.run(serve(config, level, ready))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]  # a level is one of three words
