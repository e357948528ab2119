"""Checks of the configuration alone: nothing is asked of anybody."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from watchword.callers.model import Scope
from watchword.callers.registry import parse_caller_keys
from watchword.config import (
    PREFIX,
    REQUIRED_BY_SERVE,
    SECRETS,
    Config,
    ConfigError,
    is_reserved,
    load_config,
)
from watchword.doctor.findings import Finding, failure, ok, warning
from watchword.limits.model import OFF


async def core() -> Sequence[Finding]:
    """The Rust core; importing this module has loaded it and compared its sources."""
    return [ok("is loaded")]


async def configuration(environ: Mapping[str, str]) -> Sequence[Finding]:
    """Everything that `serve` would refuse."""
    try:
        load_config(environ, required=REQUIRED_BY_SERVE)
    except ConfigError as error:
        hint = "docs/configuration.md has every variable; `watchword secrets generate` makes keys"
        return [failure(problem, hint) for problem in error.problems]
    return [ok("is complete")]


async def without_effect(environ: Mapping[str, str]) -> Sequence[Finding]:
    """Variables that later versions read: somebody may rely on TLS that is not there."""
    found = [
        warning(f"`{name}` does nothing in this version", "unset it, or do not rely on it")
        for name in sorted(environ)
        if environ[name] and name.startswith(PREFIX) and is_reserved(name.removeprefix(PREFIX))
    ]
    return found or [ok("every variable that is set is read")]


async def secret_files(environ: Mapping[str, str]) -> Sequence[Finding]:
    """Files that hold secrets are their owner's alone; the variable is named, never the path."""
    found: list[Finding] = []
    count = 0
    for name in sorted(SECRETS):
        variable = f"{PREFIX}{name}_FILE"
        if not environ.get(variable):
            continue
        count += 1
        try:
            mode = stat.S_IMODE(Path(environ[variable]).stat().st_mode)
        except (OSError, ValueError) as error:
            found.append(
                failure(
                    f"the file of `{variable}` cannot be looked at: {type(error).__name__}",
                    "look whether it is there and may be read",
                )
            )
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            found.append(
                warning(
                    f"the file of `{variable}` is open to others than its owner (mode {mode:04o})",
                    "`chmod 0400` it; in Kubernetes `defaultMode: 0400` with the pod's user",
                )
            )
    words = f"{count} from files that are their owner's alone" if count else "none is from a file"
    return found or [ok(words)]


async def callers(config: Config) -> Sequence[Finding]:
    """Somebody has to be allowed to call."""
    keys = parse_caller_keys(config.callers.keys.get_secret_value())
    if not keys:
        return [
            warning(
                "no caller key is configured, so nobody may call but by keys of the table",
                "`watchword secrets generate --caller web:login+validate` makes one for "
                "`WATCHWORD_CALLERS__KEYS`",
            )
        ]
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(key.name for key in keys))
    every = [f"`{key.name}`" for key in keys if key.scopes == frozenset(Scope)]
    note = f"; note: {', '.join(every)} holds every scope" if every else ""
    return [ok(f"keys of {names}{note}")]


async def limits(config: Config) -> Sequence[Finding]:
    """Without limits anybody may have anybody's mailbox filled."""
    if not config.limits.enabled:
        return [
            failure(
                f"`{PREFIX}LIMITS__ENABLED` is off: nothing bounds how often mails are asked for",
                "unset it; it is for load tests",
            )
        ]
    found = [
        warning(f"`{PREFIX}LIMITS__{name.upper()}` is off", "unset it unless that is meant")
        for name, value in config.limits
        if value == OFF
    ]
    return found or [ok("each is on")]


async def switches(config: Config) -> Sequence[Finding]:
    """Switches that weaken what is promised."""
    weak = {
        "API__ALLOW_PLAINTEXT": (
            config.api.allow_plaintext,
            "tokens and codes may cross the network in plain text",
        ),
        "ADMIN__ALLOW_PLAINTEXT": (
            config.admin.allow_plaintext,
            "keys of administrators may cross the network in plain text",
        ),
        "DATABASE__ALLOW_PLAINTEXT": (
            config.database.allow_plaintext,
            "the database's certificate need not be right",
        ),
        "SMTP__ALLOW_PLAINTEXT": (
            config.smtp.allow_plaintext,
            "mails with codes may cross the network in plain text",
        ),
        "MAIL__ALLOW_DEVELOPMENT_SENDERS": (
            config.mail.allow_development_senders,
            "senders that show codes are allowed",
        ),
    }
    found = [
        warning(f"`{PREFIX}{name}` is on: {words}", "unset it unless that is meant")
        for name, (is_on, words) in weak.items()
        if is_on
    ]
    return found or [ok("none that weakens anything is on")]
