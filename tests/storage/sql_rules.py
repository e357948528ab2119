"""The rules of design.md 13 for every statement; each yields what is wrong with one statement.

`RULES` holds them all. What Citus shards by is in `tables.py`, what a migration may make in
schema_rules.py.
"""

import re
from collections.abc import Callable, Iterator

import pglast
from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, BoolTestType, SQLValueFunctionOp
from pglast.stream import RawStream

from tests.storage.slot_pins import levels, pinned_by_parameter
from tests.storage.sql_source import Statement
from tests.storage.sql_tree import (
    calls_now,
    function_name,
    is_parameter,
    type_name,
    walk,
)
from tests.storage.tables import BY_SLOT

Rule = Callable[[Statement], Iterator[str]]
RULES: list[Rule] = []

# One clock, whose time stands still in a transaction; ids and secrets come from crypto.py.
_OTHER_CLOCKS = {"clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"}
_CHANCE = {"random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v4"}
_TIME_WORDS = frozenset({"now", "today", "tomorrow", "yesterday"})
_SEQUENCES = frozenset({"nextval", "currval", "setval", "lastval"})
_TIME_TYPES = frozenset({"timestamptz", "timestamp", "interval", "date", "time", "timetz"})
# Functions of PostgreSQL that are known to be immutable.
_IMMUTABLE = frozenset({"array_fill"})
_COMPARISONS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})
_STATEMENTS = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)
_COMMANDS_OF_MIGRATE = (ast.CreateStmt, ast.CreatedbStmt)
# A statement_timeout of its own needs a transaction of its own.
_COMMANDS_OF_LIMITS = (ast.TransactionStmt, ast.VariableSetStmt)
_LITERAL = re.compile(r"[a-z_]*|read committed")
_NUMBER = re.compile(r"\$(\d+)")


def rule(function: Rule) -> Rule:
    """Adds a rule to RULES."""
    RULES.append(function)
    return function


@rule
def parses(statement: Statement) -> Iterator[str]:
    """PostgreSQL's own parser takes it."""
    try:
        pglast.parse_sql(statement.sql)
    except pglast.Error as error:
        yield str(error)


@rule
def is_one_statement(statement: Statement) -> Iterator[str]:
    """A constant is one statement; a migration may have many."""
    begins = isinstance(statement.tree[0].stmt, ast.TransactionStmt)
    if begins and statement.file == "limits.py":
        return  # BEGIN and what holds in it leave together
    if not statement.is_migration and len(statement.tree) != 1:
        yield f"{len(statement.tree)} statements"


@rule
def is_a_plain_statement(statement: Statement) -> Iterator[str]:
    """Only reading and changing rows, and no MERGE: Citus refuses most of the rest."""
    allowed: tuple[type, ...] = _STATEMENTS
    if statement.file == "migrate.py":
        allowed += _COMMANDS_OF_MIGRATE
    if statement.file == "limits.py":
        allowed += _COMMANDS_OF_LIMITS
    for raw in statement.tree:
        # schema_rules.py says what a migration may do.
        if not statement.is_migration and not isinstance(raw.stmt, allowed):
            yield f"is a {type(raw.stmt).__name__}"
    yield from (f"holds a {type(n).__name__}" for n in walk(statement.tree, ast.MergeStmt))


@rule
def names_its_columns(statement: Statement) -> Iterator[str]:
    """No `*`: programs of two versions read the same table."""
    for column in walk(statement.tree, ast.ColumnRef):
        if any(isinstance(field, ast.A_Star) for field in column.fields):
            yield "reads `*`"


@rule
def has_now_as_its_only_clock(statement: Statement) -> Iterator[str]:
    """Nothing of time or chance but now()."""
    for call in walk(statement.tree, ast.FuncCall):
        if function_name(call) in _OTHER_CLOCKS | _CHANCE:
            yield f"calls {function_name(call)}"
    for value in walk(statement.tree, ast.SQLValueFunction):
        if any(word in SQLValueFunctionOp(value.op).name for word in ("TIME", "DATE")):
            yield f"uses {SQLValueFunctionOp(value.op).name}"
    for constant in walk(statement.tree, ast.A_Const):
        if isinstance(constant.val, ast.String) and constant.val.sval in _TIME_WORDS:
            yield f"has the literal '{constant.val.sval}'"


