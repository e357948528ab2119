"""What ClientContext accepts; every field of it is optional."""

import ipaddress
import unicodedata

from watchword.errors import ValueRejected

CLIENT_IP_MAX = 45  # the longest IPv6 text, with an embedded IPv4 address
USER_AGENT_MAX = 1024
DEVICE_NAME_MAX = 200

_REFUSED_CATEGORIES = frozenset({"Cc", "Cn", "Zl", "Zp"})
# Embeddings, overrides and isolates would reorder the line that an operator reads.
_BIDI_CONTROLS = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))


def client_ip(text: str) -> str | None:
    """Returns the canonical text of the address; IPv4-mapped IPv6 is folded to IPv4."""
    if not text:
        return None
    try:
        address = ipaddress.ip_address(text) if len(text) <= CLIENT_IP_MAX else None
    except ValueError:
        address = None
    if address is None or getattr(address, "scope_id", None):
        raise ValueRejected("must be an IPv4 or IPv6 address without port or zone")
    return str(getattr(address, "ipv4_mapped", None) or address)


def _line(text: str, maximum: int) -> str | None:
    if not text:
        return None
    if len(text) > maximum:
        raise ValueRejected(f"must have at most {maximum} characters")
    if not (
        _REFUSED_CATEGORIES.isdisjoint(map(unicodedata.category, text))
        and _BIDI_CONTROLS.isdisjoint(text)
    ):
        raise ValueRejected(
            "must be one line without control, unassigned or bidirectional control characters"
        )
    return text


def user_agent(text: str) -> str | None:
    """Returns the User-Agent as given, at most 1024 characters on one line."""
    return _line(text, USER_AGENT_MAX)


def device_name(text: str) -> str | None:
    """Returns the device's name as given, at most 200 characters on one line."""
    return _line(text, DEVICE_NAME_MAX)
