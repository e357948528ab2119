"""The console sender: a developer reads the code where the program runs.

It shows codes to whoever sees the output, so it is for development alone.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TextIO

from watchword.mail.message import Message
from watchword.mail.ports import SendFailed

# ASCII, like the whole frame, because a terminal may know nothing else.
_WIDTH: Final = 72


class ConsoleSender:
    """Writes the text of each mail, framed, to standard output."""

    name: Final = "console"

    def __init__(self, stream: TextIO | None = None) -> None:
        """Takes another stream in place of standard output."""
        self._stream = stream

    @asynccontextmanager
    async def send(self, message: Message) -> AsyncIterator[None]:
        """Writes one mail; raises SendFailed when the output is closed or broken.

        It blocks the loop while the reader of a pipe is slow. A thread would not be better: text
        streams aren't safe in several, and mails would mix.
        """
        # Looked up at each mail: whoever replaces `sys.stdout` later is heard.
        stream = self._stream or sys.stdout
        try:
            # One write a mail, so that nothing comes between its lines.
            stream.write(_printable(_frame(message), stream))
            stream.flush()
        except (OSError, ValueError) as error:
            # ValueError is what a closed stream raises. `from None`, and the kind of the error
            # alone: an encoding error carries the whole text and so the code.
            raise SendFailed(
                f"the console can't be written: {type(error).__name__}\n"
                "hint: keep standard output open, or use the sender `file`"
            ) from None
        yield

    async def close(self) -> None:
        """Leaves the output to whoever opened it."""


def _frame(message: Message) -> str:
    lines = (
        f"--- mail {message.id} ".ljust(_WIDTH, "-"),
        f"From: {message.sender}",
        f"To: {message.recipient}",
        f"Subject: {message.subject}",
        "",
        message.text.rstrip("\n"),
        "-" * _WIDTH,
    )
    return "\n".join(lines) + "\n"


def _printable(text: str, stream: TextIO) -> str:
    """The text as the stream can write it; a name it can't spell must not lose the mail."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
