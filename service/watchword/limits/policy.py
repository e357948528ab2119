"""How often who may ask, and what counts as one client and one mailbox (design.md 6)."""

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator, Field

from watchword.limits.model import Rate, Window, parse_rate
from watchword.settings import Section


def _checked(text: str) -> str:
    parse_rate(text)
    return text


RateText = Annotated[str, AfterValidator(_checked)]

_DOMAINS = re.compile(r"|[a-z0-9.-]+(,[a-z0-9.-]+)*")


def _checked_domains(text: str) -> str:
    if _DOMAINS.fullmatch(text) is None:
        raise ValueError("must be domains in lower case, with commas between them")
    return text


class LimitsPolicy(Section):
    """Each rate is `N/period`, at most N in any window of that length, or `off`."""

    enabled: bool = Field(
        True, description="count mails and calls; `false` is for load tests alone"
    )
    mailbox_minute: RateText = Field("1/60s", description="mails to one mailbox: rate or `off`")
    mailbox_hour: RateText = Field("5/1h", description="mails to one mailbox: rate or `off`")
    mailbox_day: RateText = Field("10/1d", description="mails to one mailbox: rate or `off`")
    client_sends: RateText = Field(
        "30/1h",
        description="Register and SendOtp from one client, an IPv4 address or an IPv6 /64: rate "
        "or `off`",
    )
    client_network_sends: RateText = Field(
        "300/1h", description="Register and SendOtp from one IPv6 /48: rate or `off`"
    )
    caller_sends: RateText = Field(
        "3000/1h",
        description="Register and SendOtp of one caller that gives no `client.ip`: rate or `off`",
    )
    client_failures: RateText = Field(
        "60/1h", description="failed VerifyOtp from one client: rate or `off`"
    )
    long_code_failures: RateText = Field(
        "60/1h",
        description="failed VerifyOtp with 13 characters from one client, or of one caller that "
        "gives no `client.ip`: rate or `off`",
    )
    installation_mails: RateText = Field(
        "100/1s",
        description="mails that all replicas hand over together; further ones wait: rate or `off`",
    )
    domain_mails: RateText = Field(
        "3600/1h",
        description="mails to the addresses of one domain; further ones wait: rate or `off`",
    )
    domain_exempt: Annotated[str, AfterValidator(_checked_domains)] = Field(
        "gmail.com,googlemail.com,outlook.com,hotmail.com,live.com,msn.com,yahoo.com,icloud.com,"
        "me.com,aol.com,gmx.de,gmx.net,web.de,t-online.de,mail.ru,qq.com,163.com,proton.me",
        description="domains of large providers, on which `DOMAIN_MAILS` does not apply",
    )
    dotless_domains: Annotated[str, AfterValidator(_checked_domains)] = Field(
        "gmail.com,googlemail.com",
        description="domains whose mailboxes are the same with and without dots",
    )


def windows(*rates: str) -> tuple[Window, ...]:
    """Returns the windows of the rates that are not off."""
    parsed: list[Rate | None] = [parse_rate(rate) for rate in rates]
    return tuple(rate.window() for rate in parsed if rate is not None)


def client_network(ip: str) -> bytes:
    """Returns what is one client: an IPv4 address, or the /64 of an IPv6 address.

    A host has a whole /64 to choose from (RFC 4291 2.5.4); IPv4-mapped addresses are IPv4.
    """
    address = ip_address(ip)
    if isinstance(address, IPv6Address):
        return address.packed[:8] if address.ipv4_mapped is None else address.ipv4_mapped.packed
    return address.packed


def site_network(ip: str) -> bytes | None:
    """Returns the /48 of an IPv6 address, what a site is given (RFC 6177); IPv4 has none."""
    address = ip_address(ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.packed[:6]
    return None
