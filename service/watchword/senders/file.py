"""The file sender: each mail as an `.eml` file, for development and for tests.

A file appears under its name only when it is whole: it is written under another name in the same
folder, which no `*.eml` matches, and then renamed.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from watchword.mail.message import Message, to_bytes
from watchword.mail.ports import SenderUnusable, SendFailed


class FileSender:
    """Writes `<outbox id>.eml`, readable by its owner alone; the same id again replaces it."""

    name: Final = "file"

    def __init__(self, directory: Path) -> None:
        """Makes the folder if it is missing (0700); raises SenderUnusable if it can't be written.

        It writes and removes a file to find out: permission bits say little to root or on a
        read-only disk.
        """
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory, prefix=".probe."):
                pass
        except OSError as error:
            raise SenderUnusable(
                f"the mail folder `{directory}` can't be written: {error.strerror}\n"
                "hint: set `WATCHWORD_MAIL__FILE_DIR` to a folder that this user may write"
            ) from error

    @asynccontextmanager
    async def send(self, message: Message) -> AsyncIterator[None]:
        """Writes one mail; raises SendFailed, and leaves no half file, when the disk refuses."""
        try:
            await asyncio.to_thread(self._write, f"{message.id}", to_bytes(message))
        except OSError as error:
            raise SendFailed(
                f"mail {message.id} can't be written: {error.strerror}\n"
                f"hint: look at the space and the permissions of `{self._directory}`"
            ) from error
        yield

    async def close(self) -> None:
        """Has nothing open between two mails."""

    def _write(self, stem: str, content: bytes) -> None:
        # A new name each time, made 0600: two sends of one id never write into the same file.
        handle, temporary = tempfile.mkstemp(dir=self._directory, prefix=f".{stem}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                # Before the rename: after a crash the name must not stand for an empty file.
                os.fsync(file.fileno())
            Path(temporary).replace(self._directory / f"{stem}.eml")
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
