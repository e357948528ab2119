"""Every statement keeps the SQL rules (design.md 13), and every rule was seen to find its fault."""

import ast

import pytest

from tests.storage.schema_rules import SCHEMA_RULES
from tests.storage.sql_rules import RULES, Rule
from tests.storage.sql_source import (
    SERVICE,
    STORAGE,
    Statement,
    all_statements,
    constants,
    migrations,
    sql_in,
    storage_sources,
    unsafe_calls,
)
from tests.storage.tables import ALL_SLOTS, BY_COLUMN, BY_SLOT, REFERENCE

STATEMENTS_MIN = 40

# Statements that break one rule each, by the rule's name.
FAULTS = {
    "parses": ["SELEC 1", "SELECT id FROM users WHERE slot = %s AND"],
    "is_one_statement": ["SELECT 1; SELECT 2"],
    "is_a_plain_statement": [
        "MERGE INTO roles r USING role_permissions p ON r.name = p.role"
        " WHEN MATCHED THEN DO NOTHING",
        "WITH m AS (MERGE INTO roles r USING role_permissions p ON r.name = p.role"
        " WHEN MATCHED THEN DELETE RETURNING r.name) SELECT name FROM m",
        "CREATE TABLE t (id uuid)",
        "TRUNCATE users",
        "DO $$ BEGIN END $$",
        "SET lock_timeout = 100",
        "LISTEN changes",
        "CALL purge()",
    ],
    "names_its_columns": [
        "SELECT * FROM roles",
        "SELECT r.* FROM roles r",
        "SELECT name FROM (SELECT * FROM roles) AS r",
        "INSERT INTO roles (name, create_time) VALUES ($1, now()) RETURNING *",
    ],
    "has_now_as_its_only_clock": [
        "SELECT clock_timestamp()",
        "SELECT pg_catalog.clock_timestamp()",
        "SELECT statement_timestamp()",
        "SELECT transaction_timestamp()",
        "SELECT timeofday()",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT LOCALTIMESTAMP(3)",
        "SELECT name FROM roles WHERE create_time < CURRENT_DATE",
        "SELECT name FROM roles WHERE create_time < 'now'::timestamptz",
        "INSERT INTO roles (name, create_time) VALUES (gen_random_uuid(), now())",
        "SELECT name FROM roles ORDER BY random()",
    ],
    "has_no_now_in_case": [
        "SELECT CASE WHEN create_time > now() THEN 1 ELSE 2 END FROM roles",
        "UPDATE roles SET create_time = CASE WHEN name = $1 THEN now() END WHERE name = $1",
    ],
    "compares_no_cut_off_of_now": [
        "SELECT name FROM roles WHERE create_time < now() - $1::interval",
        "SELECT name FROM roles WHERE now() - create_time > $1::interval",
        "SELECT name FROM roles WHERE create_time BETWEEN now() - $1::interval AND now()",
        "SELECT name FROM roles WHERE create_time > (now() - $1::interval) - $2::interval",
    ],
    "has_only_immutable_expressions_on_conflict": [
        "INSERT INTO roles (name, create_time) VALUES ($1, now())"
        f" ON CONFLICT (name) DO UPDATE {rest}"
        for rest in (
            "SET create_time = now()",
            "SET create_time = CURRENT_TIMESTAMP",
            "SET name = EXCLUDED.name WHERE roles.create_time < now()",
            "SET name = to_char($2::int, 'x')",
            "SET create_time = EXCLUDED.create_time + $2::interval",
            "SET name = (SELECT role FROM role_permissions LIMIT 1)",
        )
    ],
    "pins_the_slot": [
        "SELECT id FROM users WHERE id = $1",
        "SELECT id FROM users WHERE slot = 5 AND id = $1",
        "SELECT id FROM users WHERE slot = $1 OR id = $2",
        "SELECT id FROM users WHERE NOT slot = $1",
        "SELECT id FROM users WHERE slot >= $1",
        "SELECT id FROM users WHERE slot = ANY($1::smallint[])",
        "UPDATE sessions SET revoke_time = now() WHERE id = $1",
        "DELETE FROM sessions WHERE id = $1",
        "DELETE FROM sessions s USING users u WHERE u.slot = $1 AND s.user_id = u.id",
        "SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.slot = $1",
        "SELECT s.id FROM sessions s JOIN users u ON u.slot = s.slot WHERE s.id = $1",
        "SELECT s.id FROM sessions s LEFT JOIN users u ON s.slot = $1 AND u.slot = $1",
        "SELECT id FROM users WHERE slot = $1 AND id IN (SELECT user_id FROM sessions)",
        "SELECT id FROM users u WHERE slot = $1 AND EXISTS"
        " (SELECT 1 FROM sessions s WHERE s.slot = u.slot)",
        "WITH o AS (SELECT user_id FROM sessions) SELECT id FROM users WHERE slot = $1",
        "SELECT id FROM users WHERE slot = $1 UNION SELECT id FROM sessions",
        "SELECT id FROM users NATURAL JOIN unnest($1::smallint[]) AS k(slot)",
        "SELECT u.id FROM users u JOIN generate_series(0, $1) AS k(slot) ON k.slot = u.slot",
    ],
    "marks_all_slots_only_where_it_has_to": [],  # `test_the_mark_is_for_all_slots_only`
    "inserts_into_a_slot": [
        "INSERT INTO user_roles (user_id, role, create_time) VALUES ($1, $2, now())",
        "INSERT INTO user_roles VALUES ($1, $2, $3, now())",
        "INSERT INTO user_roles (slot, user_id, role) VALUES ($1, $2, $3), (0, $2, $3)",
    ],
    "moves_no_row": [
        "UPDATE users SET slot = $2 WHERE slot = $1",
        "UPDATE identifiers SET value = $2 WHERE kind = 'email' AND value = $1",
        "INSERT INTO identifiers (kind, value, user_id) VALUES ('email', $1, $2)"
        " ON CONFLICT (kind, value) DO UPDATE SET value = EXCLUDED.value",
    ],
    "locks_rows_of_one_slot": [
        "SELECT id FROM users WHERE id = $1 FOR UPDATE",
        "SELECT name FROM roles WHERE name = $1 FOR SHARE",
        "SELECT u.id FROM users u, roles r WHERE u.slot = $1 FOR UPDATE",
        "LOCK TABLE users",
    ],
    "takes_no_advisory_lock": [
        "SELECT pg_advisory_xact_lock($1)",
        "SELECT name FROM roles WHERE pg_try_advisory_lock(1)",
    ],
    "uses_no_sequence_and_no_setting": [
        "SELECT nextval('users_id')",
        "SELECT set_config('jit', 'on', true)",
    ],
    "makes_no_temporary_table": [
        "CREATE TEMP TABLE t (id uuid)",
        "CREATE UNLOGGED TABLE t (id uuid)",
        "SELECT name INTO TEMP t FROM roles",
        "SELECT name INTO t FROM roles",
    ],
    "changes_rows_by_condition": [
        "UPDATE roles SET name = $1",
        "DELETE FROM roles",
        "WITH d AS (DELETE FROM roles RETURNING name) SELECT name FROM d",
    ],
    "repeats_the_condition_of_a_batch": [
        f"DELETE FROM roles WHERE name IN ({picked}) {repeated}"
        for picked in ("SELECT name FROM roles WHERE name > $1 AND create_time < $2 LIMIT 9",)
        for repeated in (
            "",
            "AND name > $1",
            "AND (name > $1 OR create_time < $2)",
            "AND (name > $1 AND create_time < $2) IS NOT FALSE",
            "AND name > $2 AND create_time < $1",
        )
    ],
    "has_no_lock_timeout": ["SET LOCAL lock_timeout = 100"],
    "takes_values_as_parameters": [
        "SELECT name FROM roles WHERE name = '{name}'",
        "SELECT name FROM roles WHERE name = 'ada@example.com'",
        "SELECT name FROM roles WHERE name = '$1'",
        "SELECT name FROM roles WHERE name = 'O''Hara'",
    ],
    "numbers_its_parameters_densely": [
        "SELECT name FROM roles WHERE name = $2",
        "SELECT name FROM roles WHERE name IN ($1, $3)",
        "SELECT name FROM roles WHERE name IN ($1, $2, $3, $4)",
    ],
    "joins_no_two_distributions": [
        "SELECT u.id FROM identifiers i JOIN users u ON u.id = i.user_id WHERE u.slot = $1",
    ],
}
SCHEMA_FAULTS = {
    "makes_tables_and_indexes_only": [
        "CREATE SEQUENCE s",
        "CREATE EXTENSION citext",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION f()",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TYPE t AS ENUM ('a')",
        "CREATE TABLE t AS SELECT 1",
        "DO $$ BEGIN END $$",
        "SELECT setval('s', 1)",
    ],
    "counts_nothing_by_itself": [
        "CREATE TABLE roles (id bigserial)",
        "CREATE TABLE roles (id bigint GENERATED ALWAYS AS IDENTITY)",
        "ALTER TABLE roles ADD COLUMN id serial",
    ],
    "says_how_a_table_is_distributed": [
        "CREATE TABLE unheard_of (name text)",
        "CREATE TABLE users (id uuid)",
        "CREATE TABLE users (slot integer, id uuid)",
    ],
    "has_unique_keys_with_the_distribution": [
        "CREATE TABLE users (slot smallint, id uuid PRIMARY KEY)",
        "CREATE TABLE users (slot smallint, id uuid, PRIMARY KEY (id, slot))",
        "CREATE TABLE users (slot smallint, id uuid UNIQUE, PRIMARY KEY (slot, id))",
        "CREATE UNIQUE INDEX u ON users (username)",
        "CREATE UNIQUE INDEX u ON users (lower(username), slot)",
        "ALTER TABLE users ADD CONSTRAINT u UNIQUE (email)",
        "ALTER TABLE users ADD COLUMN handle text UNIQUE",
        "ALTER TABLE users ADD CONSTRAINT u EXCLUDE (slot WITH =)",
        "CREATE TABLE identifiers (kind text PRIMARY KEY, value text)",
    ],
    "refers_inside_one_slot": [
        f"CREATE TABLE {text}"
        for text in (
            "user_roles (slot smallint, role text REFERENCES roles (name))",
            "user_roles (slot smallint, user_id uuid REFERENCES users (id))",
            "user_roles (slot smallint, u uuid, FOREIGN KEY (slot, u) REFERENCES users)",
            "user_roles (slot smallint, u uuid, FOREIGN KEY (u, slot) REFERENCES users (slot, id))",
            "users (slot smallint, e text, FOREIGN KEY (e) REFERENCES identifiers (value))",
            "identifiers (user_id uuid REFERENCES users (id))",
            "roles (owner uuid REFERENCES users (id))",
        )
    ]
    + ["ALTER TABLE sessions ADD FOREIGN KEY (user_id) REFERENCES users (id)"],
}
# What the rules must let pass, because it is the advice of design.md 13.
GOOD = [
    "SELECT u.id FROM users u JOIN unnest($1::smallint[], $2::uuid[]) AS k(slot, id)"
    " ON u.slot = k.slot AND u.id = k.id",
    "SELECT u.id FROM users u JOIN unnest($1::smallint[], $2::uuid[]) AS k(slot, id)"
    " USING (slot, id)",
    "SELECT s.id FROM sessions s JOIN users u ON u.slot = s.slot WHERE u.slot = $1",
    "SELECT s.id FROM sessions s LEFT JOIN users u ON u.slot = $1 WHERE s.slot = $1",
    "DELETE FROM sessions WHERE slot = $1::smallint AND id = $2",
    "DELETE FROM roles WHERE name IN (SELECT name FROM roles WHERE name > $1 AND create_time < $2"
    " LIMIT 9) AND (create_time < $2 AND name > $1) IS TRUE",
    "SELECT count(*) FROM roles",
    "SELECT id FROM users WHERE slot = $1 AND id = $2 FOR UPDATE",
    "UPDATE roles SET create_time = now() + $2::interval WHERE name = $1",
    "INSERT INTO roles AS r (name, create_time) VALUES ($1, now()) ON CONFLICT (name) DO UPDATE"
    " SET create_time = GREATEST(r.create_time, EXCLUDED.create_time) WHERE r.name <> $2",
]

