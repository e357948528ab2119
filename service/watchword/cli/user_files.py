"""`watchword users export` and `watchword users import`: everybody, as lines of JSON.

Nothing but lines goes to stdout when an export is written there; counts, refused lines and the
progress go to stderr. The commands are added to `watchword users` by users.py.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress

from watchword.audit.model import CLI
from watchword.cli.output import errors_told, fail, on_database
from watchword.crypto import SLOTS
from watchword.login.ports import Database
from watchword.login.user_export import export_users
from watchword.login.user_import import ImportCounts, import_users
from watchword.login.user_lines import lines_of

STANDARD: Final = "-"
T = TypeVar("T")


def users_export(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="Made with mode 0600; `-` is stdout.")
    ] = STANDARD,
) -> None:
    """Write every user with the roles held, a line of JSON each; `import` reads it."""

    async def exported(database: Database, stream: BinaryIO) -> int:
        with _bar(shown=not stream.isatty()) as bar:
            task = bar.add_task("exporting", total=SLOTS)
            count = await export_users(
                database,
                stream.write,
                progress=lambda done: bar.update(task, completed=done),
            )
        stream.flush()
        return count

    with errors_told(), _written(file) as stream:
        count = on_database(lambda database: _until_closed(exported(database, stream)))
    print(f"exported {count}", file=sys.stderr)


def users_import(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Lines of JSON; `-` is stdin.")],
) -> None:
    """Make the users of a file; an address that has an account is left as it is.

    Refused lines are told with their numbers, the others are imported; exit code 1 when there are
    any. Whatever was cut off may be run again and goes on.
    """
    counts = ImportCounts()

    async def imported(database: Database, stream: BinaryIO, size: int) -> None:
        with _bar(shown=size > 0) as bar:
            task = bar.add_task("importing", total=size)

            def progress() -> None:
                if size:
                    bar.update(task, completed=stream.tell())

            await import_users(
                database,
                lines_of(stream),
                actor=CLI,
                counts=counts,
                refused=_tell,
                progress=progress,
            )

    with _opened(file) as (stream, size):
        try:
            on_database(lambda database: imported(database, stream, size))
        except BaseException:
            print(f"stopped: {_text(counts)}; run it again to go on", file=sys.stderr)
            raise
    print(_text(counts))
    if counts.refused:
        raise typer.Exit(1)


def _tell(number: int, reason: str) -> None:
    print(f"line {number}: {reason}", file=sys.stderr)


def _text(counts: ImportCounts) -> str:
    return (
        f"imported {counts.imported}, already there {counts.already_there}, "
        f"refused {counts.refused}"
    )


async def _until_closed(work: Awaitable[T]) -> T:
    """Ends the command quietly when whoever reads stdout has enough."""
    try:
        return await work
    except BrokenPipeError:
        # What is left in the buffer is written at the exit, and has to go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


def _bar(*, shown: bool) -> Progress:
    console = Console(stderr=True)
    # Only what is written to stderr is put above the bar: results go to stdout as they are.
    return Progress(
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
        redirect_stdout=False,
    )


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int]]:
    """Opens what is to be read, and says how many bytes it has; 0 where that is not known."""
    if file == STANDARD:
        yield sys.stdin.buffer, 0
        return
    try:
        descriptor = os.open(file, os.O_RDONLY)
        about = os.fstat(descriptor)
        stream = os.fdopen(descriptor, "rb")  # not of a folder
    except OSError as error:
        fail(str(error), "look whether the file is there and may be read")
    with stream:
        yield stream, about.st_size if stat.S_ISREG(about.st_mode) else 0


@contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Opens what is to be written; a file gets its name when all of it is there."""
    path = Path(file).resolve()
    if file == STANDARD:
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():
        with path.open("wb") as stream:  # a device or a pipe
            yield stream
    else:
        # Of mode 0600, whatever a file that is there has.
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(descriptor)
            Path(made).replace(path)
        except BaseException:
            Path(made).unlink()
            raise
