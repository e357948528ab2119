"""A mail as a value and its bytes."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from uuid import UUID

import pytest

from watchword.mail.message import Mailbox, Message, MessageRejected, to_bytes

ID = UUID("01890a5d-ac96-8774-bcce-b302099a8057")


def make(**changed: object) -> Message:
    """A mail with some of its fields changed."""
    fields: dict[str, object] = {
        "id": ID,
        "sender": Mailbox("Acme", "no-reply@acme.example"),
        "recipient": "ada@example.org",
        "subject": "012345 is your Acme code",
        "text": "012345 is your Acme sign-in code.\n",
        "html": "<p>012345</p>\n",
        "locale": "en",
        "date": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return Message(**(fields | changed))  # type: ignore[arg-type]  # one dict for all types


def parse(message: Message) -> EmailMessage:
    """The mail as a mail program reads it."""
    return message_from_bytes(to_bytes(message), _class=EmailMessage, policy=policy.default)


def test_a_repr_shows_the_id_alone() -> None:
    """Neither the code nor the address gets into a log with a repr, a format or a container."""
    message = make()
    for shown in (repr(message), str(message), f"{message}", f"{[message]}", f"{message!a}"):
        assert str(ID) in shown
        assert "012345" not in shown
        assert "ada" not in shown


def test_a_message_does_not_change() -> None:
    """What was checked when the mail was made stays so."""
    with pytest.raises(AttributeError):
        make().recipient = "eve@example.org"  # type: ignore[misc]  # that is the point


def test_a_mail_has_the_headers_that_its_readers_need() -> None:
    """People, dates, a stable id, and the words that keep automatic answers away."""
    parsed = parse(make())
    assert dict(parsed.items()) == {
        "From": "Acme <no-reply@acme.example>",
        "To": "ada@example.org",
        "Subject": "012345 is your Acme code",
        "Date": "Fri, 02 Jan 2026 03:04:05 +0000",
        "Message-ID": f"<{ID}@acme.example>",
        "Content-Language": "en",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="=_{ID.hex}"',
    }


def test_text_comes_before_html() -> None:
    """Mail programs show the last alternative that they can, so HTML is last."""
    text, html = parse(make()).iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert text.get_content() == "012345 is your Acme sign-in code.\r\n"
    assert html.get_content() == "<p>012345</p>\r\n"


def test_equal_messages_have_equal_bytes() -> None:
    """Nothing random is in a mail: a repeat under one idempotency key is the same mail."""
    assert to_bytes(make()) == to_bytes(make())
    assert to_bytes(make()) != to_bytes(make(id=UUID(int=1)))


def test_the_date_is_written_in_utc() -> None:
    """The same moment in two time zones gives the same bytes."""
    moment = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert to_bytes(make(date=moment)) == to_bytes(make())


@pytest.mark.parametrize(
    "content",
    [
        "Grüße\n",
        "x" * 2000 + "\n",
        "ü" * 2000 + "\n",
        ".\n..\nFrom here\n= 100 % =\ntrailing \n\n",
        f"--=_{ID.hex}\nü\n",
        f"--=_{ID.hex}--\n",
        "",
    ],
)
def test_any_content_arrives_whole(content: str) -> None:
    """Umlauts, long lines, dots and even the boundary itself come out as they went in."""
    message = make(text=content, html=content)
    assert max(map(len, to_bytes(message).split(b"\r\n"))) <= 998
    for part in parse(message).iter_parts():
        assert isinstance(part, EmailMessage)
        assert part.get_content().splitlines() == content.splitlines()


def test_every_line_ends_as_smtp_wants_it() -> None:
    """No bare CR or LF is left, whatever the content's line ends were."""
    raw = to_bytes(make(text="a\nb\r\nc\rd\n", html="ü\nü\r\nü\rü\n" + "ü" * 100))
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\n" not in raw.replace(b"\r\n", b"")


BRANDS = ["Acme", "Acme, Inc. " * 9 + "Ltd", "x" * 100, "Müller & Söhne", "漢" * 100, "=?x?q?y?="]
CODES = ["012345", "0123456789", "7K3MX9QPT2W4Z"]


