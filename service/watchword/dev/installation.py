"""A whole Watchword for development: embedded PostgreSQL, keys of its own, a demo user.

It stands in `$XDG_STATE_HOME/watchword` (as root in /var/tmp/watchword-dev, since PostgreSQL runs
as another user who may be unable to enter root's home), so that sessions survive a restart; an
ephemeral one stands in a temporary folder.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchword.audit.model import CLI
from watchword.config import PREFIX, Config, load_config
from watchword.dev.ownership import refuse_strangers
from watchword.dev.postgres import EmbeddedPostgres, start
from watchword.errors import EmailTaken, UsernameTaken, ValueRejected
from watchword.keyring import generate_secrets
from watchword.login.ports import Database
from watchword.login.user_admin import create_user
from watchword.storage.migrate import DATABASE_NAME
from watchword.users.rules import email

DEMO_USERNAME = "demo"
DEMO_EMAIL = "demo@example.com"
_ROOT_STATE = Path("/var/tmp/watchword-dev")  # noqa: S108  # a fixed place is the point; 0711, secrets in it 0600


# Each port that `dev` has by default, by the setting that names another.
PORTS = {"API__ADDRESS": 50051, "ADMIN__ADDRESS": 50052}
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the parts of a development installation are."""

    folder: Path
    database_url: str
    postgres: EmbeddedPostgres | None


@contextlib.contextmanager
def open_installation(*, ephemeral: bool, database_url: str | None) -> Iterator[Installation]:
    """Makes or finds the folder and starts its PostgreSQL, unless a database is given.

    Raises DevelopmentPostgresError.
    """
    with contextlib.ExitStack() as undo:
        if ephemeral:
            folder = Path(tempfile.mkdtemp(prefix="watchword-dev-"))
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
        else:
            folder = state_folder()
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            refuse_strangers(folder)
        # PostgreSQL's user must be able to pass through; everything inside has modes of its own.
        folder.chmod(0o711)
        postgres = None
        if database_url is None:
            postgres = undo.enter_context(start(folder / "postgres", ephemeral=ephemeral))
            database_url = postgres.url(DATABASE_NAME)
        yield Installation(folder, database_url, postgres)


def state_folder() -> Path:
    """Returns the folder whose content survives a restart."""
    if os.geteuid() == 0:
        return _ROOT_STATE
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "watchword"


def default_addresses(*, ephemeral: bool, port_offset: int = 0) -> dict[str, str]:
    """Returns where each part listens: its port plus the offset, or a free one when ephemeral.

    Raises ValueRejected for an offset that leads out of the ports or has nothing to shift.
    """
    if ephemeral and port_offset:
        raise ValueRejected("`--ephemeral` takes free ports, so `--port-offset` has none to shift")
    offset_max = PORT_MAX - max(PORTS.values())
    if not 0 <= port_offset <= offset_max:
        raise ValueRejected(f"`--port-offset` must be 0 to {offset_max}: ports end at {PORT_MAX}")
    return {
        name: f"127.0.0.1:{0 if ephemeral else port + port_offset}" for name, port in PORTS.items()
    }


def development_config(
    installation: Installation,
    environ: Mapping[str, str],
    *,
    addresses: Mapping[str, str],
    mail_dir: Path | None,
    console: bool = True,
) -> Config:
    """Returns the configuration of `dev`: its defaults, over them the environment's own values.

    `addresses` are defaults too. Raises ConfigError.
    """
    defaults = {
        **addresses,
        "API__REFLECTION": "true",
        "ADMIN__REFLECTION": "true",
        "MAIL__SENDERS": "console,file" if console else "file",
        "MAIL__ALLOW_DEVELOPMENT_SENDERS": "true",
        "MAIL__FILE_DIR": str((mail_dir or installation.folder / "mail").resolve()),
    }
    ours = {
        **{PREFIX + name: value for name, value in defaults.items()},
        **_secrets(installation.folder),
    }
    # An empty variable is unset, so it hides nothing of ours.
    own = {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX) and (value or name not in ours)
    }
    forced = {f"{PREFIX}DATABASE__URL": installation.database_url}
    if mail_dir is not None:
        forced[f"{PREFIX}MAIL__FILE_DIR"] = str(mail_dir.resolve())
    return load_config({**ours, **own, **forced})


def _secrets(folder: Path) -> dict[str, str]:
    """Reads the folder's environment file, made (0600) when it is missing."""
    path = folder / "environment"
    if not path.exists():
        lines = "".join(f"{name}={value}\n" for name, value in generate_secrets().items())
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".environment.")
        with os.fdopen(handle, "w") as file:
            file.write(lines)
        Path(temporary).replace(path)
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value for name, _, value in pairs}


async def ensure_demo_user(database: Database) -> None:
    """Makes the demo user unless it, or somebody else of that address or name, is there."""
    with contextlib.suppress(EmailTaken, UsernameTaken):
        await create_user(
            database,
            full_name="Demo User",
            username=DEMO_USERNAME,
            email=email(DEMO_EMAIL),
            locale="en",
            actor=CLI,
        )
