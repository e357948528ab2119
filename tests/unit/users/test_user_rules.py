"""What Register accepts and in which form it keeps it."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rpc import hostile
from watchword.errors import ValueRejected
from watchword.users import rules


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Ada", "Ada"),
        ("  Ada \u3000", "Ada"),
        ("Zoe\u0308", "Zoë"),
        ("A\u030angstro\u0308m", "Ångström"),
        ("\u1112\u1161\u11ab", "한"),
        ("O'Connor-D’Arcy", "O'Connor-D’Arcy"),
        ("a\u00a0b", "a\u00a0b"),
        ("क्\u200dष", "क्\u200dष"),
        ("a" * 200, "a" * 200),
        ("e\u0301" * 200, "é" * 200),
        (" " * 5_000 + "Ada", "Ada"),
        ("!", "!"),
        ("7", "7"),
    ],
)
def test_full_names_are_kept_in_nfc_and_trimmed(text: str, kept: str) -> None:
    """200 characters count after NFC and trimming, not before."""
    assert rules.full_name(text) == kept


@pytest.mark.parametrize("case", hostile.FULL_NAMES)
def test_full_names_that_are_refused(case: str) -> None:
    """Whatever could break a line, reorder a text or show nothing."""
    with pytest.raises(ValueRejected):
        rules.full_name(hostile.FULL_NAMES[case])


@settings(deadline=None)
@given(st.text())
def test_a_kept_full_name_is_kept_as_it_is(text: str) -> None:
    """Accepting an accepted name changes nothing; it is one visible line of at most 200."""
    try:
        name = rules.full_name(text)
    except ValueRejected as error:
        assert len(text) < 4 or text not in str(error)
        return
    assert rules.full_name(name) == name
    assert 1 <= len(name) <= rules.FULL_NAME_MAX
    assert unicodedata.is_normalized("NFC", name)
    assert len(name.splitlines()) == 1
    assert name == name.strip()


@pytest.mark.parametrize(
    ("text", "kept"),
    [("ada", "ada"), ("ADA", "ada"), ("a-d.a_9", "a-d.a_9"), ("..-", "..-"), ("q" * 32, "q" * 32)],
)
def test_usernames_are_kept_in_lower_case(text: str, kept: str) -> None:
    """Only ASCII is folded."""
    assert rules.username(text) == kept


@pytest.mark.parametrize("case", hostile.USERNAMES)
def test_usernames_that_are_refused(case: str) -> None:
    """Look-alikes and whatever is not `a-z 0-9 . _ -`."""
    with pytest.raises(ValueRejected):
        rules.username(hostile.USERNAMES[case])


@pytest.mark.parametrize("name", sorted(rules.RESERVED_USERNAMES))
def test_reserved_usernames_are_refused_in_any_case(name: str) -> None:
    """Nobody signs up as the operator."""
    for text in (name, name.upper(), name.title()):
        with pytest.raises(ValueRejected, match="reserved"):
            rules.username(text)


@settings(deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9._-]{3,32}", fullmatch=True))
def test_a_kept_username_is_kept_as_it_is(text: str) -> None:
    """Accepting an accepted name changes nothing, and what is kept is ASCII."""
    try:
        name = rules.username(text)
    except ValueRejected:
        return
    assert rules.username(name) == name
    assert name.isascii()
    assert name == text.lower()


@pytest.mark.parametrize(
    ("text", "address", "account_key"),
    [
        ("ada@example.com", "ada@example.com", "ada@example.com"),
        ("Ada@Example.COM", "Ada@example.com", "ada@example.com"),
        ("a.d.a+tag@gmail.com", "a.d.a+tag@gmail.com", "a.d.a+tag@gmail.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada@BÜCHER.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        # UTS 46 maps these to the same domain; the mailbox is one and the same.
        ("ada@ｅxample.com", "ada@example.com", "ada@example.com"),
        ("ada@example。com", "ada@example.com", "ada@example.com"),
        # These are other domains, however alike they look.
        ("ada@exаmple.com", "ada@xn--exmple-4nf.com", "ada@xn--exmple-4nf.com"),
        ("ada@faß.de", "ada@xn--fa-hia.de", "ada@xn--fa-hia.de"),
        ("o'neil@example.com", "o'neil@example.com", "o'neil@example.com"),
    ],
)
def test_addresses_and_their_account_keys(text: str, address: str, account_key: str) -> None:
    """The local part stays as it is, the domain becomes A-labels, the key is lower case."""
    accepted = rules.email(text)
    assert (accepted.address, accepted.account_key) == (address, account_key)


@pytest.mark.parametrize("case", hostile.EMAILS)
def test_addresses_that_are_refused(case: str) -> None:
    """Injections, quoted and literal forms, special-use domains, over 254 (threats rows 14, 19)."""
    text = hostile.EMAILS[case]
    with pytest.raises(ValueRejected) as caught:
        rules.email(text)
    assert not text or text not in str(caught.value)


@settings(deadline=None)
@given(
    st.text(max_size=40)
    | st.emails()
    | st.builds("{}@{}.example".format, st.text(min_size=1, max_size=9), st.text(max_size=9))
)
def test_a_kept_address_is_kept_as_it_is(text: str) -> None:
    """Accepting an accepted address changes nothing; it is one ASCII address on one line."""
    try:
        accepted = rules.email(text)
    except ValueRejected:
        return
    assert rules.email(accepted.address) == accepted
    assert rules.account_key_of(accepted.address) == accepted.account_key
    assert rules.email(accepted.account_key).account_key == accepted.account_key
    assert accepted.address.isascii()
    assert accepted.address.isprintable()
    assert accepted.address.count("@") == 1
    assert " " not in accepted.address
    assert len(accepted.address) <= rules.EMAIL_MAX