@rule
def has_no_now_in_case(statement: Statement) -> Iterator[str]:
    """A shard may evaluate now() in a CASE for itself."""
    if any(calls_now(case) for case in walk(statement.tree, ast.CaseExpr)):
        yield "has now() inside CASE"


@rule
def compares_no_cut_off_of_now(statement: Statement) -> Iterator[str]:
    """`now() - x` is compared with nothing: the cut-off is a parameter."""
    for comparison in walk(statement.tree, ast.A_Expr):
        compares = (
            comparison.kind != A_Expr_Kind.AEXPR_OP or comparison.name[-1].sval in _COMPARISONS
        )
        if compares and any(
            inner.name[-1].sval == "-" and inner.lexpr is not None and calls_now(inner.lexpr)
            for inner in walk((comparison.lexpr, comparison.rexpr), ast.A_Expr)
        ):
            yield "compares `now() - ...`"


@rule
def has_only_immutable_expressions_on_conflict(statement: Statement) -> Iterator[str]:
    """ON CONFLICT DO UPDATE works with EXCLUDED, columns and parameters alone."""
    for clause in walk(statement.tree, ast.OnConflictClause):
        parts = (clause.targetList, clause.whereClause)
        for call in walk(parts, ast.FuncCall, ast.SQLValueFunction, ast.SubLink):
            if not (isinstance(call, ast.FuncCall) and function_name(call) in _IMMUTABLE):
                yield f"has {function_name(call)} in ON CONFLICT DO UPDATE"
        for cast in walk(parts, ast.TypeCast):
            if type_name(cast.typeName) in _TIME_TYPES:
                yield f"casts to {type_name(cast.typeName)} in ON CONFLICT DO UPDATE"


@rule
def pins_the_slot(statement: Statement) -> Iterator[str]:
    """Each sub-query on a table distributed by slot says `slot = $n`, or joins one that does."""
    if statement.marked_all_slots:
        return
    for level in levels(statement.tree):
        for alias in sorted(level.distributed() - pinned_by_parameter(level)):
            yield f"leaves the slot of `{alias}` open"


@rule
def marks_all_slots_only_where_it_has_to(statement: Statement) -> Iterator[str]:
    """The mark stands above no statement that would do without it."""
    found = levels(statement.tree)
    if statement.marked_all_slots and all(
        level.distributed() <= pinned_by_parameter(level) for level in found
    ):
        yield "is marked `all slots` without need"


@rule
def inserts_into_a_slot(statement: Statement) -> Iterator[str]:
    """An INSERT into a table distributed by slot gives the slot, as a parameter."""
    for insert in walk(statement.tree, ast.InsertStmt):
        if insert.relation.relname not in BY_SLOT:
            continue
        columns = [column.name for column in insert.cols or ()]
        if "slot" not in columns:
            yield f"inserts into `{insert.relation.relname}` without its slot"
            continue
        for row in getattr(insert.selectStmt, "valuesLists", None) or ():
            if not is_parameter(row[columns.index("slot")]):
                yield "inserts a slot that is no parameter"


@rule
def moves_no_row(statement: Statement) -> Iterator[str]:
    """What a table is distributed by is never updated: `slot`, and the value of an identifier."""
    changes = [
        (update.relation.relname, update.targetList)
        for update in walk(statement.tree, ast.UpdateStmt)
    ] + [
        (insert.relation.relname, insert.onConflictClause.targetList)
        for insert in walk(statement.tree, ast.InsertStmt)
        if insert.onConflictClause is not None
    ]
    for table, targets in changes:
        for name in (target.name for target in targets or ()):
            if name == "slot" or (table, name) == ("identifiers", "value"):
                yield f"updates {table}.{name}"


@rule
def locks_rows_of_one_slot(statement: Statement) -> Iterator[str]:
    """FOR UPDATE only with `slot = $n`, whatever the mark says; never a whole table."""
    for level in levels(statement.tree):
        locking = isinstance(level.node, ast.SelectStmt) and level.node.lockingClause
        if locking and (not level.tables or set(level.tables) - pinned_by_parameter(level)):
            yield "locks rows without `slot = $n`"
    if any(walk(statement.tree, ast.LockStmt)):
        yield "locks a table"


@rule
def takes_no_advisory_lock(statement: Statement) -> Iterator[str]:
    """Only `migrate` takes one: a lock of a session means nothing behind a pooler."""
    for call in walk(statement.tree, ast.FuncCall):
        if "advisory" in function_name(call) and statement.file != "migrate.py":
            yield f"calls {function_name(call)}"


