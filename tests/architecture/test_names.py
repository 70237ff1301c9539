"""Names of public classes: unique in the whole product."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import relab
from tests.support.source import syntax_tree

SOURCE = Path(relab.__file__).parent


def test_public_class_name_is_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in syntax_tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(SOURCE)}:{node.lineno}")

    assert {name: found for name, found in places.items() if len(found) > 1} == {}
