"""`watchword secrets ...`: keys of an installation."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from watchword.callers.registry import NAME, RESERVED_NAMES, parse_scopes
from watchword.cli.output import Json, errors_told, on_database, show_rows
from watchword.config import load_secrets, load_session_policy
from watchword.errors import ValueRejected
from watchword.keyring import caller_entry, generate_secrets
from watchword.login.key_status import KeyStatus, Position, key_status

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


@app.command("status")
def secrets_status(as_json: Json = False) -> None:
    """Show what each key of the ring is still needed for, and which may go."""
    with errors_told():
        ring = load_secrets(os.environ).key_ids()
        idle_lifetime = load_session_policy(os.environ).idle_lifetime
    status = on_database(lambda database: key_status(database, ring, idle_lifetime=idle_lifetime))
    show_rows(
        ("key", "position", "sessions", "challenges", "last_end", "removable"),
        [
            (
                one.key_id,
                str(one.position),
                one.sessions,
                one.challenges,
                None
                if one.last_end_time is None
                else one.last_end_time.isoformat(timespec="seconds"),
                one.removable,
            )
            for one in status
        ],
        as_json=as_json,
    )
    _tell_missing(status)


def _tell_missing(status: Sequence[KeyStatus]) -> None:
    """Says on stderr whom the ring refuses."""
    missing = [one for one in status if one.position is Position.NOT_IN_RING]
    for one in missing:
        print(
            f"warning: key {one.key_id} is not in the ring: {one.sessions} live sessions and "
            f"{one.challenges} live challenges of it cannot be validated",
            file=sys.stderr,
        )
    if missing:
        print(
            "hint: unless it was dropped on purpose, put the key back, last in "
            "`WATCHWORD_SECRETS__KEYS`",
            file=sys.stderr,
        )
