"""`watchword doctor` on a real PostgreSQL: what it finds, and how it ends without one.

The server of the tests runs without fsync, which is a failure that doctor has to find.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from tests.storage.tables import BY_COLUMN, BY_SLOT, REFERENCE
from tests.support.age import age
from tests.support.postgres import DatabaseServer, fetch
from tests.support.running import RunningApp
from watchword.doctor import database
from watchword.doctor.database import examine_database
from watchword.doctor.findings import Finding, Level
from watchword.storage.inspection import TABLES
from watchword.storage.pool import DatabaseSettings

NAMES = [
    *("database", "durability", "connections", "clock", "schema", "privileges"),
    *("cluster", "outbox", "code level"),
]


async def found_on(url: str, **settings: object) -> dict[str, list[Finding]]:
    """The findings on this database, by check."""
    made = DatabaseSettings.model_validate({"url": url, **settings})
    by_check: dict[str, list[Finding]] = {}
    async with asyncio.timeout(30):
        for finding in await examine_database(made):
            by_check.setdefault(finding.check, []).append(finding)
    return by_check


def only(findings: list[Finding]) -> tuple[Level, str]:
    """Level and words of the one finding."""
    (finding,) = findings
    assert bool(finding.hint) == (finding.level is not Level.OK)
    return finding.level, finding.message


@pytest.fixture
async def role(postgres: DatabaseServer, database_url: str) -> AsyncIterator[str]:
    """A role without any privilege."""
    name = postgres.next_name("role")
    await fetch(database_url, f"CREATE ROLE {name} LOGIN")
    yield name
    await fetch(database_url, f"DROP OWNED BY {name}")
    await fetch(database_url, f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    """The URL for another role."""
    return url.replace("postgres@", f"{role}@")


async def test_a_database_in_order(database_url: str) -> None:
    """Every check answers, in order; a test server has its durability off and a superuser."""
    found = await found_on(database_url)
    assert list(found) == NAMES
    levels = {name: {finding.level for finding in findings} for name, findings in found.items()}
    assert levels["durability"] == {Level.FAILURE}
    assert [finding.message.partition(" ")[0] for finding in found["durability"]] == [
        "`fsync`",
        "`full_page_writes`",
    ]
    assert levels["privileges"] == {Level.WARNING}
    for name in set(NAMES) - {"durability", "privileges"}:
        assert levels[name] == {Level.OK}, found[name]
    assert "by a local connection" in only(found["database"])[1]


async def test_synchronous_commit_off_is_found(database_url: str) -> None:
    """Also where the database alone sets it."""
    name = database_url.partition("@/")[2].partition("?")[0]
    await fetch(database_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    durability = (await found_on(database_url))["durability"]
    assert any("`synchronous_commit` is off" in finding.message for finding in durability)


async def test_a_database_that_refuses_writes(database_url: str) -> None:
    """A read-only one is no primary."""
    name = database_url.partition("@/")[2].partition("?")[0]
    await fetch(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = await found_on(database_url)
    assert only(found["database"]) == (Level.FAILURE, "is read-only for this role")


async def test_an_old_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one is too old for a program that wants PostgreSQL 99."""
    monkeypatch.setattr(database, "VERSION_NUMBER_MIN", 990_000)
    level, message = only((await found_on(database_url))["database"])
    assert level is Level.FAILURE
    assert message.startswith("is PostgreSQL 1")


async def test_the_pool_has_to_fit(database_url: str, role: str) -> None:
    """Into what the server has, and into what the role may use; better twice."""
    for pool_size, level in ((10, Level.OK), (150, Level.WARNING), (1000, Level.FAILURE)):
        assert only((await found_on(database_url, pool_size=pool_size))["connections"])[0] is level
    await fetch(database_url, f"ALTER ROLE {role} CONNECTION LIMIT 8")
    found = await found_on(as_role(database_url, role))
    assert only(found["connections"])[0] is Level.FAILURE
    assert "of 8 connections" in found["connections"][0].message


