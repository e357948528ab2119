"""Which tables of a query have their slot fixed by a parameter.

A level is one SELECT, INSERT, UPDATE or DELETE without the sub-queries in it, which are levels of
their own: the slot is repeated in each, since Citus plans each for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, JoinType

from tests.storage.sql_tree import function_name, is_parameter, names, walk
from tests.storage.tables import BY_SLOT


@dataclass
class Level:
    """One query: its tables by alias, and the conditions that every row of an alias meets."""

    node: ast.Node
    tables: dict[str, str] = field(default_factory=dict)
    # Aliases of `unnest($1, $2) AS k(slot, id)`.
    parameter_rows: set[str] = field(default_factory=set)
    # A condition, and the aliases whose rows it keeps away; None: all.
    conditions: list[tuple[ast.Node, set[str] | None]] = field(default_factory=list)
    # Pairs of aliases joined USING (slot).
    same_slot: list[tuple[set[str], set[str]]] = field(default_factory=list)

    def distributed(self) -> set[str]:
        """The aliases of tables that are distributed by slot."""
        return {alias for alias, table in self.tables.items() if table in BY_SLOT}


def levels(tree: object) -> list[Level]:
    """Returns every level of the statements."""
    with_names = {cte.ctename for cte in walk(tree, ast.CommonTableExpr)}
    found = []
    for node in walk(tree, ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt):
        level = Level(node)
        if isinstance(node, ast.UpdateStmt | ast.DeleteStmt):
            _add_source(level, node.relation, with_names)
        # INSERT: `inserts_into_a_slot` looks at its table.
        if not isinstance(node, ast.InsertStmt):
            sources = node.usingClause if isinstance(node, ast.DeleteStmt) else node.fromClause
            for source in sources or ():
                _add_source(level, source, with_names)
            if node.whereClause is not None:
                level.conditions.append((node.whereClause, None))
        found.append(level)
    return found


def pinned_by_parameter(level: Level) -> set[str]:
    """Returns the aliases whose slot is a parameter's, by `slot = $n` or a join with such a one."""
    pinned = set(level.parameter_rows)
    equal: list[tuple[str, str]] = []
    for condition, binds in level.conditions:
        for test in _conjuncts(condition):
            if not _is_equality(test):
                continue
            left, right = _slot_alias(level, test.lexpr), _slot_alias(level, test.rexpr)
            for alias, other in ((left, test.rexpr), (right, test.lexpr)):
                if alias is not None and is_parameter(other) and _binds(binds, alias):
                    pinned.add(alias)
            for alias, other_alias in ((left, right), (right, left)):
                if alias is not None and other_alias is not None and _binds(binds, alias):
                    equal.append((alias, other_alias))
    for left_side, right_side in level.same_slot:
        equal += [(a, b) for a in left_side for b in right_side]
        equal += [(b, a) for a in left_side for b in right_side]
    while more := {alias for alias, other in equal if other in pinned} - pinned:
        pinned |= more
    return pinned


def _add_source(level: Level, source: ast.Node, with_names: set[str]) -> set[str]:
    """Adds a table or a join to the level; returns its aliases."""
    if isinstance(source, ast.RangeVar):
        alias = source.alias.aliasname if source.alias else source.relname
        # The result of a WITH is no table; its own level is looked at.
        level.tables[alias] = "" if source.relname in with_names else source.relname
        return {alias}
    if isinstance(source, ast.RangeFunction):
        return _add_function(level, source)
    if isinstance(source, ast.JoinExpr):
        left = _add_source(level, source.larg, with_names)
        right = _add_source(level, source.rarg, with_names)
        if source.quals is not None:
            # The condition of an outer join keeps no row of the outer side away.
            binds: dict[JoinType, set[str] | None] = {
                JoinType.JOIN_INNER: None,
                JoinType.JOIN_LEFT: right,
                JoinType.JOIN_RIGHT: left,
            }
            level.conditions.append((source.quals, binds.get(source.jointype, set())))
        if "slot" in names(source.usingClause) and source.jointype == JoinType.JOIN_INNER:
            level.same_slot.append((left, right))
        return left | right
    return {source.alias.aliasname} if getattr(source, "alias", None) else set()


def _add_function(level: Level, source: ast.RangeFunction) -> set[str]:
    if source.alias is None:
        return set()
    alias = source.alias.aliasname
    calls = [call for functions in source.functions for call in functions if call is not None]
    if "slot" in names(source.alias.colnames) and all(
        isinstance(call, ast.FuncCall)
        and function_name(call) == "unnest"
        and all(map(is_parameter, call.args))
        for call in calls
    ):
        level.parameter_rows.add(alias)
    return {alias}


def _conjuncts(condition: ast.Node) -> Iterator[ast.Node]:
    if isinstance(condition, ast.BoolExpr) and condition.boolop == BoolExprType.AND_EXPR:
        for part in condition.args:
            yield from _conjuncts(part)
    else:
        yield condition


def _is_equality(test: ast.Node) -> bool:
    return (
        isinstance(test, ast.A_Expr)
        and test.kind == A_Expr_Kind.AEXPR_OP
        and names(test.name) == ["="]
    )


def _slot_alias(level: Level, node: ast.Node) -> str | None:
    """Returns whose `slot` the node is; without a qualifier that of the one table that has it."""
    if not isinstance(node, ast.ColumnRef) or not all(
        isinstance(part, ast.String) for part in node.fields
    ):
        return None
    *qualifier, column = names(node.fields)
    if column != "slot":
        return None
    if qualifier:
        return qualifier[-1]
    having = [*level.distributed(), *level.parameter_rows]
    return having[0] if len(having) == 1 else None


def _binds(binds: set[str] | None, alias: str) -> bool:
    return binds is None or alias in binds
