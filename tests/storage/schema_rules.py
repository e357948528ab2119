"""The rules of design.md 13 for what migrations make; each yields what is wrong with one file."""

from collections.abc import Iterator
from dataclasses import dataclass

from pglast import ast
from pglast.enums import ConstrType

from tests.storage.sql_rules import Rule
from tests.storage.sql_source import Statement
from tests.storage.sql_tree import names, type_name, walk
from tests.storage.tables import BY_COLUMN, BY_SLOT, REFERENCE

SCHEMA_RULES: list[Rule] = []

_COMMANDS = (
    *(ast.CreateStmt, ast.AlterTableStmt, ast.IndexStmt, ast.DropStmt, ast.RenameStmt),
    *(ast.CommentStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt),
)
_SERIAL = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})


@dataclass(frozen=True)
class Key:
    """A constraint or unique index of a table: its kind and columns; where it refers to."""

    table: str
    kind: ConstrType
    columns: tuple[str, ...]
    target: str = ""
    target_columns: tuple[str, ...] = ()


def rule(function: Rule) -> Rule:
    """Adds a rule to SCHEMA_RULES."""
    SCHEMA_RULES.append(function)
    return function


@rule
def makes_tables_and_indexes_only(statement: Statement) -> Iterator[str]:
    """No trigger, function, extension, sequence, type, view or DO: tables, indexes and rows."""
    for raw in statement.tree:
        if not isinstance(raw.stmt, _COMMANDS):
            yield f"holds a {type(raw.stmt).__name__}"


@rule
def counts_nothing_by_itself(statement: Statement) -> Iterator[str]:
    """No serial, no identity: a number that one node hands out."""
    for column in walk(statement.tree, ast.ColumnDef):
        if column.typeName is not None and type_name(column.typeName) in _SERIAL:
            yield f"`{column.colname}` is {type_name(column.typeName)}"
    for constraint in walk(statement.tree, ast.Constraint):
        if constraint.contype == ConstrType.CONSTR_IDENTITY:
            yield "has an identity column"


@rule
def says_how_a_table_is_distributed(statement: Statement) -> Iterator[str]:
    """Every table stands in tables.py, and one that is distributed by slot has that column."""
    for table in walk(statement.tree, ast.CreateStmt):
        name = table.relation.relname
        if name not in BY_SLOT | REFERENCE | BY_COLUMN.keys():
            yield f"`{name}` is not in tables.py"
        columns = {c.colname: c for c in walk(table.tableElts, ast.ColumnDef)}
        if name in BY_SLOT and (
            "slot" not in columns or type_name(columns["slot"].typeName) != "int2"
        ):
            yield f"`{name}` has no `slot smallint`"


@rule
def has_unique_keys_with_the_distribution(statement: Statement) -> Iterator[str]:
    """A unique key starts with the slot, or holds the column that its table is distributed by."""
    for key in _keys(statement):
        if key.kind == ConstrType.CONSTR_EXCLUSION:
            yield f"`{key.table}` has an exclusion constraint"
        if key.kind not in {ConstrType.CONSTR_PRIMARY, ConstrType.CONSTR_UNIQUE}:
            continue
        if key.table in BY_SLOT and key.columns[:1] != ("slot",):
            yield f"a unique key of `{key.table}` starts with {key.columns}"
        if key.table in BY_COLUMN and BY_COLUMN[key.table] not in key.columns:
            yield f"a unique key of `{key.table}` is {key.columns}"


@rule
def refers_inside_one_slot(statement: Statement) -> Iterator[str]:
    """A foreign key pairs slot with slot of another such table, or joins two reference tables."""
    for key in _keys(statement):
        if key.kind != ConstrType.CONSTR_FOREIGN:
            continue
        pairs = zip(key.columns, key.target_columns, strict=False)
        inside = {key.table, key.target} <= BY_SLOT and ("slot", "slot") in pairs
        if not inside and not {key.table, key.target} <= REFERENCE:
            yield f"`{key.table}` {key.columns} refers to `{key.target}` {key.target_columns}"


def _keys(statement: Statement) -> Iterator[Key]:
    for raw in statement.tree:
        node = raw.stmt
        if isinstance(node, ast.IndexStmt) and node.unique:
            columns = tuple(element.name or "" for element in node.indexParams)
            yield Key(node.relation.relname, ConstrType.CONSTR_UNIQUE, columns)
        elif isinstance(node, ast.CreateStmt | ast.AlterTableStmt):
            table = node.relation.relname
            of_columns = set()
            for column in walk(node, ast.ColumnDef):
                for constraint in column.constraints or ():
                    of_columns.add(id(constraint))
                    yield _key(table, constraint, (column.colname,))
            for constraint in walk(node, ast.Constraint):
                if id(constraint) not in of_columns:
                    columns = names(constraint.fk_attrs) or names(constraint.keys)
                    yield _key(table, constraint, tuple(columns))


def _key(table: str, constraint: ast.Constraint, columns: tuple[str, ...]) -> Key:
    target = constraint.pktable.relname if constraint.pktable is not None else ""
    kind = ConstrType(constraint.contype)
    return Key(table, kind, columns, target, tuple(names(constraint.pk_attrs)))