STATEMENTS = all_statements()
DDL = [s for s in STATEMENTS if s.is_migration or s.name == "CREATE_LEDGER"]


def seeded(faults: dict[str, list[str]], rules: list[Rule]) -> list[object]:
    """Returns (rule, bad statement) for pytest."""
    by_name = {rule.__name__: rule for rule in rules}
    return [
        pytest.param(by_name[name], text, id=f"{name}-{number}")
        for name, texts in faults.items()
        for number, text in enumerate(texts)
    ]


def test_the_statements_were_found() -> None:
    """The collection finds the constants of every file with SQL, and every migration."""
    assert len(STATEMENTS) >= STATEMENTS_MIN
    files = {statement.file for statement in STATEMENTS}
    silent = storage_sources().keys() - files
    assert silent == {"__init__.py", "own_connection.py", "pool.py", "transactions.py"}
    assert [s.file for s in migrations()] == [s.file for s in STATEMENTS if s.is_migration] != []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_statement_keeps_the_rule(rule: Rule) -> None:
    """No constant of storage/ and no migration breaks this rule."""
    assert [f"{s} {fault}" for s in STATEMENTS for fault in rule(s)] == []


@pytest.mark.parametrize("rule", SCHEMA_RULES, ids=lambda rule: rule.__name__)
def test_every_migration_keeps_the_rule(rule: Rule) -> None:
    """No migration breaks this rule."""
    assert [f"{s} {fault}" for s in DDL for fault in rule(s)] == []


