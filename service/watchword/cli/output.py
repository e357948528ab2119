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
from datetime import timedelta
from typing import Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from watchword.config import ConfigError, load_database_settings
from watchword.dev.demo import DemoFailed
from watchword.dev.postgres import DevelopmentPostgresError
from watchword.errors import (
    RoleExists,
    RoleNotFound,
    StorageUnavailable,
    UserNotFound,
    ValueRejected,
    WatchwordError,
)
from watchword.login.ports import Database
from watchword.login.user_admin import find_user_id
from watchword.mail.ports import SenderUnusable
from watchword.observability.logging import LogSettings, configure_logging
from watchword.settings import parse_duration
from watchword.storage.migrate import MigrationError
from watchword.storage.pool import DatabaseSettings, Pool
from watchword.storage.transactions import PgDatabase
from watchword.transport.server import AddressTaken

PIPE_WIDTH = 100_000
LIFETIME_MAX = timedelta(days=3650)
T = TypeVar("T")
Cell = str | int | list[str] | None

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


def on_user(user: str, change: Callable[[Database, UUID], Awaitable[T]]) -> T:
    """Runs a use case on the user of this id, username or address; ends when there is none."""

    async def found(database: Database) -> tuple[T] | None:
        user_id = await database.run_tx(lambda tx: find_user_id(tx, user))
        return None if user_id is None else (await change(database, user_id),)

    try:
        outcome = on_database(found)
    except UserNotFound:  # an id that is nobody's
        outcome = None
    if outcome is None:
        fail(f"no user `{user}`", "give an id, a username or an address")
    return outcome[0]


def confirm(question: str, *, yes: bool) -> None:
    """Asks before what cannot be undone; ends the command for anything but yes.

    Without a terminal nobody can be asked: then `--yes` has to say it.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        fail("this cannot be undone", "say so with `--yes`", 2)
    if not typer.confirm(question, err=True):
        fail("nothing was changed", "run it again to be asked again")


def lifetime_of(text: str) -> timedelta:
    """Reads `--expires-in`; raises ValueRejected."""
    try:
        lifetime = parse_duration(text)
    except ValueError as error:
        raise ValueRejected(f"`--expires-in` {error}") from None
    if not isinstance(lifetime, timedelta) or not timedelta(0) < lifetime <= LIFETIME_MAX:
        raise ValueRejected("`--expires-in` must be from `1s` to `3650d`")
    return lifetime


def sessions_text(count: int) -> str:
    """Says how many sessions."""
    return f"{count} session{'' if count == 1 else 's'}"


def show(values: dict[str, Any], *, as_json: bool) -> None:
    """Prints one thing, a line a field, or as one JSON object."""
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row(name, _cell(value))
    _print(table)


def show_rows(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, as_json: bool) -> None:
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
    if isinstance(value, bool):
        return "yes" if value else "no"
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
    except (UserNotFound, RoleExists, RoleNotFound):
        raise  # the command knows the name
    except WatchwordError as error:
        fail(str(error), "nothing was changed")
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
