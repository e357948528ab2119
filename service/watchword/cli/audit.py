"""`watchword audit ...`: who did what."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated
from uuid import UUID

import typer

from watchword.audit.model import Action, EventFilter, StoredEvent
from watchword.cli.output import Json, on_database, on_user, show_rows
from watchword.login.audit_admin import new_events, newest_events
from watchword.login.ports import Database

app = typer.Typer(help="Who did what, and what was refused.", no_args_is_help=True)

LIMIT_MAX = 10_000
COLUMNS = (
    "at",
    "action",
    "outcome",
    "count",
    "actor",
    "user_id",
    "target_kind",
    "target_id",
    "client_ip",
    "client_device_name",
    "client_user_agent",
)


@app.command("list")
def audit_list(
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="An id, username or address.")
    ] = None,
    action: Annotated[Action | None, typer.Option("--action", metavar="ACTION")] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", metavar="CALLER", help="A caller's name, or `cli`.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 50,
    as_json: Json = False,
) -> None:
    """Show events, the newest first; docs/audit.md says what each means."""

    async def listed(database: Database, user_id: UUID | None = None) -> Sequence[StoredEvent]:
        asked = EventFilter(user_id=user_id, action=action, actor=actor)
        return await newest_events(database, asked, limit=limit)

    events = on_database(listed) if user is None else on_user(user, listed)
    show_rows(COLUMNS, map(_row, events), as_json=as_json)


@app.command("tail")
def audit_tail(as_json: Json = False) -> None:
    """Show events as they come, until Ctrl-C; with `--json` one object a line."""

    async def follow(database: Database) -> None:
        async for event in new_events(database):
            if as_json:
                print(json.dumps(dict(zip(COLUMNS, _row(event), strict=True))), flush=True)
            else:
                print("  ".join(text or "-" for text in _row(event)), flush=True)

    with suppress(KeyboardInterrupt):
        on_database(follow)


def _row(event: StoredEvent) -> tuple[str, ...]:
    return (
        event.at.isoformat(timespec="milliseconds"),
        event.action,
        event.outcome,
        str(event.count),
        event.actor or "",
        "" if event.user_id is None else str(event.user_id),
        event.target_kind or "",
        event.target_id or "",
        event.client_ip or "",
        event.client_device_name or "",
        event.client_user_agent or "",
    )