@pytest.mark.parametrize(("rule", "text"), seeded(FAULTS, RULES))
def test_a_rule_finds_its_fault(rule: Rule, text: str) -> None:
    """The rule says something about a statement that breaks it."""
    assert list(rule(Statement("seed.py", "SEED", text))) != []


@pytest.mark.parametrize(("rule", "text"), seeded(SCHEMA_FAULTS, SCHEMA_RULES))
def test_a_schema_rule_finds_its_fault(rule: Rule, text: str) -> None:
    """The rule says something about a migration that breaks it."""
    assert list(rule(Statement("0000_seed.sql", "file", text))) != []


def test_every_rule_has_a_fault() -> None:
    """A new rule comes with a statement that breaks it."""
    assert {rule.__name__ for rule in RULES} == FAULTS.keys()
    assert {rule.__name__ for rule in SCHEMA_RULES} == SCHEMA_FAULTS.keys()


@pytest.mark.parametrize("text", GOOD)
def test_the_rules_let_advised_statements_pass(text: str) -> None:
    """What design.md 13 advises breaks no rule."""
    statement = Statement("seed.py", "SEED", text)
    assert [fault for rule in RULES for fault in rule(statement)] == []


def test_the_mark_is_for_all_slots_only() -> None:
    """Few statements are marked, the mark needs a reason, and frees from the slot alone."""
    assert {str(s) for s in STATEMENTS if s.marked_all_slots} == ALL_SLOTS
    by_name = {rule.__name__: rule for rule in RULES}
    bare = 'FIND = "SELECT id FROM users WHERE id = $1 FOR UPDATE"'
    [unmarked] = constants("seed.py", f"# sql-rules: all slots\n{bare}")
    [marked] = constants("seed.py", f"# sql-rules: all slots (a seed)\n{bare}")
    [too_far] = constants("seed.py", f"# sql-rules: all slots (a seed)\n\n{bare}")
    assert list(by_name["pins_the_slot"](unmarked)) != []
    assert list(by_name["pins_the_slot"](too_far)) != []
    assert list(by_name["pins_the_slot"](marked)) == []
    assert list(by_name["locks_rows_of_one_slot"](marked)) != []
    needless = '# sql-rules: all slots (a seed)\nFIND = "SELECT id FROM users WHERE slot = $1"'
    [idle] = constants("seed.py", needless)
    assert list(by_name["marks_all_slots_only_where_it_has_to"](idle)) != []


