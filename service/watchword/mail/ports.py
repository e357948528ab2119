"""What the dispatcher asks of a sender.

A new sender is one class in `watchword/senders/` with a `name` and `send`, and one more entry in
the contract suite of `tests/unit/senders/`. It logs nothing of a message but its id, because the
subject and the text hold the code.
"""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from watchword.mail.message import Message


class SendFailed(Exception):
    """The mail did not leave now and may later; sending the same message again is safe.

    `retry_after` is how long the other side wants to be left alone, where it said so.
    """

    def __init__(self, *words: str, retry_after: timedelta | None = None) -> None:
        super().__init__(*words)
        self.retry_after = retry_after


class SendRefused(Exception):
    """The mail will never be taken as it is; trying again can't help."""


class SenderUnusable(Exception):
    """A sender can't work with its configuration; raised while it is made, never by `send`."""


class Sender(Protocol):
    """Hands mails to something outside of Watchword."""

    @property
    def name(self) -> str:
        """The word of `WATCHWORD_MAIL__SENDERS`, for logs and metrics."""

    def send(self, message: Message) -> AbstractAsyncContextManager[None]:
        """Enters when the other side has taken the mail; raises SendFailed or SendRefused before.

        Inside, the caller notes that it was taken. A message sent twice (same id) counts as one
        wherever the other side is able to see it; a sender whose other side is not lets one mail at
        a time be taken and not noted.
        """

    async def close(self) -> None:
        """Lets go of what is held open; `send` isn't called any more."""
