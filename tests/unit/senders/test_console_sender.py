"""The console sender beyond the contract."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.support.mails import hand_over
from watchword.mail.message import Mailbox, Message
from watchword.senders.console import ConsoleSender

MESSAGE = Message(
    id=UUID("01890a5d-ac96-8774-bcce-b302099a8057"),
    sender=Mailbox("Acme", "no-reply@acme.example"),
    recipient="ada@example.org",
    subject="012345 is your Acme code",
    text="012345 is your Acme sign-in code.\n\nIt works once.\n",
    html="<p>012345</p>\n",
    locale="en",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)

FRAME = """\
--- mail 01890a5d-ac96-8774-bcce-b302099a8057 --------------------------
From: Acme <no-reply@acme.example>
To: ada@example.org
Subject: 012345 is your Acme code

012345 is your Acme sign-in code.

It works once.
------------------------------------------------------------------------
"""


class Counting(io.StringIO):
    """A stream that counts what is called on it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def write(self, text: str) -> int:
        self.calls.append("write")
        return super().write(text)

    def flush(self) -> None:
        self.calls.append("flush")


async def test_a_mail_is_one_write_and_one_flush() -> None:
    """A mail reaches the terminal at once and in one piece."""
    stream = Counting()
    await hand_over(ConsoleSender(stream), MESSAGE)
    assert stream.getvalue() == FRAME
    assert stream.calls == ["write", "flush"]


async def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream the mail is on standard output, even if that was replaced later."""
    await hand_over(ConsoleSender(), MESSAGE)
    assert capsys.readouterr().out == FRAME


async def test_a_terminal_that_knows_ascii_alone_still_shows_the_code() -> None:
    """A name that the output can't spell is shown with question marks, and nothing is lost."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii", newline="\n")
    await hand_over(ConsoleSender(stream), replace(MESSAGE, text="012345 is your Grün code.\n"))
    assert b"012345 is your Gr?n code." in buffer.getvalue()
