"""The command line: `watchword ...`.

Messages start in lower case and have no full stop; an error ends with a `hint:` line and exit code
1, wrong configuration or usage with 2. Results go to stdout, everything else to stderr.
"""

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from watchword.app import App, run_until_signal
from watchword.callers.registry import NAME, parse_scopes
from watchword.config import Config, ConfigError, load_config, load_database_settings, load_secrets
from watchword.dev.demo import DemoFailed, run_demo
from watchword.dev.postgres import DevelopmentPostgresError
from watchword.dev.ready import ready_file, write_ready_file
from watchword.dev.server import DevOptions, run_dev
from watchword.errors import StorageUnavailable, ValueRejected
from watchword.keyring import caller_entry, generate_secrets
from watchword.login.admin import Assigned, assign_role, create_role, find_user
from watchword.login.ports import Database
from watchword.mail.ports import SenderUnusable
from watchword.observability.logging import LogSettings, configure_logging
from watchword.roles import rules as role_rules
from watchword.storage.migrate import MigrationError, check, migrate
from watchword.storage.pool import DatabaseSettings, Pool
from watchword.storage.transactions import PgDatabase
from watchword.transport.server import AddressTaken

T = TypeVar("T")

app = typer.Typer(
    help="Sign-in by one-time codes, sessions and roles, over gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
secrets_app = typer.Typer(help="Keys of an installation.", no_args_is_help=True)
users_app = typer.Typer(help="People with an account.", no_args_is_help=True)
roles_app = typer.Typer(help="Roles and who holds them.", no_args_is_help=True)
app.add_typer(secrets_app, name="secrets")
app.add_typer(users_app, name="users")
app.add_typer(roles_app, name="roles")

Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="An id, username or address.")]


def main() -> None:
    """The entry point of the command."""
    app()


@app.command()
def serve(
    ready: Annotated[
        Path | None,
        typer.Option("--ready-file", help="JSON with addresses and keys, while it answers."),
    ] = None,
) -> None:
    """Serve until SIGTERM; configured by WATCHWORD_* variables."""
    with _errors_told(), ready_file(ready):
        config = load_config(os.environ, required=["MAIL__SENDERS"])
        configure_logging(config.log)

        def announce(running: App) -> None:
            if ready is not None:
                write_ready_file(ready, running, config)

        asyncio.run(_serve(config, announce))


async def _serve(config: Config, announce: Callable[[App], None]) -> None:
    # Made inside the loop: grpc.aio binds to the one that it finds.
    await run_until_signal(App(config), on_ready=announce)


@app.command()
def dev(
    ephemeral: Annotated[
        bool, typer.Option(help="Temporary database, a free port, nothing kept.")
    ] = False,
    database_url: Annotated[
        str | None, typer.Option(help="A PostgreSQL of yours on this machine.")
    ] = None,
    mail_dir: Annotated[Path | None, typer.Option(help="Folder for the mails.")] = None,
    ready: Annotated[
        Path | None,
        typer.Option("--ready-file", help="JSON with addresses and keys, while it answers."),
    ] = None,
) -> None:
    """Run everything on this machine: PostgreSQL, mail on the console, a demo user."""
    options = DevOptions(
        ephemeral=ephemeral, database_url=database_url, mail_dir=mail_dir, ready_file=ready
    )
    with _errors_told():
        asyncio.run(run_dev(options, os.environ))


@app.command()
def demo(as_json: Json = False) -> None:
    """Show one whole sign-in: register, code by mail, session, roles, sign-out."""
    with _errors_told():
        result = asyncio.run(run_demo(quiet=as_json))
        if as_json:
            print(json.dumps(dataclasses.asdict(result)))


@app.command("migrate")
def migrate_command(
    check_only: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when something is pending.")
    ] = False,
) -> None:
    """Bring the schema of WATCHWORD_DATABASE__URL up to date."""
    with _errors_told():
        url = load_database_settings(os.environ).url.get_secret_value()
        migrations = asyncio.run(check(url) if check_only else migrate(url))
        for migration in migrations:
            word = "pending" if check_only else "applied"
            print(f"{word} {migration.version:04}_{migration.name}")
        if not migrations:
            print("the schema is up to date")
        if check_only and migrations:
            raise typer.Exit(1)


@app.command()
def version() -> None:
    """Show the version."""
    print(f"watchword {installed_version('watchword')}")


