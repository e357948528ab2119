"""Which addresses are counted as one mailbox; accounts never look at this."""

import pytest

from watchword.users.rules import email, mailbox_of

DOTLESS = frozenset({"gmail.com", "googlemail.com"})
# Each line is one mailbox.
SAME = [
    ("ada@example.com", "ADA@Example.COM", "ada+a@example.com", "Ada+b+c@EXAMPLE.com"),
    ("a.da@example.com", "a.da+x.y@example.com"),
    ("ada.l@gmail.com", "adal@gmail.com", "a.d.a.l+x@GMAIL.com", "ADAL+1@googlemail.com"),
    ("ada@bücher.example", "ada+1@xn--bcher-kva.example"),
    ("+ada@example.com",),
    ("ada@gmail.com.example",),
    ("ada@mail.gmail.com", "ada+x@mail.gmail.com"),
    ("a.d.a@mail.gmail.com",),
    ("ada-x@example.com",),
    ("ada@example.org",),
]


def mailbox(text: str) -> str:
    """The mailbox of an address as it is typed."""
    return mailbox_of(email(text).account_key, dotless_domains=DOTLESS)


@pytest.mark.parametrize("texts", SAME, ids=lambda texts: texts[0])
def test_one_mailbox_has_one_form(texts: tuple[str, ...]) -> None:
    """Case, +tags, A-labels, and dots where they mean nothing."""
    assert len({mailbox(text) for text in texts}) == 1


def test_mailboxes_are_kept_apart() -> None:
    """Nothing else is folded: no other domain, no dash, no dot elsewhere."""
    assert len({mailbox(texts[0]) for texts in SAME}) == len(SAME)


def test_dots_count_where_nobody_says_otherwise() -> None:
    """The list of domains is a setting."""
    key = email("a.da@gmail.com").account_key
    assert mailbox_of(key, dotless_domains=frozenset()) == "a.da@gmail.com"
