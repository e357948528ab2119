"""`watchword roles ...`: roles and who holds them."""

from datetime import timedelta
from typing import Annotated

import typer

from watchword.cli.output import (
    Json,
    UserArgument,
    errors_told,
    fail,
    on_database,
    on_user,
    show_rows,
)
from watchword.errors import ValueRejected
from watchword.login.admin import (
    Assigned,
    Unassigned,
    assign_role,
    create_role,
    list_roles,
    unassign_role,
)
from watchword.roles import rules as role_rules
from watchword.settings import parse_duration

app = typer.Typer(help="Roles and who holds them.", no_args_is_help=True)
LIFETIME_MAX = timedelta(days=3650)
REASON_MAX = 200
RoleArgument = Annotated[str, typer.Argument(metavar="ROLE")]


@app.command("create")
def roles_create(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    permission: Annotated[
        list[str] | None, typer.Option("--permission", help="May be given several times.")
    ] = None,
) -> None:
    """Make a role with its permissions."""
    with errors_told():
        for kind, text in [("role", name), *(("permission", p) for p in permission or ())]:
            try:
                role_rules.name(text)
            except ValueRejected as error:
                raise ValueRejected(f"the name of the {kind} {error}") from None
    made = on_database(lambda database: create_role(database, name, permission or ()))
    if not made:
        fail(f"there is a role `{name}` already", "it stays as it is; choose another name")
    print(f"created role `{name}`")


@app.command("assign")
def roles_assign(
    user: UserArgument,
    role: RoleArgument,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", metavar="SPAN", help="As `12h` or `30d`.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Kept with it.")] = None,
) -> None:
    """Give a role to a user, for good or for a while."""
    with errors_told():
        lifetime = None if expires_in is None else _lifetime(expires_in)
        if reason is not None and not 0 < len(reason) <= REASON_MAX:
            raise ValueRejected(f"the reason must have 1 to {REASON_MAX} characters")
    outcome = on_user(
        user,
        lambda database, user_id: assign_role(
            database, role, user_id, lifetime=lifetime, reason=reason
        ),
    )
    if outcome is Assigned.NO_SUCH_ROLE:
        fail(f"no role `{role}`", f"make it with `watchword roles create {role}`")
    print("the user holds it already" if outcome is Assigned.ALREADY else f"assigned `{role}`")


def _lifetime(text: str) -> timedelta:
    try:
        lifetime = parse_duration(text)
    except ValueError as error:
        raise ValueRejected(f"`--expires-in` {error}") from None
    if not isinstance(lifetime, timedelta) or not timedelta(0) < lifetime <= LIFETIME_MAX:
        raise ValueRejected("`--expires-in` must be from `1s` to `3650d`")
    return lifetime


@app.command("unassign")
def roles_unassign(user: UserArgument, role: RoleArgument) -> None:
    """Take a role from a user."""
    outcome = on_user(user, lambda database, user_id: unassign_role(database, role, user_id))
    if outcome is Unassigned.NO_SUCH_ROLE:
        fail(f"no role `{role}`", "`watchword roles list` shows those that there are")
    held = outcome is Unassigned.NOW
    print(f"unassigned `{role}`" if held else "the user does not hold it")


@app.command("list")
def roles_list(as_json: Json = False) -> None:
    """Show every role with its permissions."""
    roles = on_database(list_roles)
    show_rows(
        ("name", "permissions"),
        [(role.name, list(role.permissions)) for role in roles],
        as_json=as_json,
    )
