"""Names of roles and permissions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchword.errors import ValueRejected
from watchword.roles.rules import name


@pytest.mark.parametrize("text", ["a", "doc:read", "a.b_c-d:e", "0", "x" * 64, ":", "-"])
def test_names_that_are_kept(text: str) -> None:
    """1 to 64 of `a-z 0-9 . _ : -`, as given."""
    assert name(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "x" * 65, "Admin", "doc read", "doc/read", "ä", "ａ", "a\n", "a\x00", "\u212a", "*"],
)
def test_names_that_are_refused(text: str) -> None:
    """Upper case is not folded: a role is what the operator typed, or nothing."""
    with pytest.raises(ValueRejected):
        name(text)


@settings(deadline=None)
@given(st.text(max_size=70))
def test_a_kept_name_is_kept_as_it_is(text: str) -> None:
    """Accepting changes nothing."""
    try:
        assert name(text) == text
    except ValueRejected:
        return
    assert text.isascii()
