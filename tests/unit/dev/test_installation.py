"""Where a development installation keeps its keys."""

import os
from pathlib import Path

import pytest

from watchword.dev import installation
from watchword.dev.installation import open_installation
from watchword.dev.postgres import DevelopmentPostgresError


def open_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens the lasting installation, with `folder` in place of the real one; no PostgreSQL."""
    monkeypatch.setattr(installation, "state_folder", lambda: folder)
    with open_installation(ephemeral=False, database_url="postgresql:///none"):
        pass


def test_a_folder_of_ones_own_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets PostgreSQL's user pass through and shows its names to nobody."""
    open_at(tmp_path / "state", monkeypatch)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o711


def test_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever planted a link would choose where the keys are (the guard: _refuse_strangers)."""
    (tmp_path / "target").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "target")
    with pytest.raises(DevelopmentPostgresError, match="hint:"):
        open_at(tmp_path / "state", monkeypatch)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_strangers_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could bring keys of their own (the guard: _refuse_strangers)."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 65534, 65534)
    with pytest.raises(DevelopmentPostgresError, match="hint:"):
        open_at(tmp_path / "state", monkeypatch)
