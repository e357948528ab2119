"""Nothing leaves the machine in plain text unless that is switched on."""

import pytest

from watchword.config import ConfigError, load_database_settings
from watchword.settings import is_loopback
from watchword.storage.pool import DatabaseSettings, is_local
from watchword.transport.server import ApiSettings

LOCAL = [
    "postgresql:///watchword",
    "postgres:///watchword",
    "postgresql://localhost/watchword",
    "postgresql://user:p%40ss@localhost:5432/watchword",
    "postgresql://127.0.0.1/watchword",
    "postgresql://127.8.8.8:5433/watchword",
    "postgresql://[::1]:5432/watchword",
    "postgresql://user@/watchword?host=/run/postgresql",
    "postgresql:///watchword?host=/run/postgresql&port=5433",
    "postgresql://%2Frun%2Fpostgresql/watchword",
    "postgresql://localhost,127.0.0.1:5433/watchword",
    "postgresql:///watchword?host=%2Frun%2Fpostgresql,localhost",
]
REMOTE = [
    "postgresql://db.example/watchword",
    "postgresql://user:pass@10.0.0.5:5432/watchword",
    "postgresql://[2001:db8::1]/watchword",
    "postgresql://0.0.0.0/watchword",
    "postgresql://localhost.evil.example/watchword",
    "postgresql://127.0.0.1.evil.example/watchword",
    "postgresql://localhost@db.example/watchword",
    "postgresql://localhost:x@db.example/watchword",
    "postgresql://%31%30.0.0.5/watchword",
    "postgresql:///watchword?host=db.example",
    "postgresql:///watchword?host=10.0.0.5",
    "postgresql://localhost/watchword?host=db.example",
    "postgresql://db.example/watchword?host=/run/postgresql",
    "postgresql:///watchword?host=localhost&host=db.example",
    "postgresql:///watchword?host=db.example&host=localhost",
    # The driver takes lists and tries each.
    "postgresql://localhost,db.example/watchword",
    "postgresql://127.0.0.1:5432,10.0.0.5:5432/watchword",
    "postgresql://user@[::1]:5432,db.example/watchword",
    "postgresql:///watchword?host=/run/postgresql,db.example",
    "postgresql:///watchword?host=localhost,db.example",
    # A service file names the host.
    "postgresql:///watchword?service=production",
]


@pytest.mark.parametrize("url", LOCAL)
def test_a_local_database_needs_no_tls(url: str) -> None:
    """Sockets and loopback, in every place where the driver takes a host from."""
    assert is_local(url)
    assert DatabaseSettings.model_validate({"url": url})


@pytest.mark.parametrize("url", REMOTE)
def test_a_remote_database_needs_a_verified_certificate_or_a_switch(url: str) -> None:
    """Passwords and addresses would cross the network (the guard: DatabaseSettings._check_transport
    over every host of the URL).
    """
    assert not is_local(url)
    with pytest.raises(ValueError, match="sslmode=verify-full"):
        DatabaseSettings.model_validate({"url": url})
    assert DatabaseSettings.model_validate({"url": url, "allow_plaintext": "true"})


@pytest.mark.parametrize(
    ("sslmode", "accepted"),
    [
        ("verify-full", True),
        ("verify-ca", False),
        ("require", False),
        ("prefer", False),
        ("disable", False),
        ("VERIFY-FULL", False),
        ("disable&sslmode=verify-full", True),
        ("verify-full&sslmode=disable", False),
    ],
)
def test_only_verify_full_is_enough(sslmode: str, accepted: bool) -> None:
    """Encryption to whoever answers is none; of two modes the driver takes the last."""
    settings = {"url": f"postgresql://db.example/watchword?sslmode={sslmode}"}
    if accepted:
        assert DatabaseSettings.model_validate(settings)
        return
    with pytest.raises(ValueError, match="verify-full"):
        DatabaseSettings.model_validate(settings)


@pytest.mark.parametrize("url", ["", "localhost", "mysql://localhost/x", "http://localhost/x"])
def test_what_is_no_url_of_postgresql(url: str) -> None:
    """The scheme says so."""
    with pytest.raises(ValueError, match="postgresql://"):
        DatabaseSettings.model_validate({"url": url})


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:50051", "127.0.0.1:0", "localhost:1", "[::1]:50051", "unix:/run/watchword.sock"],
)
def test_loopback_and_sockets_are_listened_on(address: str) -> None:
    """Nothing to switch on."""
    assert ApiSettings.model_validate({"address": address})


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "db.example:1", "localhost.example:1"],
)
def test_an_address_off_loopback_needs_a_switch(address: str) -> None:
    """Tokens would cross the network in plain text."""
    with pytest.raises(ValueError, match="ALLOW_PLAINTEXT"):
        ApiSettings.model_validate({"address": address})
    assert ApiSettings.model_validate({"address": address, "allow_plaintext": "true"})


@pytest.mark.parametrize(
    "address", ["", "localhost", ":50051", "localhost:", "localhost:x", "localhost:65536", "unix:x"]
)
def test_what_is_no_address(address: str) -> None:
    """The message shows both forms."""
    with pytest.raises(ValueError, match="must be"):
        ApiSettings.model_validate({"address": address, "allow_plaintext": "true"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("[::1]", True),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.", False),
        ("0x7f.1", False),
        ("2130706433", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Names other than `localhost` and odd spellings are not believed."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:canary@127.0.0.1:x/d",
        "postgresql://a:canary@127.0.0.1:99999/d",
        "postgresql://a:canary@[::1/d",
        "postgresql://a:canary@db@127.0.0.1/d",
        "postgresql://a@db.example.com,canary@127.0.0.1/d",
        "mysql://a:canary@127.0.0.1/d",
    ],
)
def test_a_url_that_the_driver_cannot_read_is_told_at_once(url: str) -> None:
    """Ports, brackets and a second `@` are refused by name, without showing the password."""
    with pytest.raises(ConfigError) as refused:
        load_database_settings({"WATCHWORD_DATABASE__URL": url})
    assert "`WATCHWORD_DATABASE__URL`" in str(refused.value)
    assert "canary" not in str(refused.value)
