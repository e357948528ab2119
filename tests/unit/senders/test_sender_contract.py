"""What every sender does; each adapter goes through the same tests."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.mails import hand_over
from tests.support.resend_server import API_KEY, resend_server
from tests.support.smtp_server import smtp_server
from watchword.mail.message import Mailbox, Message
from watchword.mail.ports import Sender, SendFailed
from watchword.mail.settings import SenderName
from watchword.senders.console import ConsoleSender
from watchword.senders.file import FileSender
from watchword.senders.resend import ResendSender
from watchword.senders.smtp import SmtpSender, SmtpServer

MESSAGE = Message(
    id=UUID("01890a5d-ac96-8774-bcce-b302099a8057"),
    sender=Mailbox("Acme", "no-reply@acme.example"),
    recipient="ada@example.org",
    subject="012345 is your Acme code",
    text="012345 is your Acme sign-in code.\n\nGrüße\n",
    html="<p>012345</p>\n",
    locale="en",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)


@dataclass(frozen=True)
class Harness:
    """A sender, what has left by it (subject and text of each mail), and how to break it."""

    sender: Sender
    sent: Callable[[], list[tuple[str, str]]]
    break_it: Callable[[], None]


@asynccontextmanager
async def console(_: Path) -> AsyncIterator[Harness]:
    """The console sender on a stream in memory."""
    stream = io.StringIO()

    def sent() -> list[tuple[str, str]]:
        mails = []
        for frame in stream.getvalue().split("--- mail ")[1:]:
            head, _, text = frame.partition("\n\n")
            subject = next(line for line in head.splitlines() if line.startswith("Subject: "))
            mails.append((subject.removeprefix("Subject: "), text[: text.rindex("\n---")] + "\n"))
        return mails

    yield Harness(ConsoleSender(stream), sent, stream.close)


@asynccontextmanager
async def file(folder: Path) -> AsyncIterator[Harness]:
    """The file sender in a folder of its own."""
    mails = folder / "mails"

    def sent() -> list[tuple[str, str]]:
        return [read(path.read_bytes()) for path in sorted(mails.glob("*.eml"))]

    yield Harness(FileSender(mails), sent, mails.rmdir)


@asynccontextmanager
async def smtp(_: Path) -> AsyncIterator[Harness]:
    """The SMTP sender and a real server."""
    async with smtp_server() as server:
        sender = SmtpSender(SmtpServer.parse(f"smtp://127.0.0.1:{server.port}"))
        yield Harness(sender, lambda: [read(mail.content) for mail in server.taken], server.stop)


@asynccontextmanager
async def resend(_: Path) -> AsyncIterator[Harness]:
    """The Resend sender and a server that speaks like Resend."""
    async with resend_server() as server:
        sender = ResendSender(API_KEY, base_url=server.base_url)

        def sent() -> list[tuple[str, str]]:
            return [(body["subject"], body["text"]) for body in server.sent]

        yield Harness(sender, sent, server.stop)


def read(raw: bytes) -> tuple[str, str]:
    """The subject and the text of a mail."""
    mail = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
    text = mail.get_body(("plain",))
    assert isinstance(text, EmailMessage)
    return mail["Subject"], text.get_content().replace("\r\n", "\n")


SENDERS = {"console": console, "file": file, "smtp": smtp, "resend": resend}


@pytest.fixture(params=SENDERS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """Each of the senders in turn."""
    async with SENDERS[request.param](tmp_path) as made:
        yield made
        await made.sender.close()


async def test_a_mail_leaves_whole(harness: Harness) -> None:
    """When `send` returns, the mail is there with its subject and its text."""
    await hand_over(harness.sender, MESSAGE)
    assert harness.sent() == [(MESSAGE.subject, MESSAGE.text)]


async def test_mails_at_the_same_time_do_not_mix(harness: Harness) -> None:
    """Fifty mails at once arrive as fifty whole mails."""
    messages = [
        replace(MESSAGE, id=UUID(int=n), subject=f"{n:06} is your code", text=f"{n:06}\n" * 200)
        for n in range(50)
    ]
    await asyncio.gather(*(hand_over(harness.sender, message) for message in messages))
    assert sorted(harness.sent()) == [(message.subject, message.text) for message in messages]


async def test_the_same_mail_can_be_sent_again(harness: Harness) -> None:
    """A repeat after a lost answer is no error, and each copy is the same."""
    await asyncio.gather(*(hand_over(harness.sender, MESSAGE) for _ in range(5)))
    assert set(harness.sent()) == {(MESSAGE.subject, MESSAGE.text)}


async def test_a_broken_sender_fails_for_now(harness: Harness) -> None:
    """An output that is gone is SendFailed, worth a retry, with a hint and without the code."""
    harness.break_it()
    with pytest.raises(SendFailed, match=r"(?s)\nhint: ") as caught:
        await hand_over(harness.sender, MESSAGE)
    assert "012345" not in str(caught.value)
    assert "ada@" not in str(caught.value)


async def test_a_sender_leaves_no_code_on_the_other_outputs(
    harness: Harness, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing of a mail is printed or logged beside the place that it was sent to."""
    await hand_over(harness.sender, MESSAGE)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_sender_has_the_name_of_its_setting(
    harness: Harness, request: pytest.FixtureRequest
) -> None:
    """`WATCHWORD_MAIL__SENDERS` names senders by these words, and all of them are tested here."""
    assert harness.sender.name == request.node.callspec.params["harness"]
    assert set(SENDERS) == set(SenderName)
