"""What an import asks and makes, and what happens to lines that somebody else is quicker with."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.storage.conftest import Connect
from tests.storage.database import HOUR, open_database, subject
from tests.support.cutting_proxy import Cut, CuttingProxy
from watchword.crypto import new_user_id
from watchword.errors import StorageUnavailable
from watchword.login import user_import
from watchword.login.user_import import ImportCounts, import_users
from watchword.login.user_lines import UserLine, parsed
from watchword.roles.model import Assignment
from watchword.storage.transactions import PgDatabase, PgTx

Sql = asyncpg.Connection
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def text(name: str, **fields: Any) -> bytes:
    """The line of a person, with these fields in place of the usual ones."""
    usual = {"username": name, "full_name": name.title(), "email": f"{name}@example.com"}
    return json.dumps(usual | fields).encode()


def line(name: str, **fields: Any) -> UserLine:
    """The same, read."""
    return parsed(text(name, **fields))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[PgDatabase]:
    """A pool on the test's database."""
    async with open_database(database_url, pool_size=4) as opened:
        yield opened


async def imported(
    database: PgDatabase, lines: Iterable[bytes | None]
) -> tuple[ImportCounts, list[tuple[int, str]]]:
    """Imports lines; the counts, and what was refused."""
    counts, refused = ImportCounts(), []
    await import_users(
        database,
        enumerate(lines, 1),
        actor="cli",
        counts=counts,
        refused=lambda number, reason: refused.append((number, reason)),
    )
    return counts, refused


async def owners(sql: Sql) -> dict[str, Any]:
    """Whose the identifiers are."""
    return {row["value"]: row["user_id"] for row in await sql.fetch("SELECT * FROM identifiers")}


async def test_what_is_claimed_is_ones_own(tx: PgTx, sql: Sql) -> None:
    """Addresses and usernames of others, and live holds, are theirs; a hold that is over is not.
    Released is what was claimed and nothing of anybody else's.
    """
    ada, eve, bob = line("ada"), line("eve"), line("bob")
    assert await tx.user_files.claim_emails([eve, ada]) == [eve, ada]
    late = line("late", email="ADA@example.com")
    assert await tx.user_files.claim_emails([late, bob]) == [bob]
    assert await tx.user_files.owned_emails([late, line("max")]) == {"ada@example.com"}

    assert await tx.registrations.hold_username("bob", subject_key=subject("bob"), lifetime=HOUR)
    assert await tx.registrations.hold_username("max", subject_key=subject("max"), lifetime=HOUR)
    assert await tx.users.take_username("ada", user_id=ada.id)
    lines = [line("ada"), bob, line("max"), line("zoe")]
    assert await tx.user_files.usernames_taken(lines) == {"ada": False, "bob": True, "max": True}
    await sql.execute("UPDATE identifiers SET hold_expire_us = 1 WHERE value = 'max'")
    assert await tx.user_files.usernames_taken(lines) == {"ada": False, "bob": True}
    assert await tx.user_files.claim_usernames(lines) == lines[2:]

    await tx.user_files.release_emails([late, bob])
    await tx.user_files.release_usernames(lines)
    assert await owners(sql) == {
        "ada@example.com": ada.id,
        "eve@example.com": eve.id,
        "ada": ada.id,
        "bob": None,
    }


async def test_an_id_is_taken_once(tx: PgTx, sql: Sql) -> None:
    """The first stays as it is; state and locale are those of the line."""
    ada = line("ada", id=str(new_user_id()), locale="de", state="disabled")
    assert await tx.user_files.ids_taken([ada]) == set()
    assert await tx.user_files.insert([ada]) == [ada]
    thief, eve = line("thief", id=str(ada.id)), line("eve")
    assert await tx.user_files.ids_taken([thief, eve]) == {ada.id}
    assert await tx.user_files.insert([thief, eve]) == [eve]
    rows = await sql.fetch("SELECT username, email, locale, state FROM users ORDER BY username")
    assert [tuple(row) for row in rows] == [
        ("ada", "ada@example.com", "de", "disabled"),
        ("eve", "eve@example.com", None, "active"),
    ]


