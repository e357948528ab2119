"""All checks, on the environment of `serve`."""

import asyncio
from collections.abc import Mapping
from functools import partial

from watchword.config import (
    REQUIRED_BY_SERVE,
    ConfigError,
    load_config,
    load_database_settings,
    load_secrets,
    load_session_policy,
)
from watchword.doctor import environment
from watchword.doctor.database import DatabaseCheck, examine_database
from watchword.doctor.findings import Check, Finding, run_check
from watchword.doctor.keys import keys
from watchword.doctor.mail import sender


async def examine(environ: Mapping[str, str]) -> list[Finding]:
    """Returns every finding, in a fixed order; what an incomplete configuration hides is left out.

    What waits for others is asked at once, so that the whole takes no longer than the slowest.
    """
    checks: dict[str, Check] = {
        "core": environment.core,
        "configuration": partial(environment.configuration, environ),
        "settings without effect": partial(environment.without_effect, environ),
        "secret files": partial(environment.secret_files, environ),
    }
    senders: dict[str, Check] = {}
    try:
        config = load_config(environ, required=REQUIRED_BY_SERVE)
    except ConfigError:
        pass  # the check `configuration` tells
    else:
        checks["switches"] = partial(environment.switches, config)
        checks["limits"] = partial(environment.limits, config)
        checks["callers"] = partial(environment.callers, config)
        senders = {f"sender {name}": partial(sender, name, config) for name in config.mail.senders}
    found = await asyncio.gather(
        *(run_check(name, check) for name, check in checks.items()),
        _database(environ),
        *(run_check(name, check) for name, check in senders.items()),
    )
    return [finding for group in found for finding in group]


async def _database(environ: Mapping[str, str]) -> list[Finding]:
    """The database is looked at whatever other section is wrong."""
    try:
        settings = load_database_settings(environ)
    except ConfigError:
        return []  # the check `configuration` tells
    return await examine_database(settings, keys=_keys(environ))


def _keys(environ: Mapping[str, str]) -> DatabaseCheck | None:
    try:
        ring = load_secrets(environ).key_ids()
        idle_lifetime = load_session_policy(environ).idle_lifetime
    except ConfigError:
        return None  # the check `configuration` tells
    return partial(keys, ring=ring, idle_lifetime=idle_lifetime)
