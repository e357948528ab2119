"""The binary: refused when it is missing or older than its sources; panics are exceptions."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from watchword import _core

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources that count, and of `crypto.py` at its place beside them."""
    shutil.copytree(
        ROOT / "rust_core", tmp_path / "rust_core", ignore=shutil.ignore_patterns("target")
    )
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    package = tmp_path / "service" / "watchword"
    package.mkdir(parents=True)
    shutil.copy(ROOT / "service/watchword/crypto.py", package / "crypto.py")
    return tmp_path


def load(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports the copy under another name; `watchword._core` stays the real one."""
    name = "crypto_of_a_copied_tree"
    spec = importlib.util.spec_from_file_location(name, tree / "service/watchword/crypto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)


def test_unchanged_sources_are_accepted(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the sources that it was built from, the binary loads; other files do not count."""
    (tree / "rust_core/core/notes.md").write_text("not a source")
    (tree / "rust_core/core/target/debug").mkdir(parents=True)
    (tree / "rust_core/core/target/debug/made.rs").write_text("made by a build")
    load(tree, monkeypatch)


def edit(path: Path) -> None:
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed.rs"))


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (edit, "rust_core/core/src/otp.rs"),
        (edit, "rust_core/py/src/lib.rs"),
        (edit, "rust_core/py/build.rs"),
        (edit, "rust_core/core/Cargo.toml"),
        (edit, "Cargo.toml"),
        (edit, "Cargo.lock"),
        (rename, "rust_core/core/src/otp.rs"),
        (Path.unlink, "rust_core/core/src/otp.rs"),
        (Path.touch, "rust_core/core/src/added.rs"),
    ],
)
def test_changed_sources_are_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch, change: object, file: str
) -> None:
    """A source edited, renamed, gone or new since the build is an ImportError with a hint."""
    assert callable(change)
    change(tree / file)
    with pytest.raises(ImportError) as caught:
        load(tree, monkeypatch)
    expected = "the Rust core is older than its sources\nhint: run `make build`"
    assert str(caught.value) == expected


def test_installed_packages_are_not_checked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sources beside it there is nothing to be older than."""
    shutil.rmtree(tree / "rust_core")
    load(tree, monkeypatch)


def test_a_missing_binary_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its binary the module says how to make one."""
    monkeypatch.delattr("watchword._core")
    monkeypatch.setitem(sys.modules, "watchword._core", None)
    with pytest.raises(ImportError, match="hint: run `make build`"):
        load(tree, monkeypatch)


@pytest.mark.skipif(not hasattr(_core, "panic_for_test"), reason="a release build has no panics")
def test_a_panic_is_an_exception() -> None:
    """A Rust panic arrives as a BaseException that is no Exception, and the process lives."""
    with pytest.raises(BaseException, match="a panic for a test") as caught:
        _core.panic_for_test()
    assert not isinstance(caught.value, Exception)
