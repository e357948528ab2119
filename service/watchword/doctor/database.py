"""Checks of PostgreSQL, one after the other on one connection."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg

from watchword.doctor.cluster import cluster
from watchword.doctor.findings import Finding, Level, failure, ok, run_check, warning
from watchword.storage.inspection import Inspection, inspect
from watchword.storage.migrate import MigrationError
from watchword.storage.pool import DatabaseSettings, is_local

QUESTION_TIMEOUT_SECONDS: Final = 3.0
VERSION_NUMBER_MIN: Final = 150_000  # PostgreSQL 15
CLOCK_APART_SECONDS_MAX: Final = 1.0
MAIL_LATE: Final = timedelta(minutes=1)
DROPPED_WITHIN: Final = timedelta(hours=1)

DatabaseCheck = Callable[[Inspection], Awaitable[Sequence[Finding]]]


async def examine_database(
    settings: DatabaseSettings, *, keys: DatabaseCheck | None = None
) -> list[Finding]:
    """Every check of the database; when it cannot be reached, that alone.

    `keys` looks at it by the environment's key ring; it is left out where that is not there.
    """
    found: list[Finding] = []

    async def connected() -> Sequence[Finding]:
        try:
            async with inspect(settings) as inspection:
                found.extend(await _examine(inspection, settings, keys))
        except (
            OSError,
            TimeoutError,
            ValueError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
        ) as error:
            return [
                failure(
                    f"cannot be reached: {_words(error)}; nothing else of it was looked at",
                    "look at `WATCHWORD_DATABASE__URL`, and whether PostgreSQL runs",
                )
            ]
        return []

    return [*await run_check("database", connected), *found]


async def _examine(
    inspection: Inspection, settings: DatabaseSettings, keys: DatabaseCheck | None
) -> list[Finding]:
    checks: dict[str, DatabaseCheck] = {
        "database": partial(server, settings=settings),
        "durability": durability,
        "connections": partial(connections, pool_size=settings.pool_size),
        "clock": clock,
        "schema": schema,
        "privileges": privileges,
        "cluster": cluster,
        **({} if keys is None else {"keys": keys}),
        "outbox": outbox,
        "code level": code_level,
    }
    found: list[Finding] = []
    for name, check in checks.items():
        found += await run_check(name, partial(_ask, check, inspection))
        if inspection.lost or (name == "schema" and found[-1].level is Level.FAILURE):
            break  # the rest needs an answer, or the tables
    return found


async def _ask(check: DatabaseCheck, inspection: Inspection) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(QUESTION_TIMEOUT_SECONDS):
            return await check(inspection)
    except TimeoutError:
        inspection.give_up()
        return [
            failure(
                f"no answer within {QUESTION_TIMEOUT_SECONDS:g} s; the rest was not looked at",
                "PostgreSQL hangs or is overloaded; look at its log and at pg_stat_activity",
            )
        ]
    except asyncpg.InsufficientPrivilegeError as error:
        return [failure(_words(error), _GRANT)]
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [failure(f"the question failed: {_words(error)}", "look at PostgreSQL's log")]


_GRANT: Final = (
    "as the owner: `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public` to the "
    "role of `WATCHWORD_DATABASE__URL`"
)


def _words(error: BaseException) -> str:
    """The driver's words, which name hosts, roles and databases and never a password."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ValueError) and not isinstance(error, asyncpg.InterfaceError):
        return type(error).__name__  # Python's own words quote a part of the URL
    return str(error) or type(error).__name__


async def server(inspection: Inspection, settings: DatabaseSettings) -> Sequence[Finding]:
    """Version, transport, and whether it may be written to."""
    it = await inspection.server()
    if it.version_number < VERSION_NUMBER_MIN:
        return [failure(f"is PostgreSQL {it.version}", "use PostgreSQL 15 or newer")]
    if it.standby or it.read_only:
        what = "is a standby" if it.standby else "is read-only for this role"
        return [failure(what, "let `WATCHWORD_DATABASE__URL` name the primary")]
    if it.tls is None and not is_local(settings.url.get_secret_value()):
        return [
            warning(
                f"PostgreSQL {it.version} is reached across the network in plain text",
                "use `sslmode=verify-full` in `WATCHWORD_DATABASE__URL`",
            )
        ]
    return [ok(f"PostgreSQL {it.version} by {it.tls or 'a local connection'}")]


