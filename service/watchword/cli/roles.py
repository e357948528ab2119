"""`watchword roles ...`: roles and who holds them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer

from watchword.audit.model import CLI
from watchword.cli.output import (
    Json,
    UserArgument,
    confirm,
    errors_told,
    fail,
    lifetime_of,
    on_database,
    on_user,
    show_rows,
)
from watchword.errors import RoleExists, RoleNotFound, ValueRejected
from watchword.login.mutations import Mutation
from watchword.login.ports import Database
from watchword.login.present import end_after
from watchword.login.role_admin import (
    assign_role,
    create_role,
    delete_role,
    list_all_roles,
    unassign_role,
    update_role,
)
from watchword.roles import rules as role_rules

app = typer.Typer(help="Roles and who holds them.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
RoleArgument = Annotated[str, typer.Argument(metavar="ROLE")]
Permissions = Annotated[
    list[str] | None, typer.Option("--permission", help="May be given several times.")
]


@app.command("create")
def roles_create(name: NameArgument, permission: Permissions = None) -> None:
    """Make a role with its permissions."""
    permissions = _checked(name, permission)
    with _named(name):
        on_database(lambda database: create_role(database, name, permissions, actor=CLI))
    print(f"created role `{name}`")


@app.command("update")
def roles_update(name: NameArgument, permission: Permissions = None) -> None:
    """Replace the permissions of a role by these."""
    permissions = _checked(name, permission)
    with _named(name):
        updated = on_database(lambda database: update_role(database, name, permissions, actor=CLI))
    print(f"updated role `{name}`" if updated.done else "the role has these permissions already")


@app.command("delete")
def roles_delete(
    name: NameArgument, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a role, and take it from everybody."""
    confirm(f"delete role `{name}` and take it from everybody?", yes=yes)
    with _named(name):
        on_database(lambda database: delete_role(database, name, actor=CLI))
    print(f"deleted role `{name}`")


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
        lifetime = None if expires_in is None else lifetime_of(expires_in)
        try:
            why = role_rules.reason(reason or "")
        except ValueRejected as error:
            raise ValueRejected(f"`--reason` {error}") from None

    async def assigned(database: Database, user_id: UUID) -> Mutation:
        end = await end_after(database, lifetime)
        return await assign_role(database, role, user_id, expire_time=end, reason=why, actor=CLI)

    with _named(role):
        given = on_user(user, assigned)
    print(f"assigned `{role}`" if given.done else "the user holds it already")


@app.command("unassign")
def roles_unassign(user: UserArgument, role: RoleArgument) -> None:
    """Take a role from a user."""
    with _named(role):
        taken = on_user(
            user, lambda database, user_id: unassign_role(database, role, user_id, actor=CLI)
        )
    print(f"unassigned `{role}`" if taken.done else "the user does not hold it")


@app.command("list")
def roles_list(as_json: Json = False) -> None:
    """Show every role with its permissions."""
    roles = on_database(list_all_roles)
    show_rows(
        ("name", "permissions"),
        [(role.name, list(role.permissions)) for role in roles],
        as_json=as_json,
    )


def _checked(name: str, permissions: Sequence[str] | None) -> Sequence[str]:
    with errors_told():
        if len(permissions or ()) > role_rules.PERMISSIONS_MAX:
            raise ValueRejected(f"a role has at most {role_rules.PERMISSIONS_MAX} permissions")
        for kind, text in [("role", name), *(("permission", it) for it in permissions or ())]:
            try:
                role_rules.name(text)
            except ValueRejected as error:
                raise ValueRejected(f"the name of the {kind} {error}") from None
    return permissions or ()


@contextmanager
def _named(role: str) -> Iterator[None]:
    """Tells which role is there already, or is not."""
    try:
        yield
    except RoleExists:
        fail(f"there is a role `{role}` already", "it stays as it is; choose another name")
    except RoleNotFound:
        fail(f"no role `{role}`", f"make it with `watchword roles create {role}`")
