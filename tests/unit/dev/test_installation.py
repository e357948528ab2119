"""Where a development installation keeps its keys, and where it listens."""

import os
from pathlib import Path

import pytest

from watchword.dev import installation
from watchword.dev.installation import (
    Installation,
    default_addresses,
    development_config,
    open_installation,
)
from watchword.dev.postgres import DevelopmentPostgresError
from watchword.errors import ValueRejected


def open_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens the lasting installation, with `folder` in place of the real one; no PostgreSQL."""
    monkeypatch.setattr(installation, "state_folder", lambda: folder)
    with open_installation(ephemeral=False, database_url="postgresql:///none"):
        pass


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_folder_of_ones_own_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """It lets PostgreSQL's user pass through and shows its names to nobody, whatever the umask."""
    before = os.umask(umask)
    try:
        open_at(tmp_path / "state", monkeypatch)
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o711
    open_at(tmp_path / "state", monkeypatch)


def test_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever planted a link would choose where the keys are (the guard: refuse_strangers)."""
    (tmp_path / "target").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "target")
    with pytest.raises(DevelopmentPostgresError, match="hint:"):
        open_at(tmp_path / "state", monkeypatch)


@pytest.mark.parametrize("mode", [0o771, 0o713])
def test_a_folder_that_others_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """They could have put keys of theirs there already (the guard: refuse_strangers)."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(DevelopmentPostgresError, match="hint:"):
        open_at(tmp_path / "state", monkeypatch)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_strangers_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could bring keys of their own (the guard: refuse_strangers)."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    with pytest.raises(DevelopmentPostgresError, match="hint:"):
        open_at(tmp_path / "state", monkeypatch)


def test_every_port_is_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offset is added to each port of the table; an ephemeral one has free ports instead."""
    monkeypatch.setattr(installation, "PORTS", {"API__ADDRESS": 50051, "METRICS__ADDRESS": 9090})
    assert default_addresses(ephemeral=False, port_offset=100) == {
        "API__ADDRESS": "127.0.0.1:50151",
        "METRICS__ADDRESS": "127.0.0.1:9190",
    }
    assert set(default_addresses(ephemeral=True).values()) == {"127.0.0.1:0"}


def test_the_highest_port_bounds_the_offset() -> None:
    """The last port that there is can be had; no offset leads beyond it or below the default."""
    assert default_addresses(ephemeral=False, port_offset=15_483) == {
        "API__ADDRESS": "127.0.0.1:65534",
        "ADMIN__ADDRESS": "127.0.0.1:65535",
    }
    for offset in (15_484, -1):
        with pytest.raises(ValueRejected, match="must be 0 to 15483: ports end at 65535"):
            default_addresses(ephemeral=False, port_offset=offset)
    with pytest.raises(ValueRejected, match="`--ephemeral` takes free ports"):
        default_addresses(ephemeral=True, port_offset=100)


@pytest.mark.parametrize(
    ("named", "address"), [("127.0.0.1:7000", "127.0.0.1:7000"), ("", "127.0.0.1:50151")]
)
def test_the_environment_wins_over_the_offset(tmp_path: Path, named: str, address: str) -> None:
    """An address that it names is listened on as it stands; an empty variable names none."""
    config = development_config(
        Installation(tmp_path, "postgresql:///none?host=/nowhere", postgres=None),
        {"WATCHWORD_API__ADDRESS": named, "WATCHWORD_SECRETS__KEYS": ""},
        addresses=default_addresses(ephemeral=False, port_offset=100),
        mail_dir=None,
    )
    assert config.api.address == address
