"""What ClientContext accepts."""

import ipaddress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rpc import hostile
from watchword.errors import ValueRejected
from watchword.sessions import rules
from watchword.sessions.model import SessionPolicy


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", None),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:201", "192.0.2.1"),
        ("0000:0000:0000:0000:0000:ffff:192.168.100.228", "192.168.100.228"),
        ("::1", "::1"),
        ("::", "::"),
        # Only the mapped form is folded: these are other addresses.
        ("::192.0.2.1", "::c000:201"),
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
    ],
)
def test_addresses_are_kept_in_one_form(text: str, kept: str | None) -> None:
    """Lower case, shortest form, IPv4-mapped IPv6 as IPv4; empty is absent."""
    assert rules.client_ip(text) == kept


@pytest.mark.parametrize("case", hostile.CLIENT_IPS)
def test_addresses_that_are_refused(case: str) -> None:
    """Ports, zones, lists and the many other spellings of an address."""
    with pytest.raises(ValueRejected):
        rules.client_ip(hostile.CLIENT_IPS[case])


@settings(deadline=None)
@given(st.ip_addresses().map(str) | st.text(max_size=50))
def test_a_kept_address_is_kept_as_it_is(text: str) -> None:
    """Accepting an accepted address changes nothing."""
    try:
        kept = rules.client_ip(text)
    except ValueRejected:
        return
    if kept is not None:
        assert rules.client_ip(kept) == kept
        assert str(ipaddress.ip_address(kept)) == kept
        assert len(kept) <= rules.CLIENT_IP_MAX


@pytest.mark.parametrize("read", [rules.user_agent, rules.device_name])
@pytest.mark.parametrize("text", ["Mozilla/5.0 (X11; Linux)", "Zoë's phone 📱", " x ", "a" * 200])
def test_lines_are_kept_as_given(read: object, text: str) -> None:
    """What the caller says is not changed."""
    assert read(text) == text  # type: ignore[operator]  # one of two functions
    assert read("") is None  # type: ignore[operator]  # likewise


@pytest.mark.parametrize("case", hostile.BROKEN_LINES)
def test_lines_that_break_are_refused(case: str) -> None:
    """Controls and separators would forge lines wherever sessions are listed (threats row 36)."""
    for read in (rules.user_agent, rules.device_name):
        with pytest.raises(ValueRejected):
            read(hostile.BROKEN_LINES[case])


@pytest.mark.parametrize("control", [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
def test_lines_that_reorder_what_is_around_them_are_refused(control: int) -> None:
    """An operator who reads the audit must not be shown another address or name (threats row 36).

    Marks that only give a direction to what stands beside them are part of ordinary names.
    """
    for read in (rules.user_agent, rules.device_name):
        with pytest.raises(ValueRejected, match="bidirectional"):
            read(f"phone {chr(control)}1.2.0.291")
        assert read("\u200fهاتف\u200e 2")


def test_lines_have_a_maximum() -> None:
    """1024 and 200 characters."""
    assert rules.user_agent("u" * 1024)
    assert rules.device_name("d" * 200)
    for read, text in ((rules.user_agent, "u" * 1025), (rules.device_name, "d" * 201)):
        with pytest.raises(ValueRejected, match="at most"):
            read(text)


@pytest.mark.parametrize("lifetime", ["59s", "0s", "367d", "forever", "-1d", "1.5h", ""])
def test_lifetimes_out_of_bounds_are_refused(lifetime: str) -> None:
    """A minute to 366 days."""
    with pytest.raises(ValueError, match="lifetime"):
        SessionPolicy.model_validate({"lifetime": lifetime})


@pytest.mark.parametrize("lifetime", ["0s", "367d", "-1d", "never"])
def test_idle_lifetimes_out_of_bounds_are_refused(lifetime: str) -> None:
    """A second to 366 days, longer than the absolute lifetime if one likes; a week by default."""
    with pytest.raises(ValueError, match="idle_lifetime"):
        SessionPolicy.model_validate({"idle_lifetime": lifetime})
    week = timedelta(days=7)
    assert SessionPolicy().idle_lifetime == week
    assert SessionPolicy.model_validate({"lifetime": "1h"}).idle_lifetime == week
