"""What every command shares: options, the way to the database, results and errors.

Messages start in lower case and have no full stop; an error ends with a `hint:` line and exit code
1, wrong configuration or usage with 2. Results go to stdout, everything else to stderr.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from watchword.config import ConfigError, load_database_settings
from watchword.dev.demo import DemoFailed
from watchword.dev.postgres import DevelopmentPostgresError
from watchword.errors import StorageUnavailable, ValueRejected
from watchword.login.ports import Database
from watchword.mail.ports import SenderUnusable
from watchword.observability.logging import LogSettings, configure_logging
from watchword.storage.migrate import MigrationError
from watchword.storage.pool import DatabaseSettings, Pool
from watchword.storage.transactions import PgDatabase
from watchword.transport.server import AddressTaken

PIPE_WIDTH = 100_000
T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="An id, username or address.")]


def on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Runs a use case on the database of the environment."""

    async def connected(settings: DatabaseSettings) -> T:
        pool = Pool(settings)
        await pool.open()
        try:
            return await work(PgDatabase(pool))
        finally:
            await pool.close()

    with errors_told():
        configure_logging(LogSettings(level="error"))  # what went wrong is told once
        return asyncio.run(connected(load_database_settings(os.environ)))


def show(values: dict[str, Any], *, as_json: bool) -> None:
    """Prints one thing, a line a field, or as one JSON object."""
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row(name, _cell(value))
    _print(table)


def show_rows(
    columns: Sequence[str], rows: Iterable[Sequence[str | list[str]]], *, as_json: bool
) -> None:
    """Prints a listing, a line a row, or as one JSON array of objects."""
    if as_json:
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        print(json.dumps(objects, ensure_ascii=False))
        return
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    _print(table)


def _print(table: Table) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # Programs read lines: only a terminal's width folds a cell.
        console.width = PIPE_WIDTH
    console.print(table)


def _cell(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else value
    return "-" if text in (None, "") else str(text)


@contextmanager
def errors_told() -> Iterator[None]:
    """Turns what an operator can mend into a message with a hint; defects keep their traceback."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        fail("", _where_from(error.problems), 2)
    except ValueRejected as error:
        fail(str(error), "see `--help`", 2)
    except (MigrationError, DevelopmentPostgresError, AddressTaken, SenderUnusable) as error:
        message, _, hint = str(error).partition("\nhint: ")
        fail(message, hint)
    except DemoFailed as error:
        fail(str(error), "run it again with a clean `make build`")
    except (StorageUnavailable, asyncpg.PostgresError) as error:
        fail(
            f"the database cannot be used: {error.__cause__ or error}",
            "look at WATCHWORD_DATABASE__URL, and whether `watchword migrate` has run; the URL of "
            "`watchword dev` changes with every start",
        )
    except OSError as error:
        fail(str(error), "look whether the path is there and may be written")


def _where_from(problems: Sequence[str]) -> str:
    """Says how a wrong environment is mended."""
    if any(re.search("(KEYS|INDEX_KEY)` is required", problem) for problem in problems):
        return "`watchword secrets generate` makes keys; docs/configuration.md has every variable"
    return "docs/configuration.md has every variable with what it accepts"


def fail(message: str, hint: str, code: int = 1) -> NoReturn:
    """Ends the command with a message and what to do."""
    if message:
        print(f"error: {message}", file=sys.stderr)
    print(f"hint: {hint}", file=sys.stderr)
    raise typer.Exit(code)
