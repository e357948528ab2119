"""Which PostgreSQL runs where several are installed, or none."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.postgres import open_folder
from watchword.dev import postgres_installed
from watchword.dev.postgres import DevelopmentPostgresError, DevelopmentPostgresMissing, start
from watchword.dev.postgres_binaries import find_binaries
from watchword.dev.postgres_programs import BIN_VARIABLE

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
needs_15 = pytest.mark.skipif(not DEBIAN_15.is_dir(), reason="Debian's PostgreSQL 15 is not here")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user of PostgreSQL may enter."""
    with open_folder() as path:
        yield path


@pytest.fixture
def no_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the wheel and without any PostgreSQL but that of `installed`."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv(BIN_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(folder / "path"))
    monkeypatch.setattr(postgres_installed, "PLACES", (f"{folder}/places/*/bin",))


def installed(folder: Path, version: str) -> Path:
    """Programs that tell a version, which is all that is asked before one is chosen."""
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        _script(folder / name, f"echo '{name} (PostgreSQL) {version}'")
    return folder


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.mark.usefixtures("no_wheel")
def test_the_newest_of_all_places_is_taken(folder: Path) -> None:
    """Wherever it is; of the same version the one on the PATH, behind its link."""
    installed(folder / "places/16/bin", "16.9 (Debian 16.9-1.pgdg120+1)")
    newest = installed(folder / "places/17/bin", "17.5")
    old = installed(folder / "old", "13.4")
    (folder / "path").mkdir()
    (folder / "path/postgres").symlink_to(old / "postgres")
    found = find_binaries()
    assert (found.folder, found.major) == (newest, 17)
    named = installed(folder / "named", "18beta1")
    _script(folder / "path/pg_config", f"echo {named}")
    assert find_binaries().folder == named
    (folder / "path/postgres").unlink()
    (folder / "path/postgres").symlink_to(installed(folder / "linked", "18.1") / "postgres")
    assert find_binaries().folder == folder / "linked"


@pytest.mark.usefixtures("no_wheel")
def test_nothing_that_does_is_told(folder: Path) -> None:
    """What there is is named with why it does not do, and what to do instead."""
    hint = r"\nhint: .*'watchword\[dev\]'.*15 or newer"
    with pytest.raises(DevelopmentPostgresMissing, match=hint):
        start(folder / "data")
    installed(folder / "places/14/bin", "14.18")
    _script(installed(folder / "places/16/bin", "16.9") / "initdb", "echo no library; exit 1")
    with pytest.raises(DevelopmentPostgresMissing, match=r"14.18`(.|\n)*16/bin`: no library\nhint"):
        start(folder / "data")
    assert not (folder / "data").exists()


def test_the_variable_wins_over_the_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that it names is the one; an old or missing PostgreSQL there is an error."""
    monkeypatch.delenv(BIN_VARIABLE, raising=False)
    wheel = find_binaries()
    monkeypatch.setenv(BIN_VARIABLE, str(installed(folder / "named", "16.9")))
    assert (find_binaries().folder, find_binaries().major) == (folder / "named", 16)
    monkeypatch.setenv(BIN_VARIABLE, str(installed(folder / "old", "14.18")))
    too_old = f"15 or newer .*14.18`\nhint: .*{BIN_VARIABLE}"
    with pytest.raises(DevelopmentPostgresError, match=too_old):
        find_binaries()
    monkeypatch.setenv(BIN_VARIABLE, str(folder / "nothing"))
    with pytest.raises(DevelopmentPostgresError, match=f"nothing`: .*\nhint: .*{BIN_VARIABLE}"):
        find_binaries()
    monkeypatch.setenv(BIN_VARIABLE, "")
    assert find_binaries().folder == wheel.folder


@pytest.mark.parametrize(
    "programs", [pytest.param("wheel"), pytest.param("debian", marks=needs_15)]
)
async def test_an_installed_one_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, programs: str
) -> None:
    """Without the wheel, programs on the PATH make a data folder and serve it, sorted by bytes."""
    real = DEBIAN_15 if programs == "debian" else find_binaries().folder
    request.getfixturevalue("no_wheel")
    monkeypatch.setenv("PATH", str(real))
    with start(folder / "data", ephemeral=True) as server:
        assert server.bin("postgres") == real / "postgres"
        connection = await asyncpg.connect(server.url(), timeout=10)
        try:
            major = int(await connection.fetchval("SHOW server_version_num")) // 10_000
            assert str(major) == (folder / "data/PG_VERSION").read_text().strip()
            words = await connection.fetch(
                "SELECT * FROM (VALUES ('ä'), ('b'), ('B')) w ORDER BY 1"
            )
            assert [word[0] for word in words] == ["B", "b", "ä"]
            assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        finally:
            await connection.close()


@needs_15
def test_a_folder_of_another_major_names_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What 15 made is refused by another one, and the hint says how to run 15 on it."""
    monkeypatch.delenv(BIN_VARIABLE, raising=False)
    newer = find_binaries()
    assert newer.major > 15
    monkeypatch.setenv(BIN_VARIABLE, str(DEBIAN_15))
    start(folder / "data", ephemeral=True).stop()
    monkeypatch.delenv(BIN_VARIABLE)
    refusal = rf"by PostgreSQL 15, this is {newer.major}\nhint: .*{BIN_VARIABLE} .*PostgreSQL 15$"
    with pytest.raises(DevelopmentPostgresError, match=refusal):
        start(folder / "data", ephemeral=True)
    monkeypatch.setenv(BIN_VARIABLE, str(DEBIAN_15))
    start(folder / "data", ephemeral=True).stop()
