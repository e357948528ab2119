"""How PostgreSQL finds the rows of each statement: by the slot, in an index (design.md 13).

A statement that names its slot may still be planned as a reading of the whole table, or by an index
that does not begin with it, and then costs more with every row that is there.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from pglast import ast

from tests.storage.sql_source import Statement, all_statements
from tests.storage.sql_tree import walk
from tests.storage.tables import BY_COLUMN, BY_SLOT
from tests.support.postgres import DatabaseServer

Sql = asyncpg.Connection
Plan = dict[str, Any]

ROWS = 10_000
MODES = ("force_custom_plan", "force_generic_plan")
# Of every table 10,000 rows in 400 slots: with two rows a slot the other columns would not matter.
FILL = f"""
    CREATE TEMP TABLE n AS
        SELECT n, (n % 400)::smallint AS slot, gen_random_uuid() AS id,
               gen_random_uuid() AS other, sha256(n::text::bytea) AS key,
               now() - n * interval '1 second' AS at
        FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO users SELECT slot, id, 'Ada', 'ada' || n, n || '@example.com', 'en', 'active', 0,
                             at, at, 0 FROM n;
    INSERT INTO identifiers (kind, value, user_id)
        SELECT kind, n || kind, id FROM n, unnest(ARRAY['email', 'username']) AS kind;
    INSERT INTO sessions (slot, id, user_id, verifier, key_id, epoch, create_time, auth_time,
                          expire_time, last_seen_time)
        SELECT slot, other, id, key, 1, 0, at, at, at + interval '30 days', at FROM n;
    INSERT INTO roles SELECT 'role' || n, at FROM n WHERE n <= 20;
    INSERT INTO role_permissions SELECT name, 'read' FROM roles;
    INSERT INTO user_roles (slot, user_id, role, create_time)
        SELECT slot, id, 'role' || n % 20 + 1, at FROM n;
    INSERT INTO registrations SELECT slot, other, key, id, 'Ada', 'ada' || n, n || '@example.com',
                                     'en', at, at + interval '1 day' FROM n;
    INSERT INTO challenges (slot, id, purpose, subject_key, nonce, key_id, code_form, attempts,
                            attempts_by_email, user_id, create_time, expire_time)
        SELECT slot, id, 'sign_in', key, key, 1, 6, 0, 0, id, at, at + interval '1 day' FROM n;
    INSERT INTO subject_budgets SELECT slot, key, ARRAY[n], ARRAY[]::bigint[], 1, 0, at FROM n;
    INSERT INTO email_changes SELECT slot, id, other, 'new@example.com', NULL,
                                     at + interval '1 day' FROM n;
    INSERT INTO outbox (slot, id, kind, challenge_id, state, attempts, create_time, next_time)
        SELECT slot, other, 'otp', id, CASE n % 10 WHEN 0 THEN 'pending' ELSE 'sent' END, 0, at, at
        FROM n;
    INSERT INTO outbox (slot, id, kind, user_id, email_change_id, state, attempts, create_time,
                        next_time)
        SELECT slot, id, 'email_changed', id, other, 'sent', 0, at, at FROM n;
    INSERT INTO audit_events (slot, at, id, action, outcome, actor, user_id, count)
        SELECT slot, at, other, 'sign_in', 'ok', 'tests', id, 1 FROM n;
    INSERT INTO changes (slot, at, id, kind, user_id, epoch, version, revoked)
        SELECT slot, at, other, 'user', id, 0, n, false FROM n;
    INSERT INTO rate_limits (key, step1_us, slack1_us, tat1_us) SELECT key, 1, 1, 1 FROM n;
    ANALYZE;
