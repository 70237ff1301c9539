"""Read the source of the product."""

from __future__ import annotations

import ast
import functools
import gc
from pathlib import Path


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