@rule
def uses_no_sequence_and_no_setting(statement: Statement) -> Iterator[str]:
    """Ids come from crypto.py, and the pool alone sets what a connection is like."""
    for call in walk(statement.tree, ast.FuncCall):
        if function_name(call) in _SEQUENCES | {"set_config"}:
            yield f"calls {function_name(call)}"


@rule
def makes_no_temporary_table(statement: Statement) -> Iterator[str]:
    """No TEMP or UNLOGGED table, and no SELECT INTO."""
    for table in walk(statement.tree, ast.RangeVar):
        if table.relpersistence != "p":
            yield f"makes `{table.relname}` temporary or unlogged"
    yield from ("is SELECT INTO" for s in walk(statement.tree, ast.SelectStmt) if s.intoClause)


@rule
def changes_rows_by_condition(statement: Statement) -> Iterator[str]:
    """No UPDATE or DELETE without WHERE."""
    for change in walk(statement.tree, ast.UpdateStmt, ast.DeleteStmt):
        if change.whereClause is None:
            yield f"is {type(change).__name__} without WHERE"


@rule
def repeats_the_condition_of_a_batch(statement: Statement) -> Iterator[str]:
    """A DELETE of what a sub-select on the same table picks repeats that sub-select's conditions.

    A row that changed while its lock was waited for is asked the outer conditions alone.
    """
    for delete in walk(statement.tree, ast.DeleteStmt):
        outer = {_text(test) for test in _conjuncts(delete.whereClause)}
        for picked in walk(delete.whereClause, ast.SelectStmt):
            tables = {table.relname for table in walk(picked.fromClause, ast.RangeVar)}
            if delete.relation.relname in tables:
                for test in _conjuncts(picked.whereClause):
                    if _text(test) not in outer:
                        yield f"does not repeat `{_text(test)}`"


def _conjuncts(condition: ast.Node | None) -> Iterator[ast.Node]:
    """Yields what is joined by AND, looking into `(...) IS TRUE` as well."""
    if isinstance(condition, ast.BooleanTest) and condition.booltesttype == BoolTestType.IS_TRUE:
        yield from _conjuncts(condition.arg)
    elif isinstance(condition, ast.BoolExpr) and condition.boolop == BoolExprType.AND_EXPR:
        for part in condition.args:
            yield from _conjuncts(part)
    elif condition is not None:
        yield condition


def _text(node: ast.Node) -> str:
    return str(RawStream()(node))


@rule
def has_no_lock_timeout(statement: Statement) -> Iterator[str]:
    """Citus takes locks of its own that a lock_timeout would break off."""
    if "lock_timeout" in statement.sql.lower():
        yield "mentions lock_timeout"


@rule
def takes_values_as_parameters(statement: Statement) -> Iterator[str]:
    """Only `$n`, and no literal but a lower-case word: anything else looks pasted in.

    READ COMMITTED is such a literal to the parser.

    Placeholders of other kinds (`%s`, `:name`, `{name}`) do not parse outside a literal.
    """
    if statement.is_migration:
        return
    for constant in walk(statement.tree, ast.A_Const):
        if isinstance(constant.val, ast.String) and not _LITERAL.fullmatch(constant.val.sval):
            yield f"has the literal '{constant.val.sval}'"


@rule
def numbers_its_parameters_densely(statement: Statement) -> Iterator[str]:
    """$1 to $n, none left out; more than three are explained, each, right above the constant."""
    numbers = {parameter.number for parameter in walk(statement.tree, ast.ParamRef)}
    if numbers != set(range(1, len(numbers) + 1)):
        yield f"has the parameters {sorted(numbers)}"
    explained = set(map(int, _NUMBER.findall(statement.comment)))
    if len(numbers) > 3 and numbers - explained:
        yield f"does not explain {sorted(numbers - explained)}"


@rule
def joins_no_two_distributions(statement: Statement) -> Iterator[str]:
    """A statement on identifiers touches no table distributed by slot: two statements do that."""
    tables = {table.relname for table in walk(statement.tree, ast.RangeVar)}
    if not statement.is_migration and "identifiers" in tables and tables & BY_SLOT:
        yield f"joins identifiers with {sorted(tables & BY_SLOT)}"
