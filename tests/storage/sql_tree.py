"""Looking around in the trees of pglast."""

from collections.abc import Iterator
from typing import Any

from pglast import ast


def walk(node: object, *kinds: type[ast.Node], into: bool = True) -> Iterator[Any]:
    """Yields the nodes of these kinds (all without any) in and below a node or tuple.

    With `into` false, a node that was yielded is not looked into.
    """
    if isinstance(node, tuple):
        for item in node:
            yield from walk(item, *kinds, into=into)
    elif isinstance(node, ast.Node):
        matches = not kinds or isinstance(node, kinds)
        if matches:
            yield node
        if into or not matches:
            for member in node:
                yield from walk(getattr(node, member), *kinds, into=into)


def function_name(node: ast.Node) -> str:
    """Returns the name of a called function without its schema; another node's kind."""
    if isinstance(node, ast.FuncCall):
        return str(node.funcname[-1].sval).lower()
    return type(node).__name__


def type_name(node: ast.TypeName) -> str:
    """Returns the name of a type without its schema."""
    return str(node.names[-1].sval).lower()


def calls_now(node: ast.Node) -> bool:
    """Whether now() is called in or below the node."""
    return any(function_name(call) == "now" for call in walk(node, ast.FuncCall))


def is_parameter(node: ast.Node) -> bool:
    """Whether the node is `$n` or `$n::type`."""
    while isinstance(node, ast.TypeCast):
        node = node.arg
    return isinstance(node, ast.ParamRef)


def names(strings: tuple[ast.String, ...] | None) -> list[str]:
    """Returns the texts of a list of String nodes."""
    return [string.sval for string in strings or ()]