@pytest.mark.parametrize("ahead", [3.0, -3.0])
async def test_clocks_that_are_apart(
    database_url: str, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """The host's clock is moved, since the database's is the same one here (threats R10)."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    level, message = only((await found_on(database_url))["clock"])
    assert level is Level.WARNING
    assert "3.0 s apart" in message or "2.9 s apart" in message


async def test_the_schema(postgres: DatabaseServer, database_url: str) -> None:
    """Missing ones are a failure and end the look, newer ones a note, changed ones a failure."""
    empty = postgres.next_name("empty")
    found = await found_on(await postgres.create_database(empty))
    level, message = only(found["schema"])
    assert (level, list(found)) == (Level.FAILURE, NAMES[:5])
    assert "watchword migrate" in found["schema"][0].hint
    await postgres.drop_database(empty)
    await fetch(database_url, "INSERT INTO schema_migrations VALUES (9999, 'later', 'x', now())")
    assert only((await found_on(database_url))["schema"]) == (
        Level.OK,
        "is up to date; note: 1 migrations are of a newer program",
    )
    await fetch(database_url, "UPDATE schema_migrations SET sha256 = 'x' WHERE version = 1")
    level, message = only((await found_on(database_url))["schema"])
    assert level is Level.FAILURE
    assert "was applied from other text" in message


def test_every_table_is_looked_at() -> None:
    """A new table is one more to have privileges on."""
    assert set(TABLES) == (BY_SLOT | set(BY_COLUMN) | REFERENCE) - {"schema_migrations"}


async def test_privileges(database_url: str, role: str) -> None:
    """Each that is missing is named; the hint's own GRANT is enough, and no superuser is needed."""
    url = as_role(database_url, role)
    found = await found_on(url)
    assert only(found["schema"]) == (
        Level.FAILURE,
        "permission denied for table schema_migrations",
    )
    grant = found["schema"][0].hint.partition("`")[2].partition("`")[0]
    await fetch(database_url, f"GRANT SELECT ON schema_migrations TO {role}")
    level, message = only((await found_on(url))["privileges"])
    assert level is Level.FAILURE
    assert "DELETE on challenges" in message
    assert message.count(" on ") == 4 * len(TABLES)
    await fetch(database_url, f"{grant} TO {role}")
    found = await found_on(url)
    assert only(found["privileges"]) == (Level.OK, "the role may read and write every table")
    await fetch(database_url, f"REVOKE DELETE ON users FROM {role}")
    assert only((await found_on(url))["privileges"])[1] == "the role lacks DELETE on users"


async def test_mails_that_do_not_leave(app: RunningApp) -> None:
    """Those that wait for more than a minute and those dropped within the last hour."""
    for username in ("ada", "bob", "cyd"):
        await app.register(username)
        await app.mails.wait_for(f"{username}@example.com")
    assert only((await found_on(app.database_url))["outbox"])[0] is Level.OK
    await app.sql("UPDATE outbox SET state = 'dropped', end_time = now()")
    await app.sql(
        "UPDATE outbox SET state = 'pending', next_time = now() + interval '1 day'"
        " WHERE id = (SELECT max(id::text)::uuid FROM outbox)"
    )
    found = (await found_on(app.database_url))["outbox"]
    assert [(it.level, it.message) for it in found] == [
        (Level.WARNING, "2 mails were dropped within the last hour")
    ]
    await age(app.database_url, timedelta(minutes=2))
    found = (await found_on(app.database_url))["outbox"]
    assert [it.message for it in found] == [
        "1 mails have waited for more than a minute",
        "2 mails were dropped within the last hour",
    ]
    await age(app.database_url, timedelta(hours=1))
    assert [it.message[:7] for it in (await found_on(app.database_url))["outbox"]] == ["1 mails"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:CANARY@127.0.0.1:1/x", "Connect call failed"),
        ("postgresql://u:CANARY@/x?host=/nowhere", "No such file"),
        ("postgresql://u:CANARY@127.0.0.1/x?sslmode=CANARY", "`sslmode` parameter"),
        ("postgresql://u:CANARY@/x?host=/nowhere&port=CANARY", "ValueError"),
    ],
)
async def test_no_database(url: str, words: str) -> None:
    """One failure with the driver's words, never the password."""
    found = await found_on(url)
    level, message = only(found["database"])
    assert (level, list(found)) == (Level.FAILURE, ["database"])
    assert words in message
    assert "CANARY" not in message


