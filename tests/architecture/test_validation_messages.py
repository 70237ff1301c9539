"""Messages of Pydantic reach users in plain words: never with `Value error, `, a class name or an address of its pages."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.source import nodes, reads_key, walk

SOURCE = Path(__file__).parents[2] / "src" / "relab"
PLAIN = {"plain_message", "message_with_value"}


def files() -> Iterator[tuple[str, Sequence[ast.AST]]]:
    """Yield the name of each file of the product, with all nodes of its syntax tree."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), list(nodes(path))


def is_call_of(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def is_log(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "_log"
    )


def test_message_of_a_problem_is_only_read_to_make_it_plain() -> None:
    raw = []
    for name, found in files():
        plain = {id(part) for node in found if is_call_of(node, PLAIN) for part in walk(node)}
        raw += [f"{name}:{node.lineno}" for node in found if reads_key(node, "msg") and id(node) not in plain]

    assert raw == []


def test_validation_error_is_never_printed_as_a_whole() -> None:
    printed = []
    for name, found in files():
        for handler in found:
            if not isinstance(handler, ast.ExceptHandler) or handler.type is None or handler.name is None:
                continue
            if "ValidationError" not in ast.unparse(handler.type):
                continue
            logged = {id(part) for node in walk(handler) if is_log(node) for part in walk(node)}
            for node in walk(handler):
                value = node.value if isinstance(node, ast.FormattedValue) else None
                if is_call_of(node, {"str", "repr", "print"}) and isinstance(node, ast.Call) and node.args:
                    value = node.args[0]
                if isinstance(value, ast.Name) and value.id == handler.name and id(node) not in logged:
                    printed.append(f"{name}:{node.lineno}")

    assert printed == []
