"""`watchword users ...`: people with an account."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from watchword.audit.model import CLI
from watchword.cli import user_files
from watchword.cli.output import (
    Json,
    UserArgument,
    confirm,
    errors_told,
    on_database,
    on_user,
    sessions_text,
    show,
    show_rows,
)
from watchword.errors import ValueRejected
from watchword.login.user_admin import (
    create_user,
    delete_user,
    disable_user,
    enable_user,
    get_user,
    list_some_users,
)
from watchword.mail import locales
from watchword.users import rules
from watchword.users.model import UserState

app = typer.Typer(help="People with an account.", no_args_is_help=True)
LIMIT_MAX = 100_000
T = TypeVar("T")

app.command("export")(user_files.users_export)
app.command("import")(user_files.users_import)


@app.command("list")
def users_list(
    state: Annotated[UserState | None, typer.Option("--state")] = None,
    role: Annotated[str | None, typer.Option("--role", help="Only who holds this role.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX)] = 100,
    as_json: Json = False,
) -> None:
    """Show users, in no order that means anything; `export` has all of them."""
    users = on_database(
        lambda database: list_some_users(database, state=state, role=role, limit=limit)
    )
    show_rows(
        ("id", "username", "full_name", "email", "state", "created"),
        [
            (
                str(one.user.id),
                one.user.username,
                one.user.full_name,
                one.user.email,
                str(one.user.state),
                one.create_time.isoformat(timespec="seconds"),
            )
            for one in users
        ],
        as_json=as_json,
    )


@app.command("show")
def users_show(user: UserArgument, as_json: Json = False) -> None:
    """Show a user, the roles held and what they allow."""
    found = on_user(user, get_user)
    shown = found.managed.user
    show(
        {
            "id": str(shown.id),
            "username": shown.username,
            "full_name": shown.full_name,
            "email": shown.email,
            "locale": shown.locale,
            "state": str(shown.state),
            "roles": [assignment.role for assignment in found.roles],
            "permissions": list(found.permissions),
        },
        as_json=as_json,
    )


@app.command("create")
def users_create(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    username: Annotated[str, typer.Option("--username")],
    full_name: Annotated[str, typer.Option("--full-name")],
    locale: Annotated[str | None, typer.Option("--locale", help="As `de`.")] = None,
) -> None:
    """Make an account; nothing is mailed, and the address counts as proved."""
    with errors_told():
        if locale is not None and locales.malformed(locale):
            raise ValueRejected("`--locale` must be a BCP 47 language tag like `de` or `pt-BR`")
        address = _read("EMAIL", rules.email, email)
        name = _read("`--username`", rules.username, username)
        full = _read("`--full-name`", rules.full_name, full_name)
    made, _ = on_database(
        lambda database: create_user(
            database, full_name=full, username=name, email=address, locale=locale, actor=CLI
        )
    )
    print(f"created `{made.user.username}` with the id {made.user.id}")


@app.command("disable")
def users_disable(user: UserArgument) -> None:
    """Keep a user from signing in, and end every session of theirs."""
    disabled = on_user(user, lambda database, user_id: disable_user(database, user_id, actor=CLI))
    done = f"disabled, {sessions_text(disabled.count)} ended"
    print(done if disabled.done else "the user is disabled already")


@app.command("enable")
def users_enable(user: UserArgument) -> None:
    """Let a disabled user sign in again."""
    enabled = on_user(user, lambda database, user_id: enable_user(database, user_id, actor=CLI))
    print("enabled" if enabled.done else "the user is not disabled")


@app.command("delete")
def users_delete(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a user with sessions and roles; address and username are free at once."""
    confirm(f"delete `{user}` for good?", yes=yes)
    deleted = on_user(user, lambda database, user_id: delete_user(database, user_id, actor=CLI))
    print(f"deleted, {sessions_text(deleted.count)} ended")


def _read(what: str, rule: Callable[[str], T], text: str) -> T:
    try:
        return rule(text)
    except ValueRejected as error:
        raise ValueRejected(f"{what} {error}") from None
