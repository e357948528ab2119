"""`watchword keys ...`: callers' keys in the table, beside those of the configuration."""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from watchword.audit.model import CLI
from watchword.callers.model import ServiceKey
from watchword.callers.registry import caller_name, parse_scopes
from watchword.cli.output import (
    Json,
    confirm,
    errors_told,
    fail,
    lifetime_of,
    on_database,
    show,
    show_rows,
)
from watchword.config import load_secrets
from watchword.login.key_admin import (
    confirm_service_key,
    create_service_key,
    list_all_service_keys,
    revoke_service_key,
)
from watchword.login.ports import Database
from watchword.login.present import end_after, present_time

app = typer.Typer(help="Callers' keys beside those of the configuration.", no_args_is_help=True)
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The id of a key.")]


@app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, for log and audit.")],
    scopes: Annotated[str, typer.Argument(metavar="SCOPE+SCOPE")],
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", metavar="SPAN", help="As `12h` or `90d`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key; its secret is shown this once."""
    with errors_told():
        caller, wanted = caller_name(name), parse_scopes(scopes, where="SCOPE+SCOPE ")
        lifetime = None if expires_in is None else lifetime_of(expires_in)
        ring = load_secrets(os.environ).key_ring()

    async def made(database: Database) -> dict[str, object]:
        created = await create_service_key(
            database,
            ring,
            name=caller,
            scopes=wanted,
            expire_time=await end_after(database, lifetime),
            actor=CLI,
        )
        return {"id": str(created.key.id), "secret": created.secret.reveal()}

    show(on_database(made), as_json=as_json)


@app.command("list")
def keys_list(as_json: Json = False) -> None:
    """Show every key, ended ones too, the newest first."""

    async def listed(database: Database) -> tuple[Sequence[ServiceKey], datetime]:
        return await list_all_service_keys(database), await present_time(database)

    keys, present = on_database(listed)
    show_rows(
        ("id", "name", "scopes", "state", "created", "expires", "last_used"),
        [
            (
                str(key.id),
                key.name,
                sorted(key.scopes),
                _state(key, present),
                _text(key.create_time),
                _text(key.expire_time),
                _text(key.last_used_time),
            )
            for key in keys
        ],
        as_json=as_json,
    )


@app.command("revoke")
def keys_revoke(
    key: KeyArgument, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """End a key for good; no server takes it a second later."""
    key_id = _key_id(key)
    confirm("revoke this key for good?", yes=yes)
    revoked = on_database(lambda database: revoke_service_key(database, key_id, actor=CLI))
    print("revoked" if revoked.done else "the key is revoked already")


@app.command("confirm")
def keys_confirm(key: KeyArgument) -> None:
    """Let a key be good again that waits since `watchword restore-fence`."""
    key_id = _key_id(key)
    confirmed = on_database(lambda database: confirm_service_key(database, key_id, actor=CLI))
    print("confirmed" if confirmed.done else "the key does not wait to be confirmed")


def _key_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        fail("the id of a key is a UUID", "`watchword keys list` shows them", 2)


def _state(key: ServiceKey, present: datetime) -> str:
    if key.revoke_time is not None:
        return "revoked"
    if key.expire_time is not None and key.expire_time <= present:
        return "expired"
    return "good" if key.suspend_time is None else "waits to be confirmed"


def _text(time: datetime | None) -> str:
    return "" if time is None else time.isoformat(timespec="seconds")
