"""`watchword sessions ...`: where people are signed in."""

import os
from typing import Annotated
from uuid import UUID

import typer

from watchword.audit.model import CLI
from watchword.cli.output import (
    Json,
    UserArgument,
    errors_told,
    fail,
    on_user,
    sessions_text,
    show_rows,
)
from watchword.config import load_session_policy
from watchword.login.user_admin import list_sessions_of, revoke_session_of, revoke_sessions_of

app = typer.Typer(help="Where people are signed in.", no_args_is_help=True)


@app.command("list")
def sessions_list(user: UserArgument, as_json: Json = False) -> None:
    """Show the live sessions of a user, the newest first."""
    with errors_told():
        idle_lifetime = load_session_policy(os.environ).idle_lifetime
    listed = on_user(
        user,
        lambda database, user_id: list_sessions_of(database, user_id, idle_lifetime=idle_lifetime),
    )
    show_rows(
        ("id", "signed_in", "last_seen", "ends", "ip", "device", "user_agent"),
        [
            (
                str(one.session.id),
                one.session.create_time.isoformat(timespec="seconds"),
                one.last_seen_time.isoformat(timespec="seconds"),
                one.session.expire_time.isoformat(timespec="seconds"),
                one.client.ip or "",
                one.client.device_name or "",
                one.client.user_agent or "",
            )
            for one in listed
        ],
        as_json=as_json,
    )


@app.command("revoke")
def sessions_revoke(
    user: UserArgument,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="This one alone.")
    ] = None,
) -> None:
    """End every session of a user, or one."""
    if session is None:
        ended = on_user(
            user, lambda database, user_id: revoke_sessions_of(database, user_id, actor=CLI)
        )
        print(f"ended {sessions_text(ended.count)}")
        return
    try:
        session_id = UUID(session)
    except ValueError:
        fail("the id of a session is a UUID", f"`watchword sessions list {user}` shows them", 2)
    ended = on_user(
        user,
        lambda database, user_id: revoke_session_of(database, user_id, session_id, actor=CLI),
    )
    print(f"ended {sessions_text(1)}" if ended.done else "the user has no such live session")
