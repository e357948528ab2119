"""What is counted as one client: an IPv4 address, the /64 of an IPv6 address, and its /48."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.limits.policy import client_network, site_network
from watchword.sessions.rules import client_ip

SAME = [
    ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201", "0:0:0:0:0:FFFF:192.0.2.1"),
    ("2001:db8::1", "2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8:0:0:ffff::", "2001:db8::"),
]
APART = ["192.0.2.1", "192.0.2.2", "2001:db8::", "2001:db8:0:1::", "2001:db8:1::", "c000:201::"]


@pytest.mark.parametrize("texts", SAME)
def test_one_client_has_one_network(texts: tuple[str, ...]) -> None:
    """However its address is written, and whichever of its /64 it uses."""
    assert len({client_network(text) for text in texts}) == 1
    assert len({client_network(client_ip(text) or "") for text in texts}) == 1


def test_clients_are_kept_apart() -> None:
    """Neighbours in IPv4 and /64s of one site are different clients."""
    assert len({client_network(text) for text in APART}) == len(APART)


@given(st.ip_addresses(v=6, network="2001:db8:1:2::/64"))
def test_a_whole_64_is_one_client(address: ipaddress.IPv6Address) -> None:
    """A host may take any of 2^64 addresses (threats row 16)."""
    assert client_network(str(address)) == client_network("2001:db8:1:2::")
    assert site_network(str(address)) == site_network("2001:db8:1:ffff::")


def test_only_ipv6_has_sites() -> None:
    """A /48; an IPv4 address has none, however it is written."""
    assert site_network("2001:db8:1:2::3") == bytes.fromhex("20010db80001")
    assert site_network("192.0.2.1") is site_network("::ffff:192.0.2.1") is None
