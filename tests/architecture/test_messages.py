"""Messages of Pydantic: one function makes them readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import relab
from tests.support.source import nodes, reads_key

SOURCE = Path(relab.__file__).parent


def test_message_of_pydantic_is_made_readable_wherever_it_is_used() -> None:
    found = {f"{path.relative_to(SOURCE)}:{line}" for path in sorted(SOURCE.rglob("*.py")) for line in raw_uses(path)}

    assert found == set()


def raw_uses(path: Path) -> Iterator[int]:
    """Yield the lines that read `["msg"]` of a problem outside of a call of `plain_message`."""
    found = list(nodes(path))
    readable = {
        id(argument)
        for node in found
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "plain_message"
        for argument in node.args
    }
    for node in found:
        if reads_key(node, "msg") and id(node) not in readable:
            yield node.lineno
