"""What `make dist` has built: the right files, a tag that holds, and a demo where no Rust is.

`.ci/run` builds it and names the folder; by itself `make test` builds no release.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath

import pytest
from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).parents[2]
DIST = os.environ.get("WATCHWORD_TEST_DIST")
CORE = "watchword/_core.abi3.so"
KINDS = {".py", ".pyi", ".typed", ".html", ".txt", ".sql"}

pytestmark = pytest.mark.skipif(
    DIST is None, reason="hint: `make dist`, then set WATCHWORD_TEST_DIST=dist"
)


@pytest.fixture(scope="module")
def server() -> Path:
    """The server's wheel."""
    return only("watchword-*.whl")


@pytest.fixture(scope="module")
def client() -> Path:
    """The client's wheel."""
    return only("watchword_client-*.whl")


def only(pattern: str) -> Path:
    (path,) = Path(DIST or "").resolve().glob(pattern)
    return path


def committed(folder: str, package: str) -> set[str]:
    """The files of a package that are in the repository, as a wheel names them."""
    command = ["git", "ls-files", package]
    listed = subprocess.run(
        command, cwd=ROOT / folder, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert listed
    return set(listed)


def contents(wheel: Path) -> tuple[set[str], set[str]]:
    """The package's files, and the names below `.dist-info`."""
    names = zipfile.ZipFile(wheel).namelist()
    package = {name for name in names if ".dist-info/" not in name}
    return package, {name.partition(".dist-info/")[2] for name in names} - {""}


def test_the_servers_wheel_holds_the_package_and_nothing_else(server: Path) -> None:
    """Code, types, templates, migrations, the core and the licence; no test and no Rust source."""
    package, about = contents(server)
    assert package == committed("service", "watchword") | {CORE}
    assert {PurePosixPath(name).suffix for name in package - {CORE}} == KINDS
    assert "watchword/storage/migrations/0001_initial.sql" in package
    assert "watchword/mail/templates/en/otp.txt" in package
    assert "licenses/LICENSE" in about


def test_the_clients_wheel_holds_the_package_and_nothing_else(client: Path) -> None:
    """Code, stubs, types and the licence, which is the repository's."""
    package, about = contents(client)
    assert package == committed("clients/python", "watchword_client")
    assert "licenses/LICENSE" in about
    own = ROOT / "clients/python/LICENSE"
    assert own.read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="manylinux is about Linux")
def test_the_platform_tag_holds(server: Path) -> None:
    """By the symbols that the core needs, auditwheel gives the tag that the wheel's name has."""
    command = [sys.executable, "-m", "auditwheel", "show", server]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r'following platform\s+tag:\s+"(\w+)"', shown)
    assert found, shown
    python, abi, platform = server.stem.split("-")[2:]
    assert (python, abi) == ("cp311", "abi3")
    assert platform.startswith("manylinux")
    assert found[1] in platform.split(".")


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF")
def test_the_core_is_stripped(server: Path) -> None:
    """No symbol table and no debug information are shipped."""
    core = ELFFile(BytesIO(zipfile.ZipFile(server).read(CORE)))
    names = {section.name for section in core.iter_sections()}
    assert ".symtab" not in names
    assert not [name for name in names if name.startswith(".debug")]


@pytest.fixture(scope="module")
def installed(
    server: Path, client: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Installs both into an empty environment without a compiler; gives a way to run there."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    programs = folder / "env" / "bin"
    assert not any(shutil.which(name, path=str(programs)) for name in ("cargo", "rustc", "cc"))
    # What is locked, as constraints: pip demands hashes of the wheels, too, where one is named.
    locked = re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / "requirements/dev.txt").read_text(), re.M)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(locked))

    def run(*command: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        done = subprocess.run(
            [programs / command[0], *command[1:]],
            check=False,
            cwd=folder,
            env={"HOME": os.environ["HOME"], **kept, "PATH": str(programs)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(
        *("pip", "install", "--quiet", "--only-binary", ":all:", "--constraint", str(constraints)),
        *(f"{server}[dev]", str(client)),
    )
    return run


def test_installed_without_rust_it_runs(installed: Callable[..., str]) -> None:
    """Into an empty environment without a compiler: version, nothing missing, one whole sign-in."""
    assert installed("watchword", "version").startswith("watchword ")
    assert "No broken requirements" in installed("pip", "check")
    result = json.loads(installed("watchword", "demo", "--json"))
    assert (result["validated_before_revoke"], result["validated_after_revoke"]) == (True, False)


def test_the_core_is_a_release_build(installed: Callable[..., str]) -> None:
    """What debug builds have for tests alone is not there."""
    lines = "import watchword._core as core; print(hasattr(core, 'panic_for_test'))"
    assert installed("python", "-c", lines) == "False\n"
