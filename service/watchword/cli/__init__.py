"""The command line: `watchword ...`; one module for each group of commands.

A command's module is imported when the command is run: `healthcheck`, which a container runs every
few seconds, needs neither the driver nor the settings of everything.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

# The module that has each command, in the order of `--help`.
_COMMANDS: Final = {
    "serve": "server",
    "dev": "server",
    "demo": "server",
    "migrate": "server",
    "doctor": "doctor",
    "healthcheck": "healthcheck",
    "restore-fence": "fence",
    "version": "server",
}
_GROUPS: Final = ("config", "secrets", "users", "sessions", "roles", "keys", "audit")


class _Commands(Mapping[str, Any]):
    """Every command by its name, made when it is asked for."""

    def __iter__(self) -> Iterator[str]:
        return iter((*_COMMANDS, *_GROUPS))

    def __len__(self) -> int:
        return len(_COMMANDS) + len(_GROUPS)

    def __getitem__(self, name: str) -> Any:
        module = name if name in _GROUPS else _COMMANDS[name]
        try:
            group = get_group(import_module(f"watchword.cli.{module}").app)
        except ImportError as error:
            # A core that is missing or stale says what to do; anything else is a defect.
            message, _, hint = str(error).partition("\nhint: ")
            if not hint:
                raise
            print(f"error: {message}\nhint: {hint}", file=sys.stderr)
            raise typer.Exit(1) from None
        if name not in _GROUPS:
            return group.commands[name]
        group.name = name
        return group


class _LazyGroup(TyperGroup):
    """The commands, each imported when it is run or listed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing is ever added to it


app = typer.Typer(
    cls=_LazyGroup,
    help="Sign-in by one-time codes, sessions and roles, over gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _watchword() -> None:
    """Makes this a group, though no command is registered here."""


def main() -> None:
    """The entry point of the command."""
    # gRPC's core writes lines of its own, about a taken port for one, which is told better; and its
    # handlers for a fork crash children that only exec, such as those of `dev`.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    app()
