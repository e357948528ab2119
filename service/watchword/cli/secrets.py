"""`watchword secrets ...`: keys of an installation."""

import os
from typing import Annotated

import typer

from watchword.callers.registry import NAME, RESERVED_NAMES, parse_scopes
from watchword.cli.output import errors_told
from watchword.config import load_secrets
from watchword.errors import ValueRejected
from watchword.keyring import caller_entry, generate_secrets

app = typer.Typer(help="Keys of an installation.", no_args_is_help=True)


@app.command("generate")
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
    with errors_told():
        if caller is None:
            for name, value in generate_secrets().items():
                print(f"{name}={value}")
            return
        name, _, scopes = caller.partition(":")
        if not NAME.fullmatch(name):
            raise ValueRejected("`--caller` must begin with a name of `a-z 0-9 . _ -` and a colon")
        if name in RESERVED_NAMES:
            raise ValueRejected(f"`--caller` has the reserved name `{name}`; choose another")
        keys = load_secrets(os.environ).key_ring()
        entry = caller_entry(keys, name, sorted(parse_scopes(scopes, where="`--caller` ")))
        print(f"WATCHWORD_CALLERS__KEYS={entry}")
