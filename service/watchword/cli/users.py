"""`watchword users ...`: people with an account."""

import typer

from watchword.cli.output import Json, UserArgument, fail, on_database, show
from watchword.login.admin import find_user

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