@pytest.mark.parametrize(("brand", "code"), [*itertools.product(BRANDS, CODES)])
def test_the_code_stands_unbroken_in_the_raw_subject(brand: str, code: str) -> None:
    """No folding and no encoding touches a code in front of the subject, however long the rest."""
    message = make(subject=f"{code} is your {brand} code")
    assert f"\r\nSubject: {code} is your".encode() in to_bytes(message)
    assert parse(message)["Subject"] == message.subject


@pytest.mark.parametrize("brand", [*BRANDS, 'The "Real" Acme', "a\\b", "Ä, <eve@evil.example>"])
def test_one_sender_is_read_back(brand: str) -> None:
    """A display name with commas, quotes or brackets stays one name of one address."""
    (sender,) = parse(make(sender=Mailbox(brand, "no-reply@acme.example")))["From"].addresses
    assert sender.addr_spec == "no-reply@acme.example"
    # Python reads the space between two encoded words as part of a name, against RFC 2047.
    assert sender.display_name.replace(" ", "") == brand.replace(" ", "")


def test_encoded_lines_are_as_short_as_rfc_2047_wants() -> None:
    """A line with an encoded word has at most 76 characters, in sender and subject."""
    message = make(
        sender=Mailbox("ü漢😀" * 40, "no-reply@acme.example"), subject="ü" + "漢😀" * 100
    )
    encoded = [line for line in to_bytes(message).split(b"\r\n") if b"=?utf-8?" in line]
    assert len(encoded) > 10
    assert max(map(len, encoded)) <= 76


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("Acme <no-reply@acme.example>", "Acme", "no-reply@acme.example"),
        ("  Acme Inc.  < no-reply@acme.example > ", "Acme Inc.", "no-reply@acme.example"),
        ('"Acme, \\"Inc\\"" <a@acme.example>', 'Acme, "Inc"', "a@acme.example"),
        ("Müller <a@acme.example>", "Müller", "a@acme.example"),
        ("a@acme.example", "", "a@acme.example"),
        ("<a@localhost>", "", "a@localhost"),
    ],
)
def test_a_sender_is_parsed(text: str, name: str, address: str) -> None:
    """The setting takes a name with an address, quoted or not, or an address alone."""
    mailbox = Mailbox.parse(text)
    assert mailbox == Mailbox(name, address)
    assert Mailbox.parse(str(mailbox)) == mailbox


@pytest.mark.parametrize(
    "text",
    ["", "Acme", "Acme <>", "Acme <a>", "Acme <a@b.example", "A <a@b.example>, B <b@b.example>"],
)
def test_a_sender_that_is_none_is_refused(text: str) -> None:
    """What is no single address is refused, with a hint that says what would do."""
    with pytest.raises(MessageRejected, match=r"(?s)`sender` .*\nhint: "):
        Mailbox.parse(text)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "ada@example.org, eve@evil.example",
        "ada@example.org,eve@evil.example",
        "<ada@example.org>",
        "Ada <ada@example.org>",
        '"a b"@example.org',
        "ada(comment)@example.org",
        ".ada@example.org",
        "ada@-example.org",
        "ada@example..org",
        "ada@[192.0.2.1]",
        "ädä@example.org",
        "ada@exämple.org",
        "a" * 65 + "@example.org",
        "a" * 60 + "@" + "b" * 60 + ".c" * 70,
    ],
)
def test_an_address_that_is_not_plain_is_refused(address: str) -> None:
    """Lists, names, comments, Unicode and addresses over 64 or 254 bytes are no recipient."""
    with pytest.raises(MessageRejected, match="`recipient`") as caught:
        make(recipient=address)
    assert not address or address not in str(caught.value)


def test_the_longest_address_is_taken() -> None:
    """254 bytes are accepted, in one header line that no reader can take for two addresses."""
    address = "a" * 64 + "@" + ".".join(["b" * 63, "c" * 63, "d" * 61])
    assert len(address) == 254
    assert [to.addr_spec for to in parse(make(recipient=address))["To"].addresses] == [address]


def test_a_date_needs_a_time_zone() -> None:
    """A date without one would be taken for the machine's local time."""
    with pytest.raises(MessageRejected, match="`date`"):
        make(date=datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None))


def test_a_refusal_never_repeats_the_value() -> None:
    """The message of a refusal names the field; the subject holds a code."""
    with pytest.raises(MessageRejected) as caught:
        make(subject="012345 is your code\n")
    assert "012345" not in str(caught.value)