async def test_roles_are_given_and_read(tx: PgTx) -> None:
    """With end and reason; not those whose end is over, and none is shown whose role is gone."""
    for role in ("auditor", "editor", "gone"):
        await tx.roles.create(role, permissions=[])
    end = datetime(2999, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    roles = [
        {"role": "gone"},
        {"role": "editor", "expire_time": end.isoformat(), "reason": "ticket-7"},
        {"role": "auditor", "expire_time": LONG_AGO.isoformat()},
    ]
    ada, eve = line("ada", roles=roles), line("eve")
    await tx.user_files.insert([ada, eve])
    assert await tx.user_files.known_roles([ada, line("max", roles=[{"role": "no"}])]) == {
        "gone",
        "editor",
        "auditor",
    }
    given = await tx.user_files.give_roles([ada, eve], granted_by="cli")
    assert given == {(ada.id, "gone"), (ada.id, "editor")}
    await tx.roles.delete("gone")
    held = await tx.user_files.assignments_of([ada.id, eve.id])
    assert held.keys() == {ada.id}
    [editor] = held[ada.id]
    assert editor == Assignment("editor", editor.create_time, end, "cli", "ticket-7")
    assert held[ada.id] == await tx.roles.assignments_of(ada.id)


async def test_lines_count_one_after_the_other(database: PgDatabase, sql: Sql) -> None:
    """Within a batch each line comes to what it would come to alone after those before it."""
    await sql.execute("INSERT INTO roles VALUES ('editor', now())")
    shared = str(new_user_id())
    counts, refused = await imported(
        database,
        [
            text("ada", roles=[{"role": "nothing"}]),
            text("ada", full_name="Second"),
            text("eve", email="ADA@example.com"),
            text("ada", email="other@example.com"),
            text("other"),
            text("bob", id=shared),
            text("max", id=shared),
            text("max"),
            text("bob", roles=[{"role": "nothing"}]),
            b"\n",
            None,
            *[text("zoe")] * 300,
            *[text(f"zoe{number}", username="zoe") for number in range(300)],
        ],
    )
    assert (counts.imported, counts.already_there, counts.refused) == (5, 300 + 1, 304)
    assert refused[:4] == [
        (1, "`roles` names `nothing`, which is no role"),
        (4, "`username` is taken"),
        (7, "`id` is taken"),
        (11, "has more than 65536 bytes"),
    ]
    assert refused[4:] == [(number, "`username` is taken") for number in range(312, 612)]
    rows = await sql.fetch("SELECT username, full_name FROM users ORDER BY username")
    assert [row["username"] for row in rows] == ["ada", "bob", "max", "other", "zoe"]
    assert rows[0]["full_name"] == "Second"


async def test_each_user_and_role_is_in_the_audit(database: PgDatabase, sql: Sql) -> None:
    """As `users create` and `roles assign` would leave it; a role that is over is not given."""
    await sql.execute("INSERT INTO roles VALUES ('editor', now()), ('auditor', now())")
    roles = [{"role": "editor"}, {"role": "auditor", "expire_time": LONG_AGO.isoformat()}]
    await imported(database, [text("ada", roles=roles), text("eve"), text("ada")])
    rows = await sql.fetch(
        "SELECT u.username, a.action, a.target_id, a.actor, a.count FROM audit_events a"
        " JOIN users u ON u.slot = a.slot AND u.id = a.user_id ORDER BY 1, 2 DESC"
    )
    assert [tuple(row) for row in rows] == [
        ("ada", "create_user", None, "cli", 1),
        ("ada", "assign_role", "editor", "cli", 1),
        ("eve", "create_user", None, "cli", 1),
    ]


@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
async def test_a_line_waits_for_whoever_is_quicker(
    database: PgDatabase, connect: Connect, sql: Sql, ends: str
) -> None:
    """Somebody takes an address, a username and an id and has not committed yet: the import waits,
    and then these lines are what the outcome makes them. The others are there either way.

    Seen to fail with lost lines counted as imported, and with nothing released.
    """
    other, taken_id = await connect(), new_user_id()
    await other.execute("BEGIN")
    await other.execute(
        "INSERT INTO identifiers (kind, value, user_id) VALUES"
        " ('email', 'b@example.com', $1), ('username', 'ccc', $1)",
        taken_id,
    )
    await other.execute(
        "INSERT INTO users (slot, id, full_name, username, email, state, auth_epoch, create_time,"
        " update_time) VALUES ($1, $2, 'X', 'x', 'x', 'active', 0, now(), now())",
        taken_id.int & 4095,
        taken_id,
    )
    lines = [
        text("aaa"),
        text("bbb", email="b@example.com"),
        text("ccc"),
        text("ddd", id=str(taken_id)),
        text("eee"),
    ]
    running = asyncio.create_task(imported(database, lines))
    async with asyncio.timeout(10):
        while not await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
    await other.execute(ends)
    counts, refused = await running
    names = {row["username"] for row in await sql.fetch("SELECT username FROM users")}
    if ends == "ROLLBACK":
        assert (counts, refused) == (ImportCounts(5, 0, 0), [])
        assert names == {"aaa", "bbb", "ccc", "ddd", "eee"}
    else:
        assert counts == ImportCounts(2, 1, 2)
        assert refused == [(3, "`username` is taken"), (4, "`id` is taken")]
        assert names == {"aaa", "eee", "x"}
        assert (await owners(sql)).keys() == {
            *("aaa", "eee", "aaa@example.com", "eee@example.com"),
            *("b@example.com", "ccc"),
        }


async def test_imports_in_opposite_orders(database: PgDatabase, sql: Sql) -> None:
    """Four imports of the same people at once, half of them backwards: each person is made by one
    and none is lost.
    """
    lines = [text(f"user{number:04}") for number in range(1_200)]
    orders = [lines, lines[::-1], lines, lines[::-1]]
    outcomes = await asyncio.gather(*(imported(database, order) for order in orders))
    assert sum(counts.imported for counts, _ in outcomes) == 1_200
    assert sum(counts.already_there for counts, _ in outcomes) == 3 * 1_200
    assert [refused for _, refused in outcomes] == [[]] * 4
    assert await sql.fetchval("SELECT count(*) FROM users") == 1_200
    assert await sql.fetchval("SELECT count(*) FROM identifiers") == 2_400
    assert await sql.fetchval("SELECT count(*) FROM audit_events") == 1_200


async def test_a_database_that_comes_back(
    database: PgDatabase, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that found no database is tried again; one that stays away ends the import, and what
    was counted is stored.
    """
    monkeypatch.setattr(user_import, "PAUSE_SECONDS", 0.001)
    failures = 0
    run_tx = database.run_tx

    async def sometimes(fn: Any, *, committed: Any = None) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise StorageUnavailable
        return await run_tx(fn, committed=committed)

    monkeypatch.setattr(database, "run_tx", sometimes)
    failures = user_import.ATTEMPTS_MAX - 1
    counts, _ = await imported(database, [text("ada")])
    assert counts == ImportCounts(1, 0, 0)

    def lines() -> Iterable[tuple[int, bytes]]:
        nonlocal failures
        for number in range(user_import.LINES_AT_ONCE):
            yield number, text(f"user{number:04}")
        failures = 1_000
        yield 9_999, text("late")

    with pytest.raises(StorageUnavailable):
        await import_users(database, lines(), actor="cli", counts=counts, refused=lambda *_: None)
    assert counts == ImportCounts(1 + user_import.LINES_AT_ONCE, 0, 0)
    assert await sql.fetchval("SELECT count(*) FROM users") == counts.imported


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("statement", ["INSERT INTO users", "COMMIT;"])
async def test_a_connection_that_is_lost(
    database_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch, statement: str, cut: Cut
) -> None:
    """In a batch, or in its COMMIT: each line is imported once, and counted so."""
    monkeypatch.setattr(user_import, "PAUSE_SECONDS", 0.001)
    lines = [text(f"user{number}") for number in range(30)]
    async with CuttingProxy(database_url) as proxy, open_database(proxy.url) as database:
        proxy.arm(statement, cut)
        assert await imported(database, lines) == (ImportCounts(30, 0, 0), [])
        assert proxy.has_cut
    assert await sql.fetchval("SELECT count(*) FROM users") == 30
    assert await sql.fetchval("SELECT count(*) FROM audit_events") == 30


async def test_a_hold_is_somebody_elses(database: PgDatabase, tx: PgTx, sql: Sql) -> None:
    """A username that a registration holds is refused; once the hold is over, it is taken."""
    assert await tx.registrations.hold_username("ada", subject_key=subject(), lifetime=HOUR)
    counts, refused = await imported(database, [text("ada")])
    assert refused == [(1, "`username` is held by a registration")]
    assert await sql.fetchval("SELECT count(*) FROM users") == 0
    past_us = int((datetime.now(UTC) - timedelta(seconds=1)).timestamp() * 1_000_000)
    await sql.execute("UPDATE identifiers SET hold_expire_us = $1", past_us)
    counts, refused = await imported(database, [text("ada")])
    assert (counts, refused) == (ImportCounts(1, 0, 0), [])
