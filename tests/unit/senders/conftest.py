"""TLS certificates that only this run trusts."""

import ssl
from dataclasses import dataclass

import pytest
import trustme


@dataclass(frozen=True)
class Tls:
    """One authority: a server's side for 127.0.0.1, one for another name, and a client's side."""

    server: ssl.SSLContext
    server_of_another_name: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Contexts of one authority."""
    authority = trustme.CA()
    sides = []
    for name in ("127.0.0.1", "elsewhere.example"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        sides.append(context)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(sides[0], sides[1], client)
