"""The processes of a benchmark: `watchword dev --ephemeral`, the echo server, load generators.

Only processes started here are ever signalled, through their Popen objects.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load_calls import CallJob, CallResult

WATCHWORD = Path(sys.executable).with_name("watchword")
ECHO_SERVER = Path(__file__).with_name("echo_server.py")
READY_SECONDS = 30.0
STOP_SECONDS = 20.0
LOAD_SECONDS = 180.0


class ProcessFailed(Exception):
    """A process of the benchmark ended in another way than it should; the message says how."""


@contextlib.contextmanager
def watchword_server(**settings: str) -> Iterator[dict[str, Any]]:
    """Runs a whole temporary installation and yields what its ready file says, and its `log`.

    `settings` like PURGE__INTERVAL="1s" come over those below.
    """
    with tempfile.TemporaryDirectory(prefix="watchword-bench-") as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "log")
        # Nothing else of the environment: the figures are of the defaults, but for send and call
        # limits, which a load from one address would meet at once.
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "WATCHWORD_LOG__LEVEL": "warning",
            "WATCHWORD_MAIL__SENDERS": "file",
            "WATCHWORD_LIMITS__ENABLED": "false",
            **{f"WATCHWORD_{name}": value for name, value in settings.items()},
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [WATCHWORD, "dev", "--ephemeral", "--ready-file", ready],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            give_up = time.monotonic() + READY_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > give_up:
                    raise ProcessFailed(f"`watchword dev` did not get ready:\n{log.read_text()}")
                time.sleep(0.02)
            yield json.loads(ready.read_text()) | {"log": str(log)}
        finally:
            process.terminate()
            _wait(process)


@contextlib.contextmanager
def echo_server(python: str, *options: str) -> Iterator[dict[str, Any]]:
    """Runs echo_server.py with this interpreter and yields the object that it prints."""
    with serving([python, ECHO_SERVER, *options]) as facts:
        yield facts


@contextlib.contextmanager
def serving(command: Sequence[str | Path]) -> Iterator[dict[str, Any]]:
    """Runs a server that prints one line of JSON, yields that, and ends it by closing its stdin."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise ProcessFailed(f"the server `{command[0]} {command[1]}` did not start")
        yield json.loads(line)
    finally:
        process.stdin.close()
        _wait(process)
        process.stdout.close()


def load(module: str, job: dict[str, Any]) -> dict[str, Any]:
    """Runs `python -m benchmarks.<module>` on a job and returns its result."""
    done = _run([sys.executable, "-m", f"benchmarks.{module}"], input=json.dumps(job))
    result: dict[str, Any] = json.loads(done)
    return result


def load_calls(job: CallJob) -> CallResult:
    """Runs one load of unary calls."""
    return CallResult(**load("load_calls", asdict(job)))


def watchword_command(environment: dict[str, str], *arguments: str) -> str:
    """Runs `watchword ARGUMENTS` to its end and returns its stdout."""
    return _run([str(WATCHWORD), *arguments], env={"PATH": os.environ["PATH"], **environment})


def _run(command: Sequence[str], **options: Any) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LOAD_SECONDS, check=False, **options
    )
    if done.returncode != 0:
        raise ProcessFailed(f"`{Path(command[0]).name} {command[-1]}` failed:\n{done.stderr}")
    output: str = done.stdout
    return output


def _wait(process: subprocess.Popen[Any]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