async def test_another_database_and_another_role(database_url: str) -> None:
    """PostgreSQL's own words say which."""
    name = database_url.partition("@/")[2].partition("?")[0]
    for url in (database_url.replace(name, "nothing"), as_role(database_url, "nobody")):
        level, message = only((await found_on(url))["database"])
        assert level is Level.FAILURE
        assert "does not exist" in message


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stops processes for as long as the block takes."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_frozen_server(
    postgres: DatabaseServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before it is asked: the connection is given up in time (the guard: `inspect`)."""
    monkeypatch.setattr("watchword.storage.inspection.CONNECT_TIMEOUT_SECONDS", 0.3)
    with stopped(postgres.postgres.pid):
        level, message = only((await found_on(database_url))["database"])
    assert level is Level.FAILURE
    assert "no answer in time" in message
    assert list(await found_on(database_url)) == NAMES


async def test_a_server_that_freezes_meanwhile(
    postgres: DatabaseServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is given up and the rest is left out (the guard: `_ask`)."""
    monkeypatch.setattr(database, "QUESTION_TIMEOUT_SECONDS", 0.3)
    frozen = contextlib.ExitStack()
    durability = database.durability

    async def freeze_first(inspection: database.Inspection) -> object:
        pid = await inspection._connection.fetchval("SELECT pg_backend_pid()")
        frozen.enter_context(stopped(pid, postgres.postgres.pid))
        return await durability(inspection)

    monkeypatch.setattr(database, "durability", freeze_first)
    with frozen:
        found = await found_on(database_url)
    assert list(found) == ["database", "durability"]
    level, message = only(found["durability"])
    assert level is Level.FAILURE
    assert "no answer within 0.3 s" in message


async def test_a_server_that_freezes_at_the_end(
    postgres: DatabaseServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found stands: nobody waits for the farewell (the guard: the close of `inspect`)."""
    monkeypatch.setattr("watchword.storage.inspection.CLOSE_TIMEOUT_SECONDS", 0.3)
    frozen = contextlib.ExitStack()
    code_level = database.code_level

    async def freeze_then(inspection: database.Inspection) -> object:
        found = await code_level(inspection)
        pid = await inspection._connection.fetchval("SELECT pg_backend_pid()")
        frozen.enter_context(stopped(pid, postgres.postgres.pid))
        return found

    monkeypatch.setattr(database, "code_level", freeze_then)
    with frozen:
        found = await found_on(database_url)
    assert list(found) == NAMES
    assert only(found["code level"])[0] is Level.OK
    assert only(found["database"])[0] is Level.OK


async def test_a_raised_code_level_is_found(database_url: str) -> None:
    """The higher level of the two with its end, while it lasts."""
    await fetch(
        database_url,
        """
        UPDATE installation
        SET eight_digits_until_us = (extract(epoch FROM now()) * 1000000)::bigint + 3600000000,
            long_codes_until_us = (extract(epoch FROM now()) * 1000000)::bigint + 1800000000
        """,
    )
    [end] = await fetch(
        database_url, "SELECT to_timestamp(long_codes_until_us / 1000000) FROM installation"
    )
    level, message = only((await found_on(database_url))["code level"])
    assert level is Level.WARNING
    assert "at least 13 characters" in message
    assert f"until {end[0]:%Y-%m-%d %H:%M} UTC" in message
    await age(database_url, timedelta(minutes=30))
    level, message = only((await found_on(database_url))["code level"])
    assert "at least 8 characters" in message
    await age(database_url, timedelta(minutes=30))
    assert only((await found_on(database_url))["code level"])[0] is Level.OK
