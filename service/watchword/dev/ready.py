"""The ready file: what a script needs to know of a process that answers now."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from watchword.app import App
from watchword.callers.registry import parse_caller_keys
from watchword.config import PREFIX, Config
from watchword.mail.settings import SenderName


@contextlib.contextmanager
def ready_file(path: Path | None) -> Iterator[None]:
    """Sees to it that the file is there only while the process is: none before, none after."""
    try:
        if path is not None:
            path.unlink(missing_ok=True)
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def write_ready_file(path: Path, app: App, config: Config) -> None:
    """Writes the file (0600, it holds secrets) under another name and renames it."""
    content = {
        "pid": os.getpid(),
        "api": app.api_address,
        "admin": app.admin_address,
        "metrics": None,
        "service_key": first_service_key(config),
        "database_url": config.database.url.get_secret_value(),
        "mail_dir": _text(config.mail.file_dir),
        "env": joining_environment(config),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=2)
    Path(temporary).replace(path)


def first_service_key(config: Config) -> str | None:
    """Returns the key of the first configured caller."""
    keys = parse_caller_keys(config.callers.keys.get_secret_value())
    return keys[0].key.reveal() if keys else None


def joining_environment(config: Config) -> dict[str, str]:
    """Returns the variables with which another `serve` joins the same installation."""
    joining = {
        "DATABASE__URL": config.database.url.get_secret_value(),
        "SECRETS__KEYS": config.secrets.keys.get_secret_value(),
        "SECRETS__INDEX_KEY": config.secrets.index_key.get_secret_value(),
        "CALLERS__KEYS": config.callers.keys.get_secret_value(),
        "MAIL__FROM": config.mail.from_,
    }
    if config.mail.file_dir is not None:
        joining |= {
            "MAIL__SENDERS": SenderName.FILE,
            "MAIL__FILE_DIR": str(config.mail.file_dir.resolve()),
            "MAIL__ALLOW_DEVELOPMENT_SENDERS": "true",
        }
    return {PREFIX + name: str(value) for name, value in joining.items()}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
