"""`watchword users ...`: people with an account."""

from typing import Annotated

import typer

from watchword.cli.output import (
    Json,
    UserArgument,
    confirm,
    fail,
    on_database,
    on_user,
    sessions_text,
    show,
)
from watchword.login.admin import find_user
from watchword.login.user_admin import delete_user, disable_user, enable_user

app = typer.Typer(help="People with an account.", no_args_is_help=True)


@app.command("show")
def users_show(user: UserArgument, as_json: Json = False) -> None:
    """Show a user and what it may do."""
    found = on_database(lambda database: find_user(database, user))
    if found is None:
        fail(f"no user `{user}`", "give an id, a username or an address")
    shown, grants = found
    show(
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


@app.command("disable")
def users_disable(user: UserArgument) -> None:
    """Keep a user from signing in, and end every session of theirs."""
    ended = on_user(user, disable_user)
    done = None if ended is None else f"disabled, {sessions_text(ended)} ended"
    print(done or "the user is disabled already")


@app.command("enable")
def users_enable(user: UserArgument) -> None:
    """Let a disabled user sign in again."""
    print("enabled" if on_user(user, enable_user) else "the user is not disabled")


@app.command("delete")
def users_delete(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a user with sessions and roles; address and username are free at once."""
    confirm(f"delete `{user}` for good?", yes=yes)
    ended = on_user(user, delete_user)
    print("the user is gone already" if ended is None else f"deleted, {sessions_text(ended)} ended")