def test_parameters_are_explained_above_the_constant() -> None:
    """Four parameters and a comment that names each are accepted."""
    source = '# $1 a, $2 b,\n# $3 c, $4 d\nFIND = "SELECT $1::int, $2::int, $3::int, $4::int"'
    [statement] = constants("seed.py", source)
    assert [fault for rule in RULES for fault in rule(statement)] == []


def test_storage_sends_constants_only() -> None:
    """Each call that sends SQL is given a constant of its file; `migrate` also the files."""
    bad = [
        call for file, source in storage_sources().items() for call in unsafe_calls(file, source)
    ]
    assert bad == []


@pytest.mark.parametrize(
    "call",
    [
        "c.fetch('SELECT 1')",
        "c.fetchval(f'SELECT {x}')",
        "c.fetchrow(self.FIND + ' FOR UPDATE')",
        "c.execute(self.FIND.format(x))",
        "c.execute(self.FIND % x)",
        "c.execute(statement)",
        "c.execute(self.BUILT)",
        "c.execute(Other.FIND)",
        "c.execute(FIND)",
        "c.executemany(*x)",
        "c.fetch(query=self.FIND)",
        "c.execute(migration.sql)",
        "self._send(f'SELECT {x}')",
        "self._send(statement=self.FIND)",
    ],
)
def test_a_call_that_sends_no_constant_is_found(call: str) -> None:
    """A text made at the call, or passed on from anywhere, does not get by."""
    source = (
        "class Store:\n"
        "    FIND = 'SELECT 1'\n"
        "    BUILT = f'SELECT {1}'\n"
        "    async def _send(self, statement):\n"
        "        await c.fetch(statement)\n"
        "    async def find(self, x):\n"
        "        await c.fetch(self.FIND, x)\n"
        "        await self._send(Store.FIND)\n"
    )
    assert unsafe_calls("seed.py", source) == []
    assert unsafe_calls("seed.py", f"{source}        await {call}\n") != []