@secrets_app.command("generate")
def secrets_generate(
    caller: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:SCOPE+SCOPE",
            help="Only a further caller key, made with the index key of the environment.",
        ),
    ] = None,
) -> None:
    """Print environment lines: key ring, index key and a caller key with every scope."""
    with _errors_told():
        if caller is None:
            for name, value in generate_secrets().items():
                print(f"{name}={value}")
            return
        name, _, scopes = caller.partition(":")
        if not NAME.fullmatch(name):
            raise ValueRejected("`--caller` must begin with a name of `a-z 0-9 . _ -` and a colon")
        keys = load_secrets(os.environ).key_ring()
        entry = caller_entry(keys, name, sorted(parse_scopes(scopes, where="`--caller` ")))
        print(f"WATCHWORD_CALLERS__KEYS={entry}")


@users_app.command("show")
def users_show(user: UserArgument, as_json: Json = False) -> None:
    """Show a user and what it may do."""
    found = _on_database(lambda database: find_user(database, user))
    if found is None:
        _fail(f"no user `{user}`", "give an id, a username or an address")
    shown, grants = found
    _show(
        {
            "id": str(shown.id),
            "username": shown.username,
            "full_name": shown.full_name,
            "email": shown.email,
            "locale": shown.locale,
            "state": str(shown.state),
            "roles": list(grants.roles),
            "permissions": list(grants.permissions),
        },
        as_json=as_json,
    )


@roles_app.command("create")
def roles_create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="May be given several times.")
    ] = None,
) -> None:
    """Make a role with its permissions."""
    with _errors_told():
        for kind, text in [("role", name), *(("permission", p) for p in permission or ())]:
            try:
                role_rules.name(text)
            except ValueRejected as error:
                raise ValueRejected(f"the name of the {kind} {error}") from None
    made = _on_database(lambda database: create_role(database, name, permission or ()))
    if not made:
        _fail(f"there is a role `{name}` already", "it stays as it is; choose another name")
    print(f"created role `{name}`")


@roles_app.command("assign")
def roles_assign(user: UserArgument, role: Annotated[str, typer.Argument(metavar="ROLE")]) -> None:
    """Give a role to a user."""

    async def assign(database: Database) -> Assigned | None:
        found = await find_user(database, user)
        return None if found is None else await assign_role(database, role, found[0].id)

    outcome = _on_database(assign)
    if outcome is None:
        _fail(f"no user `{user}`", "give an id, a username or an address")
    if outcome is Assigned.NO_SUCH_ROLE:
        _fail(f"no role `{role}`", f"make it with `watchword roles create {role}`")
    print("the user holds it already" if outcome is Assigned.ALREADY else f"assigned `{role}`")


def _on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Runs a use case on the database of the environment."""

    async def connected(settings: DatabaseSettings) -> T:
        pool = Pool(settings)
        await pool.open()
        try:
            return await work(PgDatabase(pool))
        finally:
            await pool.close()

    with _errors_told():
        configure_logging(LogSettings(level="warning"))
        return asyncio.run(connected(load_database_settings(os.environ)))


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        text = ", ".join(value) if isinstance(value, list) else value
        table.add_row(name, "-" if text in (None, "") else str(text))
    Console(highlight=False, markup=False).print(table)


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turns what an operator can mend into a message with a hint; defects keep their traceback."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        _fail("", "`watchword secrets generate` makes keys; README.md has a whole environment", 2)
    except ValueRejected as error:
        _fail(str(error), "see `--help`", 2)
    except (MigrationError, DevelopmentPostgresError, AddressTaken, SenderUnusable) as error:
        message, _, hint = str(error).partition("\nhint: ")
        _fail(message, hint)
    except DemoFailed as error:
        _fail(str(error), "run it again with a clean `make build`")
    except (StorageUnavailable, asyncpg.PostgresError) as error:
        _fail(
            f"the database cannot be used: {error.__cause__ or error}",
            "look at WATCHWORD_DATABASE__URL, and whether `watchword migrate` has run",
        )
    except OSError as error:
        _fail(str(error), "look whether the path is there and may be written")


def _fail(message: str, hint: str, code: int = 1) -> NoReturn:
    if message:
        print(f"error: {message}", file=sys.stderr)
    print(f"hint: {hint}", file=sys.stderr)
    raise typer.Exit(code)
