"""Runs one PostgreSQL server process: starts it, waits until it answers, ends it.

Only the processes started here are ever signalled, through their Popen objects.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from watchword.dev.postgres_programs import ENVIRONMENT, DevelopmentPostgresError

START_SECONDS = 30
POLL_SECONDS = 0.01
LOG_BYTES_MAX = 10_000_000
LOG_TAIL_BYTES = 2_000
# How long each signal may take: fast shutdown, immediate shutdown, the end.
STOP_SIGNALS = ((signal.SIGINT, 10), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))
# Waits for the end of the launcher, however it ends (`read` sees the pipe close), then stops the
# server, which empties the socket folder as its last act. PR_SET_PDEATHSIG would need preexec_fn,
# which can deadlock beside threads; the change of the user clears it, and it fires already when
# the *thread* that started the server ends.
GUARD = """
read -r line
read -r pid <"$2/postmaster.pid" && [ "$pid" = "$1" ] && kill -INT "$pid"
tries=0
until rmdir "$3" || [ $tries -ge 100 ]; do sleep 0.1; tries=$((tries + 1)); done
"""


class Server:
    """A server process with the guard that stops it when this process is killed."""

    def __init__(
        self, command: list[str], data_dir: Path, socket_dir: Path, run_as: dict[str, Any]
    ) -> None:
        self._data_dir = data_dir
        self._socket_dir = socket_dir
        self.log_path = data_dir / "server.log"
        self._log = _open_log(self.log_path)
        self._log_start = os.fstat(self._log).st_size
        # A session of its own: Ctrl-C on the terminal must not end PostgreSQL before its clients.
        options = {"cwd": "/", "env": ENVIRONMENT, "start_new_session": True, **run_as}
        self._process = subprocess.Popen(  # noqa: S603 (no shell, a program of the wheel)
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, **options
        )
        self.pid = self._process.pid
        self._guard = subprocess.Popen(  # noqa: S603 (the script is a constant)
            ["/bin/sh", "-c", GUARD, "sh", str(self.pid), str(data_dir), str(socket_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **options,
        )

    def wait_until_ready(self, deadline: float) -> str | None:
        """Returns None as soon as the server answers, else what it logged before it failed."""
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return self._logged()
            if self._is_ready():
                return None
            time.sleep(POLL_SECONDS)
        return f"{self._logged()}\nnot ready after {START_SECONDS} seconds"

    def has_ended(self) -> bool:
        """Whether the server process is gone."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Ends the server, then the guard; the second call does nothing."""
        for number, seconds in STOP_SIGNALS:
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        self._guard.kill()
        self._guard.communicate()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _is_ready(self) -> bool:
        try:
            lines = (self._data_dir / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return False
        # A file left by a killed server can say "ready" too, in a container even with this pid;
        # its socket folder is another one.
        mine = lines[:1] == [str(self.pid)] and lines[4:5] == [str(self._socket_dir)]
        return mine and lines[7:8] == ["ready   "]

    def _logged(self) -> str:
        end = os.fstat(self._log).st_size
        begin = max(self._log_start, end - LOG_TAIL_BYTES)
        return os.pread(self._log, end - begin, begin).decode(errors="replace").strip()


def launch(command: list[str], data_dir: Path, socket_dir: Path, run_as: dict[str, Any]) -> Server:
    """Starts the server and returns it when it answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        server = Server(command, data_dir, socket_dir, run_as)
        try:
            problem = server.wait_until_ready(deadline)
        except BaseException:
            server.end()
            raise
        if problem is None:
            return server
        server.end()
        # The backends of a killed server need a moment to notice and to leave its memory.
        if "is still in use" not in problem or time.monotonic() > deadline:
            raise _start_error(data_dir, problem)
        time.sleep(10 * POLL_SECONDS)


def _start_error(data_dir: Path, problem: str) -> DevelopmentPostgresError:
    hint = f"the whole log is `{data_dir / 'server.log'}`"
    if '"postmaster.pid" already exists' in problem:
        lock = data_dir / "postmaster.pid"
        hint = f"stop the PostgreSQL whose PID stands above; if it is none, remove `{lock}`"
    return DevelopmentPostgresError(f"PostgreSQL did not start on `{data_dir}`:\n{problem}", hint)


def _open_log(path: Path) -> int:
    # The folder belongs to a user with fewer rights: root must not follow a link from there.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    log = os.open(path, flags, mode=0o600)
    if os.fstat(log).st_size > LOG_BYTES_MAX:
        os.ftruncate(log, 0)
    return log
