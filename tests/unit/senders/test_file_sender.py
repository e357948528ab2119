"""The file sender beyond the contract."""

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.mails import hand_over
from watchword.mail.message import Mailbox, Message, to_bytes
from watchword.mail.ports import SenderUnusable, SendFailed
from watchword.senders.file import FileSender

MESSAGE = Message(
    id=UUID("01890a5d-ac96-8774-bcce-b302099a8057"),
    sender=Mailbox("Acme", "no-reply@acme.example"),
    recipient="ada@example.org",
    subject="012345 is your Acme code",
    text="012345 is your Acme sign-in code.\n",
    html="<p>012345</p>\n",
    locale="en",
    date=datetime(2026, 1, 2, tzinfo=UTC),
)


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_file_is_named_by_the_outbox_id(tmp_path: Path) -> None:
    """The folder holds `<outbox id>.eml` with the mail's bytes, for the owner alone, no rest."""
    await hand_over(FileSender(tmp_path), MESSAGE)
    (path,) = tmp_path.iterdir()
    assert path.name == "01890a5d-ac96-8774-bcce-b302099a8057.eml"
    assert path.read_bytes() == to_bytes(MESSAGE)
    assert mode(path) == 0o600


async def test_the_same_id_replaces_its_file(tmp_path: Path) -> None:
    """A repeat leaves one file, with the last content and its own permissions."""
    sender = FileSender(tmp_path)
    await hand_over(sender, MESSAGE)
    (path,) = tmp_path.iterdir()
    path.chmod(0o644)
    again = replace(MESSAGE, text="again\n")
    await hand_over(sender, again)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == to_bytes(again)
    assert mode(path) == 0o600


async def test_the_name_appears_with_the_whole_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the content is on the disk, no `.eml` exists for a watching program to read half."""
    sender = FileSender(tmp_path)
    seen: list[list[str]] = []
    fsync = os.fsync

    def look(handle: int) -> None:
        fsync(handle)
        seen.append([path.suffix for path in tmp_path.iterdir()])

    monkeypatch.setattr(os, "fsync", look)
    await hand_over(sender, MESSAGE)
    assert seen == [[".tmp"]]


async def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails is SendFailed and its unfinished file is gone; an older mail stays."""
    sender = FileSender(tmp_path)
    await hand_over(sender, MESSAGE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SendFailed, match="No space left on device"):
        await hand_over(sender, replace(MESSAGE, text="again\n"))
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == to_bytes(MESSAGE)


def test_a_missing_folder_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    """The folder and the ones above it are made; mails with codes are nobody else's."""
    folder = tmp_path / "state" / "mails"
    FileSender(folder)
    assert mode(folder) == 0o700
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("below", ["taken", "taken/mails"])
def test_a_folder_that_cannot_be_written_fails_at_once(tmp_path: Path, below: str) -> None:
    """A wrong folder stops the start, named and with a hint, instead of failing each mail."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SenderUnusable, match=r"(?s)taken.*can't be written: .*\nhint: "):
        FileSender(tmp_path / below)
