"""The command line: `watchword ...`; one module for each group of commands."""

import typer

from watchword.cli import roles, secrets, server, users

app = typer.Typer(
    help="Sign-in by one-time codes, sessions and roles, over gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(server.app)
app.add_typer(secrets.app, name="secrets")
app.add_typer(users.app, name="users")
app.add_typer(roles.app, name="roles")


def main() -> None:
    """The entry point of the command."""
    app()
