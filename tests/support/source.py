"""Read the source of the product."""

from __future__ import annotations

import ast
import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard


@functools.cache
def syntax_tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file.

    The garbage collector is off meanwhile: CPython before 3.11.8 raises SystemError if a finaliser parses source too,
    as one that logs a traceback does (gh-106905).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_bytes())
    finally:
        if was_enabled:
            gc.enable()


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes below it, in the order of `ast.walk`, in a third of its time."""
    found = [tree]
    # The loop also visits the nodes that it appends.
    for node in found:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found += [item for item in value if isinstance(item, ast.AST)]
    return iter(found)


def nodes(path: Path) -> Iterator[ast.AST]:
    """Yield all nodes of the syntax tree of a file."""
    return walk(syntax_tree(path))


def reads_key(node: ast.AST, key: str) -> TypeGuard[ast.Subscript]:
    """Return whether a node has this constant as its key: `mapping["key"]`."""
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == key
