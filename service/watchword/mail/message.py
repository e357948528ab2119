"""One mail as a value, and its bytes.

Rules of this file:
- A `Message` that exists is safe to send: whatever would end a header line, add a header or add a
  recipient is refused when it is made, before any mail library sees it.
- The header lines are written here and not by `email`. Python 3.11 loses the quotes of a long
  display name while folding it (`"Acme, Inc. ..." <a@b>` becomes several addresses), and its
  boundaries are random; here equal messages have equal bytes. The tests read them back with it.
- The code is in subject, text and html, so a repr shows the id and nothing else.
"""

import re
import unicodedata
from base64 import b64encode
from binascii import b2a_qp
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final, Self
from uuid import UUID

from watchword.mail.locales import malformed

ADDRESS_BYTES_MAX: Final = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
LOCAL_PART_BYTES_MAX: Final = 64  # RFC 5321 section 4.5.3.1.1
NAME_CHARACTERS_MAX: Final = 128
SUBJECT_CHARACTERS_MAX: Final = 255
LINE_BYTES_MAX: Final = 998  # RFC 5322 section 2.1.1, less the CRLF
# The bytes of text in one encoded word: in base64 it still fits, behind "Subject: ", in the 76
# characters that RFC 2047 section 2 allows such a line.
ENCODED_WORD_BYTES_MAX: Final = 39

# RFC 5322 `dot-atom @ dot-atom`, the domain as host labels. No quotes, comments, spaces, commas or
# angle brackets, hence never a second address.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_ATOMS: Final = re.compile(rf"{_ATOM}(?: {_ATOM})*")
_NAMED: Final = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")

# Control, line separator, paragraph separator, surrogate: what a parser may take for the end of a
# line, and what has no UTF-8.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})