def test_no_sql_stands_outside_storage() -> None:
    """No other module of the service holds a text that PostgreSQL could parse."""
    paths = [path for path in SERVICE.rglob("*.py") if STORAGE not in path.parents]
    assert len(paths) > 30
    assert [bad for path in paths for bad in sql_in(path.name, path.read_text())] == []


@pytest.mark.parametrize(
    "text", ["'SELECT 1'", "f'select {x} from users'", "'''\n  DELETE FROM users WHERE id = $1'''"]
)
def test_sql_outside_storage_is_found(text: str) -> None:
    """Constants and f-strings in any case and layout are found; words are not."""
    assert sql_in("seed.py", f"x = {text}") != []
    assert sql_in("seed.py", "'Select the newest one.'\n'with care'") == []


def test_no_lock_timeout_is_set_anywhere() -> None:
    """`statement_timeout` bounds a statement; a lock_timeout breaks locks of Citus off."""
    for file, source in storage_sources().items():
        texts = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
        assert not [text for text in texts if "lock_timeout" in str(text)], file


def test_the_tables_are_those_of_the_migrations() -> None:
    """tables.py names exactly the tables that there are."""
    made = {
        raw.stmt.relation.relname
        for statement in DDL
        for raw in statement.tree
        if type(raw.stmt).__name__ == "CreateStmt"
    }
    assert made == BY_SLOT | REFERENCE | BY_COLUMN.keys()