"""
# A parameter's value by its type, out of rows that are there.
VALUES = {
    "smallint": "(SELECT slot FROM n WHERE n = 5000)",
    "uuid": "(SELECT id FROM n WHERE n = 5000)",
    "bytea": "(SELECT key FROM n WHERE n = 5000)",
    "text": "'sign_in'::text",
    "integer": "5::integer",
    "bigint": "5::bigint",
    "boolean": "true",
    "interval": "interval '5 minutes'",
    "timestamp with time zone": "now()",
}
# Arrays as text, of twenty sessions: for 256 of 10,000 to read all is the right plan.
MANY = "SELECT array_agg({}::text) FROM n WHERE n % 500 = 0"
OWN_VALUES = {
    "live_sessions.py:LiveSessionStore.FIND_MANY": [
        f"({MANY.format('slot')})",
        f"({MANY.format('other')})",
        VALUES["interval"],
    ],
    "changes.py:ChangeFeed.READ": ["now() - interval '2 seconds'"],
}
# What is asked all the time, of all slots: the index that it is asked by.
OFTEN = {
    "changes.py:ChangeFeed.READ": "changes_at",
    "outbox.py:OutboxStore.CANDIDATES": "outbox_waiting",
}
# Bulk work, slot by slot.
WHOLE_SLOT = {
    "fence.py:FenceStore.END_CHALLENGES",
    "purge.py:PurgeStore.ORPHANED_ROLES",
    "purge.py:PurgeStore.OUTDATED_SESSIONS",
}
# The columns of a condition, `(slot = $1) AND (id = $2)`.
COMPARED = re.compile(r"\((\w+) ")
# Bulk work by a column that it is for; `sql-rules: all slots` marks that of the tables by slot.
BULK = {
    "key_use.py:KeyUseStore.IN_SLOTS",
    "purge.py:PurgeStore.HOLDS",
    "purge.py:PurgeStore.DRAINED_LIMITS",
}


@pytest.fixture(scope="module")
async def full(postgres: DatabaseServer, template: str) -> AsyncIterator[Sql]:
    """A connection to a database with 10,000 rows in each table, which PostgreSQL knows of."""
    name = postgres.next_name("plans")
    connection = await asyncpg.connect(await postgres.create_database(name, template=template))
    try:
        await connection.execute(FILL)
        yield connection
    finally:
        await connection.close()
        await postgres.drop_database(name)


def tables_of(statement: Statement) -> set[str]:
    """The tables that the statement names."""
    return {node.relname for node in walk(statement.tree, ast.RangeVar)}


STATEMENTS = [
    statement
    for statement in all_statements()
    if not statement.is_migration
    and tables_of(statement) & {*BY_SLOT, *BY_COLUMN}
    and not statement.marked_all_slots
    and str(statement) not in BULK
]


def value_of(type_name: str) -> str:
    """Some value of this type, as SQL."""
    value = VALUES[type_name.removesuffix("[]")]
    if not type_name.endswith("[]"):
        return value
    column = {"smallint": "slot", "uuid": "other", "bytea": "key"}.get(type_name[:-2], value)
    return f"(SELECT array_agg({column}) FROM n WHERE n % 500 = 0)"


async def plan_of(full: Sql, statement: Statement, mode: str) -> Plan:
    """The plan for values that are there, or for any; nothing is run."""
    await full.execute(f"SET plan_cache_mode = {mode}")
    await full.execute(f"PREPARE planned AS {statement.sql}")
    try:
        types: list[str] = await full.fetchval(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'planned'"
        )
        values = OWN_VALUES.get(str(statement), [value_of(name) for name in types])
        quoted = [await full.fetchval(f"SELECT quote_literal(({value})::text)") for value in values]
        literals = ", ".join(f"{text}::{name}" for text, name in zip(quoted, types, strict=True))
        call = f"EXECUTE planned ({literals})" if literals else "EXECUTE planned"
        (plan,) = json.loads(await full.fetchval(f"EXPLAIN (FORMAT JSON) {call}"))
    finally:
        await full.execute("DEALLOCATE planned")
    return dict(plan["Plan"])


def nodes(plan: Plan) -> Iterator[Plan]:
    """The node and all below it."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def scans_without(plan: Plan, columns: dict[str, str], *, alone: bool = False) -> list[str]:
    """The scans of these tables that are by no index with the table's column in its condition, or
    by the slot alone, which has more and more rows, unless that is fine.
    """
    found = []
    for node in nodes(plan):
        column = columns.get(node.get("Relation Name", ""))
        if column is None or node["Node Type"] == "ModifyTable":
            continue
        # A bitmap's conditions are those of the indexes below it.
        conditions = [below["Index Cond"] for below in nodes(node) if "Index Cond" in below]
        tested = [set(COMPARED.findall(condition)) for condition in conditions]
        least = 2 if column == "slot" and not alone else 1
        if not any(column in each and len(each) >= least for each in tested):
            found.append(f"{node['Node Type']} of {node['Relation Name']}: {conditions}")
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
async def test_rows_are_found_by_their_slot(full: Sql, statement: Statement, mode: str) -> None:
    """Each scan of a distributed table is by an index whose condition has the column by which it is
    distributed, and another one beside the slot, planned for values that are there and for any.

    Seen to fail without sessions_user and without challenges_subject.
    """
    plan = await plan_of(full, statement, mode)
    columns = {**dict.fromkeys(BY_SLOT, "slot"), **BY_COLUMN}
    del columns["failure_counts"]  # sixteen rows
    assert scans_without(plan, columns, alone=str(statement) in WHOLE_SLOT) == []


@pytest.mark.parametrize("name", OFTEN)
async def test_what_is_polled_is_found_by_its_own_index(full: Sql, name: str) -> None:
    """The few new changes and the few waiting mails, of all slots."""
    (statement,) = [each for each in all_statements() if str(each) == name]
    plan = await plan_of(full, statement, "force_custom_plan")
    assert [node["Index Name"] for node in nodes(plan) if "Index Name" in node] == [OFTEN[name]]
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}


def test_a_scan_by_something_else_is_found() -> None:
    """By no index, and by one whose condition has another column."""
    scan = {"Node Type": "Seq Scan", "Relation Name": "users"}
    other = {"Node Type": "Index Scan", "Relation Name": "users", "Index Cond": "(id = $1)"}
    fine = {**other, "Index Cond": "((slot = $1) AND (id = $2))"}
    for plan, count in ((scan, 1), (other, 1), (fine, 0)):
        assert (
            len(scans_without({"Node Type": "Limit", "Plans": [plan]}, {"users": "slot"})) == count
        )