class MessageRejected(ValueError):
    """A mail, or the sender's address, can't be used as given; names the field, not the value."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name (may be empty) and an address, as in `From`."""

    name: str
    address: str

    def __post_init__(self) -> None:
        """Raises MessageRejected."""
        _check_line("sender", self.name, NAME_CHARACTERS_MAX)
        _check_address("sender", self.address)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `Name <address>`, `"Name" <address>` or a bare address; raises MessageRejected."""
        _check_line("sender", text, NAME_CHARACTERS_MAX * 2 + ADDRESS_BYTES_MAX)
        parts = _NAMED.fullmatch(text.strip())
        if parts is None:
            return cls(name="", address=text.strip())
        name = parts["name"].strip()
        if len(name) > 1 and name.startswith('"') and name.endswith('"'):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
        return cls(name=name, address=parts["address"].strip())

    def __str__(self) -> str:
        """The `name-addr` of RFC 5322, for APIs that take Unicode; quoted where it has to be."""
        if not self.name:
            return self.address
        return f"{_phrase(self.name)} <{self.address}>"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """A mail to one person, ready to send.

    `id` is the outbox id: the same one again is the same mail. `date` comes from the database.
    """

    id: UUID
    sender: Mailbox
    recipient: str
    subject: str
    text: str
    html: str
    locale: str
    date: datetime

    def __post_init__(self) -> None:
        """Raises MessageRejected."""
        _check_address("recipient", self.recipient)
        _check_line("subject", self.subject, SUBJECT_CHARACTERS_MAX)
        if malformed(self.locale):
            raise MessageRejected("`locale` is no language tag\nhint: use one like `en` or `de-CH`")
        if self.date.tzinfo is None:
            raise MessageRejected("`date` has no time zone\nhint: pass the database's `now()`")

    def __repr__(self) -> str:
        """Shows the id alone: the code and the address must not reach a log."""
        return f"Message(id={str(self.id)!r}, ...)"


def to_bytes(message: Message) -> bytes:
    """The whole mail as RFC 5322 with CRLF, ASCII only; the same message gives the same bytes.

    Hand these bytes on as they are: `email` would fold the headers again (see the file's rules).
    """
    boundary = f"=_{message.id.hex}"
    headers = (
        f"From: {_mailbox(message.sender)}",
        f"To: {message.recipient}",
        f"Subject: {_unstructured(message.subject)}",
        f"Date: {format_datetime(message.date.astimezone(UTC))}",
        f"Message-ID: <{message.id}@{message.sender.address.rpartition('@')[2]}>",
        f"Content-Language: {message.locale}",
        # RFC 3834: no out-of-office note comes back; the second is Exchange's word for it.
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/alternative; boundary="{boundary}"',
    )
    start = f"\r\n--{boundary}\r\n"
    return b"".join(
        (
            "\r\n".join(headers).encode("ascii"),
            b"\r\n",
            # The last alternative is the one that a reader prefers (RFC 2046 section 5.1.4).
            start.encode("ascii") + _part("plain", message.text),
            start.encode("ascii") + _part("html", message.html),
            f"\r\n--{boundary}--\r\n".encode("ascii"),
        )
    )


def _check_line(field: str, value: str, characters_max: int) -> None:
    if len(value) > characters_max:
        raise MessageRejected(
            f"`{field}` has {len(value)} characters\nhint: at most {characters_max} are accepted"
        )
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in value):
        raise MessageRejected(
            f"`{field}` holds a line break or another control character\n"
            "hint: it has to be one line of printable text"
        )


def _check_address(field: str, value: str) -> None:
    # Bytes, not characters: the limit is SMTP's. Surrogates must not raise here.
    if len(value.encode("utf-8", "surrogatepass")) > ADDRESS_BYTES_MAX:
        raise MessageRejected(
            f"`{field}` is too long an address\nhint: at most {ADDRESS_BYTES_MAX} bytes"
        )
    if not _ADDRESS.fullmatch(value) or value.index("@") > LOCAL_PART_BYTES_MAX:
        raise MessageRejected(
            f"`{field}` is no plain e-mail address\n"
            "hint: use `local@domain` in ASCII, an international domain as `xn--...`"
        )


def _plain(text: str) -> bool:
    # "=?" would be read as the start of an encoded word; outer spaces are lost on the way.
    return text.isascii() and "=?" not in text and text == text.strip(" ")


def _encoded_words(text: str) -> str:
    """Text as RFC 2047 words, one a line; a character is never cut in two."""
    chunks = [b""]
    for character in text:
        encoded = character.encode("utf-8")
        if len(chunks[-1]) + len(encoded) > ENCODED_WORD_BYTES_MAX:
            chunks.append(b"")
        chunks[-1] += encoded
    return "\r\n ".join(f"=?utf-8?b?{b64encode(chunk).decode('ascii')}?=" for chunk in chunks)


def _unstructured(text: str) -> str:
    """A subject; what comes before the first word that needs encoding stays as it is.

    So a code in front stays readable, and findable, in the raw mail. Plain text isn't folded:
    RFC 5322 section 2.1.1 only advises it, and 255 characters are far from its hard limit.
    """
    if _plain(text):
        return text
    words = text.split(" ")
    first = next((i for i, word in enumerate(words) if not _plain(word)), 0)
    before = " ".join(words[:first]).rstrip(" ")
    if not before or not _plain(before):
        return _encoded_words(text)
    return before + "\r\n " + _encoded_words(text[len(before) + 1 :])


def _phrase(name: str) -> str:
    if _ATOMS.fullmatch(name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _mailbox(mailbox: Mailbox) -> str:
    if not mailbox.name or _plain(mailbox.name):
        return str(mailbox)
    return f"{_encoded_words(mailbox.name)}\r\n <{mailbox.address}>"


def _part(subtype: str, content: str) -> bytes:
    """One alternative: as it is where that is ASCII in short lines, else quoted-printable.

    Never base64, which spam filters frown on and nobody can read in a file. Quoted-printable
    writes "=" as "=3D", so that no content can hold the boundary.
    """
    # Surrogates, which no template makes, become "?" instead of an error in the middle of a mail.
    lines = [line.encode("utf-8", "replace") for line in re.split(r"\r\n|\r|\n", content)]
    encoding = "7bit"
    if any(len(line) > LINE_BYTES_MAX or _needs_encoding(line) for line in lines):
        encoding = "quoted-printable"
        lines = [b2a_qp(line, quotetabs=False, istext=True) for line in lines]
    header = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}"
    # Soft line breaks come out of b2a_qp as a bare LF.
    body = b"\r\n".join(line.replace(b"=\n", b"=\r\n") for line in lines)
    return header.encode("ascii") + b"\r\n\r\n" + body


def _needs_encoding(line: bytes) -> bool:
    return not line.isascii() or b"\0" in line or line.startswith(b"--=_")