async def durability(inspection: Inspection) -> Sequence[Finding]:
    """What PostgreSQL has acknowledged must survive its crash."""
    it = await inspection.server()
    off = {
        "fsync": not it.fsync,
        "full_page_writes": not it.full_page_writes,
        "synchronous_commit": it.synchronous_commit == "off",
    }
    found = [
        failure(
            f"`{name}` is off: a crash loses what was acknowledged, such as revocations",
            f"set `{name} = on` in postgresql.conf, or unset it for this role or database",
        )
        for name, is_off in off.items()
        if is_off
    ]
    return found or [ok("what is acknowledged survives a crash")]


async def connections(inspection: Inspection, pool_size: int) -> Sequence[Finding]:
    """The pool has to fit, twice while one process takes over from another."""
    it = await inspection.server()
    limits = [it.max_connections - it.reserved_connections]
    limits += [limit for limit in (it.role_connections, it.database_connections) if limit >= 0]
    usable = min(limits)
    words = f"the pool of {pool_size} of {usable} connections that this role may use"
    hint = "lower `WATCHWORD_DATABASE__POOL_SIZE`, or raise `max_connections` or the role's limit"
    if pool_size > usable:
        return [failure(f"{words} does not fit", hint)]
    if 2 * pool_size > usable:
        return [warning(f"{words} fits once: a second process would get none", hint)]
    return [ok(words)]


async def clock(inspection: Inspection) -> Sequence[Finding]:
    """Host and database apart: no decision is wrong by it, but logs and certificates are."""
    before = time.time()  # noqa: TID251  # comparing the two clocks is the point
    database = (await inspection.now()).timestamp()
    after = time.time()  # noqa: TID251  # likewise
    # The question travelled meanwhile: only what lies outside of that is apart for sure.
    apart = max(before - database, database - after, 0.0)
    if apart >= CLOCK_APART_SECONDS_MAX:
        return [
            warning(
                f"the clocks of host and database are {apart:.1f} s apart",
                "set both by NTP; look at `timedatectl` on each",
            )
        ]
    return [ok("host and database agree within 1 s")]


async def schema(inspection: Inspection) -> Sequence[Finding]:
    """This program's migrations; newer ones are no hindrance."""
    try:
        pending = await inspection.pending_migrations()
    except MigrationError as error:
        message, _, hint = str(error).partition("\nhint: ")
        return [failure(message, hint)]
    if pending:
        return [
            failure(
                f"{pending} migrations are missing, or this role may not use their schema",
                "run `watchword migrate`, as a role that may create tables",
            )
        ]
    newer = await inspection.newer_migrations()
    note = f"; note: {newer} migrations are of a newer program" if newer else ""
    return [ok(f"is up to date{note}")]


async def privileges(inspection: Inspection) -> Sequence[Finding]:
    """All that it needs and not everything."""
    missing = await inspection.missing_privileges()
    if missing:
        return [failure(f"the role lacks {', '.join(missing)}", _GRANT)]
    if (await inspection.server()).superuser:
        return [
            warning(
                "the role is a superuser: who has the URL has the whole server",
                "use a role of its own that owns, or may read and write, these tables alone",
            )
        ]
    return [ok("the role may read and write every table")]


async def outbox(inspection: Inspection) -> Sequence[Finding]:
    """Mails that do not leave."""
    now = await inspection.now()
    queue = await inspection.outbox(late_before=now - MAIL_LATE, dropped_since=now - DROPPED_WITHIN)
    hint = "look at the senders' checks here, and for `sender failed` in the log of `serve`"
    found = []
    if queue.waiting:
        found.append(warning(f"{queue.waiting} mails have waited for more than a minute", hint))
    if queue.dropped:
        found.append(warning(f"{queue.dropped} mails were dropped within the last hour", hint))
    return found or [ok("no mail waits for long, none was dropped within the last hour")]


async def code_level(inspection: Inspection) -> Sequence[Finding]:
    """Whether codes are longer than configured, since many were wrong."""
    now, ends = await inspection.now(), await inspection.code_level_ends()
    held = [level for level, end in ends.items() if end > now]
    if not held:
        return [ok("new codes have the configured length")]
    level = max(held)
    return [
        warning(
            f"so many codes were wrong that new ones have at least {level.value} characters "
            f"until {ends[level]:%Y-%m-%d %H:%M} UTC",
            "somebody guesses codes at many addresses; docs/codes.md says what to do",
        )
    ]
