"""Migrations on a real PostgreSQL: each once, in order, whole or not at all."""

import asyncio
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import asyncpg
import pytest

from watchword.storage import migrate as module
from watchword.storage.migrate import (
    Migration,
    MigrationError,
    check,
    ensure_database,
    known_migrations,
    migrate,
)

LEDGER = "SELECT version, name, sha256 FROM schema_migrations ORDER BY version"
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"


async def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    """Returns what the statement answers on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def use(monkeypatch: pytest.MonkeyPatch, *migrations: Migration) -> None:
    """Makes these the migrations that the program knows."""
    monkeypatch.setattr(module, "known_migrations", lambda: list(migrations))


def versions(migrations: Sequence[Migration]) -> list[int]:
    """Returns the numbers of the migrations."""
    return [migration.version for migration in migrations]


FIRST = Migration(1, "first", "CREATE TABLE first (id integer); CREATE TABLE also (id integer)")
SECOND = Migration(2, "second", "ALTER TABLE first ADD COLUMN name text")
THIRD = Migration(3, "third", "INSERT INTO first (id, name) VALUES (3, 'three')")
BROKEN = Migration(2, "broken", "CREATE TABLE half (id integer); SELECT 1 / 0")


async def test_an_empty_database_gets_every_file(empty_database_url: str) -> None:
    """Each file is applied and recorded with the sha256 of its bytes."""
    applied = await migrate(empty_database_url)
    folder = resources.files("watchword.storage").joinpath("migrations")
    expected = [
        (int(file.name[:4]), file.name[5:-4], hashlib.sha256(file.read_bytes()).hexdigest())
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
    ]
    assert await rows(empty_database_url, LEDGER) == expected
    assert versions(applied) == [version for version, _, _ in expected] != []
    assert ("users",) in await rows(empty_database_url, TABLES)


async def test_the_second_run_applies_nothing(empty_database_url: str) -> None:
    """A migrated database is left as it is."""
    await migrate(empty_database_url)
    ledger = await rows(empty_database_url, "SELECT * FROM schema_migrations")
    assert await migrate(empty_database_url) == []
    assert await rows(empty_database_url, "SELECT * FROM schema_migrations") == ledger


async def test_check_changes_nothing(empty_database_url: str) -> None:
    """`check` says what is missing and makes not even the ledger."""
    assert versions(await check(empty_database_url)) == versions(known_migrations())
    assert await rows(empty_database_url, TABLES) == []
    await migrate(empty_database_url)
    assert await check(empty_database_url) == []


async def test_only_what_is_missing_is_applied(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer program applies its later files, in order."""
    use(monkeypatch, FIRST)
    await migrate(empty_database_url)
    use(monkeypatch, FIRST, SECOND, THIRD)
    assert versions(await check(empty_database_url)) == [2, 3]
    assert versions(await migrate(empty_database_url)) == [2, 3]
    assert await rows(empty_database_url, "SELECT id, name FROM first") == [(3, "three")]


async def test_an_edited_file_is_refused(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An applied file of other text stops `migrate` and `check` with a hint and changes nothing."""
    use(monkeypatch, FIRST)
    await migrate(empty_database_url)
    use(monkeypatch, Migration(1, "first", FIRST.sql + " "), SECOND)
    for act in (migrate, check):
        with pytest.raises(MigrationError, match=r"`0001_first` (.|\n)*\nhint: "):
            await act(empty_database_url)
    assert await rows(empty_database_url, LEDGER) == [(1, "first", FIRST.sha256)]


async def test_later_migrations_of_another_program_are_ignored(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old program runs beside the new one that has migrated already."""
    use(monkeypatch, FIRST, SECOND, THIRD)
    await migrate(empty_database_url)
    use(monkeypatch, FIRST)
    assert await check(empty_database_url) == []
    assert await migrate(empty_database_url) == []


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before stays, the failed file is undone whole, and its mended form is applied."""
    use(monkeypatch, FIRST, BROKEN, THIRD)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_database_url)
    tables = [("also",), ("first",), ("schema_migrations",)]
    assert await rows(empty_database_url, TABLES) == tables
    assert await rows(empty_database_url, LEDGER) == [(1, "first", FIRST.sha256)]
    use(monkeypatch, FIRST, SECOND, THIRD)
    assert versions(await migrate(empty_database_url)) == [2, 3]


async def test_two_at_once_apply_each_file_once(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the advisory lock: without it both would create the tables, and one would fail."""
    use(monkeypatch, FIRST, SECOND, THIRD)
    monkeypatch.setattr(module, "_LOCK_POLL_SECONDS", 0.01)
    answers = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(map(versions, answers)) == [[], [], [], [1, 2, 3]]
    assert [version for version, *_ in await rows(empty_database_url, LEDGER)] == [1, 2, 3]
    assert await rows(empty_database_url, "SELECT id FROM first") == [(3,)]


async def test_migrate_waits_for_the_one_that_works(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the wait: nothing is done while another session has the lock, and all of it after."""
    monkeypatch.setattr(module, "_LOCK_POLL_SECONDS", 0.01)
    holder = await asyncpg.connect(empty_database_url)
    try:
        await holder.fetchval("SELECT pg_advisory_lock($1)", module._LOCK_KEY)
        waiting = asyncio.create_task(migrate(empty_database_url))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert await rows(empty_database_url, TABLES) == []
        # No session waits inside PostgreSQL: it would hold a snapshot.
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        assert await holder.fetchval(waits) == 0
    finally:
        await holder.close()
    assert versions(await waiting) == versions(known_migrations())


async def test_migrate_gives_up_on_a_lock_that_stays(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that nobody gives back ends in an error with a hint, and the lock stays theirs."""
    monkeypatch.setattr(module, "_LOCK_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LOCK_WAIT_SECONDS", 0.05)
    holder = await asyncpg.connect(empty_database_url)
    try:
        await holder.fetchval("SELECT pg_advisory_lock($1)", module._LOCK_KEY)
        with pytest.raises(MigrationError, match=r"\nhint: .*pg_locks"):
            await migrate(empty_database_url)
        assert await holder.fetchval("SELECT pg_advisory_unlock($1)", module._LOCK_KEY)
    finally:
        await holder.close()
    assert await rows(empty_database_url, TABLES) == []


async def test_the_database_is_made_once(empty_database_url: str) -> None:
    """`ensure_database` makes `watchword` where it is missing, and is content when it is there."""
    exists = "SELECT count(*) FROM pg_database WHERE datname = 'watchword'"
    try:
        for _ in range(2):
            await ensure_database(empty_database_url)
            assert await rows(empty_database_url, exists) == [(1,)]
    finally:
        await rows(empty_database_url, "DROP DATABASE watchword")


@pytest.mark.parametrize("name", ["2_more.sql", "0002-more.sql", "0002_more.txt", "more.sql"])
def test_a_misnamed_file_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a number of four digits has no place in the order."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text(FIRST.sql)
    monkeypatch.setattr(module.resources, "files", lambda _: tmp_path)
    assert known_migrations() == [FIRST]
    (folder / name).write_text(SECOND.sql)
    with pytest.raises(ValueError, match="is not named like"):
        known_migrations()


def test_each_version_is_there_once() -> None:
    """Two files of one number would record one of them only."""
    assert versions(known_migrations()) == list(range(1, len(known_migrations()) + 1))
