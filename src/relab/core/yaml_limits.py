"""Limits of YAML files, and the path of a field in such a file."""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 4 * 1_048_576
MAX_NODES: Final = 30_000
"""The maximum number of values, after aliases are resolved."""
MAX_DEPTH: Final = 100
"""How deep lists and mappings may be nested."""

FieldPath = tuple[str | int, ...]
"""The keys and list indices from the root to a field."""
