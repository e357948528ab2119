"""`watchword serve`, `dev`, `demo`, `migrate` and `version`."""

import asyncio
import dataclasses
import json
import os
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from watchword.app import App, run_until_signal
from watchword.cli.output import Json, errors_told
from watchword.config import REQUIRED_BY_SERVE, Config, load_config, load_database_settings
from watchword.dev.demo import run_demo
from watchword.dev.ready import ready_file, write_ready_file
from watchword.dev.server import DevOptions, run_dev
from watchword.observability.logging import configure_logging
from watchword.storage.migrate import check, migrate

app = typer.Typer()


@app.command()
def serve(
    ready: Annotated[
        Path | None,
        typer.Option("--ready-file", help="JSON with addresses and keys, while it answers."),
    ] = None,
) -> None:
    """Serve until SIGTERM; configured by WATCHWORD_* variables."""
    with errors_told(), ready_file(ready):
        config = load_config(os.environ, required=REQUIRED_BY_SERVE)
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
        bool, typer.Option(help="Temporary database, free ports, nothing kept.")
    ] = False,
    port_offset: Annotated[
        int,
        typer.Option(
            metavar="N", help="Add N to every default port; an address of the environment stays."
        ),
    ] = 0,
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
        ephemeral=ephemeral,
        port_offset=port_offset,
        database_url=database_url,
        mail_dir=mail_dir,
        ready_file=ready,
    )
    with errors_told():
        asyncio.run(run_dev(options, os.environ))


@app.command()
def demo(as_json: Json = False) -> None:
    """Show one whole sign-in: register, code by mail, session, roles, sign-out."""
    with errors_told():
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
    with errors_told():
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
