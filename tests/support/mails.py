"""A code mail, and what of it must be seen nowhere but in the mail."""

from datetime import UTC, datetime
from uuid import UUID

from watchword.mail.message import Mailbox, Message
from watchword.mail.ports import Sender

CODE = "012345"
ADDRESS = "ada@example.org"

MESSAGE = Message(
    id=UUID("01890a5d-ac96-8774-bcce-b302099a8057"),
    sender=Mailbox("Acme", "no-reply@acme.example"),
    recipient=ADDRESS,
    subject=f"{CODE} is your Acme code",
    text=f"{CODE} is your Acme sign-in code.\n\n.A line with a dot in front.\nGrüße\n",
    html=f"<p>{CODE}</p>\n",
    locale="en",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)


async def hand_over(sender: Sender, message: Message) -> None:
    """Sends a mail of which nothing has to be noted."""
    async with sender.send(message):
        pass
