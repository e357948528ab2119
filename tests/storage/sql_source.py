"""Finds the SQL in the sources: the constants of storage/, the migrations, and what is neither."""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pglast

import watchword

SERVICE = Path(watchword.__file__).parent
STORAGE = SERVICE / "storage"
ALL_SLOTS_MARK = re.compile(r"# sql-rules: all slots \(.+\)$", re.MULTILINE)
SENDS = frozenset(
    {"execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval", "prepare", "cursor"}
)
# The one text that is no constant: a migration's own file.
SENT_FILES = {("migrate.py", "migration.sql")}

_CONSTANT_NAME = re.compile(r"_?[A-Z][A-Z0-9_]*")
_SQL_WORDS = re.compile(
    r"\s*(select|insert|update|delete|with|create|alter|drop|truncate|values|merge|copy|lock|set"
    r"|grant|revoke|begin|commit|do|call|listen|notify|table)\b\s+\S",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """One SQL text, where it stands, and the comment lines directly above it."""

    file: str
    name: str
    sql: str
    comment: str = ""

    @property
    def is_migration(self) -> bool:
        """Whether this is a file of migrations/, which holds several statements."""
        return self.file.endswith(".sql")

    @property
    def marked_all_slots(self) -> bool:
        """Whether the comment says that this statement is meant to look at every slot."""
        return ALL_SLOTS_MARK.search(self.comment) is not None

    @functools.cached_property
    def tree(self) -> tuple[pglast.ast.RawStmt, ...]:
        """The parsed statements; raises pglast.Error. Rules must not change it."""
        return pglast.parse_sql(self.sql)

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"


def storage_sources() -> dict[str, str]:
    """Returns the text of each Python file of storage/ by its name."""
    return {path.name: path.read_text() for path in sorted(STORAGE.glob("*.py"))}


def migrations() -> list[Statement]:
    """Returns each migration as one Statement."""
    files = sorted((STORAGE / "migrations").iterdir())
    return [Statement(path.name, "file", path.read_text()) for path in files]


def constants(file: str, source: str) -> list[Statement]:
    """Returns the UPPER_CASE string constants of a module and its classes.

    A single word is a name and no statement. A text that is put together is not collected, so the
    call that sends it is found by `unsafe_calls`.
    """
    lines = source.splitlines()
    found = []
    for scope, body in _scopes(ast.parse(source)):
        for node in body:
            name, value = _assigned(node)
            if (
                name is not None
                and isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and len(value.value.split()) > 1
            ):
                comment = _comment_above(lines, node.lineno)
                found.append(Statement(file, f"{scope}{name}", value.value, comment))
    return found


def all_statements() -> list[Statement]:
    """Returns every constant of storage/ and every migration."""
    found = [s for file, source in storage_sources().items() for s in constants(file, source)]
    return found + migrations()


def unsafe_calls(file: str, source: str) -> list[str]:
    """Returns the calls that send something other than a constant of the same file.

    A private function may pass its own parameter on; then its callers must give a constant.
    """
    tree = ast.parse(source)
    known = {statement.name for statement in constants(file, source)}
    passed_on: dict[str, int] = {}
    bad = []
    for scope, function, call in _calls(tree):
        if not (isinstance(call.func, ast.Attribute) and call.func.attr in SENDS):
            continue
        sent = call.args[0] if call.args else None
        if function is not None and isinstance(sent, ast.Name):
            names = [argument.arg for argument in function.args.args if argument.arg != "self"]
            if sent.id in names and function.name.startswith("_"):
                passed_on[function.name] = names.index(sent.id)
                continue
        if not _is_constant(sent, scope, known) and (file, _text(sent)) not in SENT_FILES:
            bad.append(f"{file}:{call.lineno} sends `{_text(sent)}`")
    for scope, _, call in _calls(tree):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else _text(call.func)
        if name in passed_on:
            position = passed_on[name]
            sent = call.args[position] if len(call.args) > position else None
            if not _is_constant(sent, scope, known):
                bad.append(f"{file}:{call.lineno} passes `{_text(sent)}` to `{name}`")
    return bad


def sql_in(file: str, source: str) -> list[str]:
    """Returns the string constants and f-strings of a module that PostgreSQL could parse."""
    bad = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if _SQL_WORDS.match(text) and _parses(text):
            bad.append(f"{file}:{node.lineno} holds `{text[:40]}`")
    return bad


def _parses(text: str) -> bool:
    try:
        pglast.parse_sql(text)
    except pglast.Error:
        return False
    return True


def _scopes(tree: ast.Module) -> Iterator[tuple[str, list[ast.stmt]]]:
    yield "", tree.body
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield f"{node.name}.", node.body


def _assigned(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None, None
    if isinstance(target, ast.Name) and _CONSTANT_NAME.fullmatch(target.id):
        return target.id, node.value
    return None, None


def _comment_above(lines: list[str], lineno: int) -> str:
    found: list[str] = []
    for line in reversed(lines[: lineno - 1]):
        if not line.strip().startswith("#"):
            break
        found.insert(0, line.strip())
    return "\n".join(found)


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _calls(tree: ast.Module) -> Iterator[tuple[str, _Function | None, ast.Call]]:
    """Yields each call with its class (`Name.` or nothing) and the function around it."""

    def visit(
        node: ast.AST, scope: str, function: _Function | None
    ) -> Iterator[tuple[str, _Function | None, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Call):
                yield scope, function, child
            inner_scope = f"{child.name}." if isinstance(child, ast.ClassDef) else scope
            inner = child if isinstance(child, _Function) else function
            yield from visit(child, inner_scope, inner)

    yield from visit(tree, "", None)


def _is_constant(sent: ast.expr | None, scope: str, known: set[str]) -> bool:
    if isinstance(sent, ast.Name):
        return sent.id in known
    if isinstance(sent, ast.Attribute) and isinstance(sent.value, ast.Name):
        owner = scope if sent.value.id in {"self", "cls"} else f"{sent.value.id}."
        return f"{owner}{sent.attr}" in known
    return False


def _text(node: ast.expr | None) -> str:
    return "nothing" if node is None else ast.unparse(node)
