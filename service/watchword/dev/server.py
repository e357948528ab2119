"""`watchword dev`: the whole installation in one process, and two commands to paste."""

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchword.app import App, run_until_signal
from watchword.config import Config
from watchword.dev.installation import (
    DEMO_EMAIL,
    DEMO_USERNAME,
    Installation,
    default_addresses,
    development_config,
    ensure_demo_user,
    open_installation,
)
from watchword.dev.postgres import DevelopmentPostgresError
from watchword.dev.ready import first_service_key, ready_file, write_ready_file
from watchword.observability.logging import configure_logging
from watchword.storage.migrate import ensure_database, migrate
from watchword.storage.pool import is_local
from watchword.transport.server import AddressTaken


@dataclass(frozen=True, slots=True, kw_only=True)
class DevOptions:
    """The options of `watchword dev`."""

    ephemeral: bool = False
    port_offset: int = 0
    database_url: str | None = None
    mail_dir: Path | None = None
    ready_file: Path | None = None


async def run_dev(options: DevOptions, environ: Mapping[str, str]) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises ValueRejected, ConfigError, DevelopmentPostgresError, AddressTaken, and the driver's
    errors for a given database that cannot be reached.
    """
    addresses = default_addresses(ephemeral=options.ephemeral, port_offset=options.port_offset)
    if options.database_url is not None and not is_local(options.database_url):
        raise DevelopmentPostgresError(
            "`--database-url` is not on this machine",
            "`dev` makes a demo user with known keys: use a database on loopback or a unix socket",
        )
    with (
        ready_file(options.ready_file),
        open_installation(
            ephemeral=options.ephemeral, database_url=options.database_url
        ) as installation,
    ):
        config = development_config(
            installation, environ, addresses=addresses, mail_dir=options.mail_dir
        )
        configure_logging(config.log)
        app = App(config)
        await prepare_database(installation)

        def announce(app: App) -> None:
            print(_introduction(app, config), flush=True)
            if options.ready_file is not None:
                write_ready_file(options.ready_file, app, config)

        with _offset_hinted(options, environ):
            await run_until_signal(
                app,
                on_start=lambda: ensure_demo_user(app.database),
                on_ready=announce,
                until=None if installation.postgres is None else installation.postgres.wait_ended,
            )


@contextlib.contextmanager
def _offset_hinted(options: DevOptions, environ: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except AddressTaken as taken:
        if environ.get(taken.setting):
            raise  # no offset shifts an address that the environment names
        another = 100 if options.port_offset != 100 else 200
        raise AddressTaken(
            taken.address, setting=taken.setting, hint=f"use --port-offset {another}"
        ) from None


async def prepare_database(installation: Installation) -> None:
    """Migrates the installation's database, made first when its server is the embedded one."""
    if installation.postgres is not None:
        await ensure_database(installation.database_url)
    await migrate(installation.database_url)


def _introduction(app: App, config: Config) -> str:
    key = first_service_key(config)
    lines = [
        "",
        f"watchword is ready on {app.api_address}; mails are printed here and written to",
        f"{config.mail.file_dir}; Ctrl-C stops it",
        "",
        f"sign in as {DEMO_EMAIL}: paste the first command, read the code in the mail, put it into",
        "the second one in place of <code>",
    ]
    send = json.dumps({"email": DEMO_EMAIL})
    verify = json.dumps({"email": DEMO_EMAIL, "code": "<code>"})
    for title, command in (("buf curl", _buf_curl), ("grpcurl", _grpcurl)):
        lines += ["", f"with {title}:", ""]
        lines += [
            command(app.api_address, key or "", "SendOtp", send),
            command(app.api_address, key or "", "VerifyOtp", verify),
        ]
    url = shlex.quote(config.database.url.get_secret_value())
    lines += ["", "look at the data and give roles:", ""]
    lines += [f"export WATCHWORD_DATABASE__URL={url}"]
    lines += [f"{_beside('watchword')} users show {DEMO_USERNAME}"]
    return "\n".join([*lines, ""])


def _buf_curl(address: str, key: str, method: str, body: str) -> str:
    if address.startswith("unix:"):
        socket, host = f" --unix-socket {shlex.quote(address.removeprefix('unix:'))}", "localhost"
    else:
        socket, host = "", address
    return (
        f"{_beside('buf')} curl --protocol grpc --http2-prior-knowledge{socket} "
        f"-H 'authorization: Bearer {key}' -d '{body}' "
        f"http://{host}/watchword.v1.AuthService/{method}"
    )


def _beside(program: str) -> str:
    """A program of this environment, which need not be on the PATH."""
    beside = Path(sys.executable).with_name(program)
    if shutil.which(program) or not beside.exists():
        return program
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _grpcurl(address: str, key: str, method: str, body: str) -> str:
    unix = " -unix" if address.startswith("unix:") else ""
    return (
        f"grpcurl -plaintext{unix} -H 'authorization: Bearer {key}' -d '{body}' "
        f"{address.removeprefix('unix:')} watchword.v1.AuthService/{method}"
    )
