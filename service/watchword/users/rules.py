"""What Register accepts, and the canonical form of what it keeps.

Each function takes the raw text and returns what is kept, or raises ValueRejected with a sentence
that says what would be accepted. None looks at the database or the network.
"""

import unicodedata
from collections.abc import Set

from email_validator import EmailNotValidError, validate_email

from watchword.errors import ValueRejected
from watchword.users.model import EmailAddress

FULL_NAME_MAX = 200
USERNAME_MIN = 3
USERNAME_MAX = 32
EMAIL_MAX = 254  # RFC 5321 4.5.3.1.3: a path of 256 with its angle brackets.

RESERVED_USERNAMES = frozenset(
    {
        "abuse",
        "admin",
        "administrator",
        "noreply",
        "postmaster",
        "root",
        "security",
        "support",
        "system",
        "watchword",
    }
)

_USERNAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
# Control, surrogate, unassigned, line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Cn", "Zl", "Zp"})
# Embeddings, overrides and isolates would let a name reorder the text that it is shown in.
_BIDI_CONTROLS = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
_VISIBLE_CATEGORIES = ("L", "N", "P", "S")
# Letters and symbols by category, and yet nothing to see: Hangul fillers, the empty Braille cell.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
# NFC makes a text at most four times shorter, and sorts long runs of marks in quadratic time.
_FULL_NAME_RAW_MAX = 4 * FULL_NAME_MAX


def full_name(text: str) -> str:
    """Returns the name in NFC, trimmed; 1 to 200 code points, at least one of them visible."""
    # Before trimming: a line break at the end is as wrong as one in the middle.
    if not (
        _REFUSED_CATEGORIES.isdisjoint(map(unicodedata.category, text))
        and _BIDI_CONTROLS.isdisjoint(text)
    ):
        raise ValueRejected(
            "must have no control, unassigned, line-separator or bidirectional control characters"
        )
    trimmed = text.strip()
    if not trimmed:
        raise ValueRejected("is required")
    name = unicodedata.normalize("NFC", trimmed) if len(trimmed) <= _FULL_NAME_RAW_MAX else trimmed
    if len(name) > FULL_NAME_MAX:
        raise ValueRejected(f"must have at most {FULL_NAME_MAX} characters")
    if not any(map(_is_visible, name)):
        raise ValueRejected("must have at least one visible character")
    return name


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith(_VISIBLE_CATEGORIES) and character not in _BLANK


def username(text: str) -> str:
    """Returns the username in lower case; only ASCII is folded, so that no look-alike joins in."""
    if not text:
        raise ValueRejected("is required")
    name = text.lower() if text.isascii() else text
    if not USERNAME_MIN <= len(name) <= USERNAME_MAX or not _USERNAME_CHARACTERS.issuperset(name):
        raise ValueRejected(
            f"must be {USERNAME_MIN} to {USERNAME_MAX} of the characters `a-z 0-9 . _ -`"
        )
    if name in RESERVED_USERNAMES:
        raise ValueRejected("is a reserved name; choose another")
    return name


def email(text: str) -> EmailAddress:
    """Returns the address with its domain as A-labels, and its account key.

    The account key is conservative: lower case and nothing else, since only the mail server knows
    whether dots and tags matter. Addresses that need SMTPUTF8 (RFC 6531) and special-use domains
    (RFC 6761) are refused; DNS is not asked.
    """
    if not text:
        raise ValueRejected("is required")
    if len(text) > EMAIL_MAX:
        raise ValueRejected(f"must have at most {EMAIL_MAX} characters")
    try:
        parsed = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError:
        # Its sentences quote the input.
        raise ValueRejected("must be an address like `ada@example.com`") from None
    address = parsed.ascii_email
    if address is None or len(address) > EMAIL_MAX:
        raise ValueRejected("must be an address like `ada@example.com`")
    return EmailAddress(address=address, account_key=account_key_of(address))


def account_key_of(address: str) -> str:
    """Returns the account key of an address that `email` has accepted."""
    return address.lower()


# Domains that lead to the same mailboxes as another.
_SAME_DOMAIN = {"googlemail.com": "gmail.com"}


def mailbox_of(account_key: str, *, dotless_domains: Set[str]) -> str:
    """Returns the mailbox that an account key most likely leads to, for counting mails alone.

    A +tag is cut off (RFC 5233), and dots where the domain is known to ignore them. Two people whom
    this takes for one share a limit and nothing else.
    """
    whole, _, domain = account_key.rpartition("@")
    local = whole.partition("+")[0] or whole
    if domain in dotless_domains:
        local = local.replace(".", "")
    return f"{local}@{_SAME_DOMAIN.get(domain, domain)}"
