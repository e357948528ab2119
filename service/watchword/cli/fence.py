"""`watchword restore-fence`: to be run after each restore of a backup."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from watchword.cli.output import confirm, fail, on_database
from watchword.crypto import SLOTS
from watchword.login.fence import Fenced, confirm_cluster, restore_fence
from watchword.login.ports import Database

app = typer.Typer()

_GRANT = (
    "as a superuser: `GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint()` to "
    "the role of `WATCHWORD_DATABASE__URL`"
)


@app.command("restore-fence")
def fence(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    nothing_lost: Annotated[
        bool,
        typer.Option(
            "--nothing-lost", help="End nothing: a standby took over that had everything."
        ),
    ] = False,
) -> None:
    """End every session, code and service key: a restored backup has brought dead ones back."""
    if nothing_lost:
        if not on_database(confirm_cluster):
            fail("this role may not ask in which cluster the database is", _GRANT)
        print("the cluster is confirmed, nothing was ended")
        return
    confirm("end every session, code and service key of this installation?", yes=yes)

    async def fenced(database: Database) -> Fenced:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("ending sessions and codes", total=SLOTS)
            return await restore_fence(
                database, progress=lambda done: bar.update(task, completed=done)
            )

    done = on_database(fenced)
    print(f"every session has ended; codes ended: {done.challenges}")
    if done.service_keys:
        print(f"service keys that wait for `watchword keys confirm`: {done.service_keys}")
