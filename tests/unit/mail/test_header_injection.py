"""No value can add a header or a recipient to a mail.

In the ordinary suite 300 mails; with WATCHWORD_TEST_FULL=1 a million (threats.md, row 19), in 50
rounds of 20,000 with a seed each, so that a run can be split and taken up again: `-k "round_17"`.
"""

import os
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.message import Message as ParsedMessage
from email.utils import getaddresses
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

from watchword.mail.message import Mailbox, Message, MessageRejected, to_bytes

FULL = os.environ.get("WATCHWORD_TEST_FULL") == "1"
ROUNDS, MAILS_PER_ROUND = (50, 20_000) if FULL else (1, 300)

HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Content-Language",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
]

# What has broken mail programs: line ends of every kind, address syntax, half and whole encoded
# words, characters of two to four bytes, surrogates; and long runs, since folding has bugs too.
HOSTILE = st.sampled_from(
    ["\r\n", "\r", "\n", "\0", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
AWKWARD = st.sampled_from(
    [
        *(" ", "  ", ",", ";", ":", "<", ">", '"', "\\", "(", ")", "@", ".", "=?", "?=", "=", "_"),
        *("=?utf-8?q?=0D=0ABcc:_eve@evil.example?=", "=?utf-8?b?DQpCY2M6IGV2ZQ==?="),
        *("Bcc: eve@evil.example", "<eve@evil.example>", ", eve@evil.example", "Acme, Inc. "),
        *("ü", "漢", "😀", "\u00a0", "\u200b", "\u202e", "\u0301", "x" * 70, "word " * 20),
    ]
)
HARMLESS = st.text(alphabet="abcXYZ012 -", max_size=12)


def _pieces(*kinds: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.one_of(*kinds), max_size=8).map("".join)


def _mostly(
    usual: st.SearchStrategy[str], *others: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    # Most mails shall be made (four of five are), not refused; `one_of` ignores repetitions.
    return st.integers(0, 15).flatmap(lambda n: st.one_of(others) if n == 7 else usual)


NAMES = _mostly(_pieces(AWKWARD, HARMLESS), st.text(), _pieces(HOSTILE, AWKWARD, HARMLESS))
ADDRESSES = _mostly(
    st.from_regex(
        r"[a-z+'=?_{|}-]{1,32}(\.[a-z=?]{1,31})?@[a-z]([a-z-]{0,60}[a-z])?(\.[a-z]{1,63}){0,2}",
        fullmatch=True,
    ),
    st.tuples(NAMES, NAMES).map(lambda parts: f"{parts[0]}@{parts[1]}"),
    NAMES.map(lambda text: f"ada@example.org{text}"),
)
LOCALES = _mostly(st.sampled_from(["en", "de-CH"]), NAMES, NAMES.map("en".__add__))


def _decoded(value: object) -> str:
    return str(make_header(decode_header(str(value))))


def make(name: str, sender: str, recipient: str, subject: str, locale: str) -> Message:
    """A mail with these values wherever they can stand."""
    return Message(
        id=UUID(int=7),
        sender=Mailbox(name, sender),
        recipient=recipient,
        subject=subject,
        text=f"{subject}\n{name}\n",
        html=f"<p>{recipient}</p>\n",
        locale=locale,
        date=datetime(2026, 1, 2, tzinfo=UTC),
    )


def check(name: str, sender: str, recipient: str, subject: str, locale: str) -> None:
    """A mail is refused, or it parses to exactly the headers and people it was made with."""
    try:
        message = make(name, sender, recipient, subject, locale)
    except MessageRejected:
        event("refused")
        return
    event("made")
    raw = to_bytes(message)

    for reader in (policy.compat32, policy.default):
        parsed: ParsedMessage = message_from_bytes(raw, policy=reader)
        assert parsed.keys() == HEADERS
        assert not parsed.defects
        assert [part.get_content_type() for part in parsed.walk()] == [
            "multipart/alternative",
            "text/plain",
            "text/html",
        ]
    plain = message_from_bytes(raw)
    assert getaddresses([plain["To"]]) == [("", recipient)]
    senders = getaddresses([plain["From"]])
    assert [address for _, address in senders] == [sender]
    # `Header` drops a space beside a backslash or a bracket; the modern reader below doesn't.
    assert _decoded(plain["Subject"]).replace(" ", "") == subject.replace(" ", "")
    modern = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
    assert [address.addr_spec for address in modern["To"].addresses] == [recipient]
    assert [address.addr_spec for address in modern["From"].addresses] == [sender]
    assert modern["Subject"] == subject
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")


@pytest.mark.parametrize("round_", range(ROUNDS), ids=lambda number: f"round_{number}_")
def test_no_value_adds_a_header_or_a_recipient(round_: int) -> None:
    """Fuzzed values are refused or parse back as given (300 mails; 10^6 with the full size)."""
    fuzz = given(
        name=NAMES,
        sender=ADDRESSES,
        recipient=ADDRESSES,
        subject=NAMES,
        locale=LOCALES,
    )(check)
    sized = settings(
        max_examples=MAILS_PER_ROUND,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )(fuzz)
    seed(round_)(sized)()


@pytest.mark.parametrize(
    "character", ["\r", "\n", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\ud800"]
)
@pytest.mark.parametrize("field", ["name", "sender", "recipient", "subject", "locale"])
def test_control_characters_are_refused_in_every_header_value(field: str, character: str) -> None:
    """Each kind of control character is refused in each value that reaches a header."""
    values = {
        "name": "Acme",
        "sender": "no-reply@acme.example",
        "recipient": "ada@example.org",
        "subject": "Hello",
        "locale": "en",
    }
    for changed in (values[field] + character, character + values[field]):
        with pytest.raises(MessageRejected):
            make(**(values | {field: changed}))
