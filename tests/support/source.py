"""Read the source of the product."""

from __future__ import annotations

import ast
import functools
import gc
from pathlib import Path


@functools.cache
def syntax_tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file.

    Garbage is not collected meanwhile: CPython before 3.11.8 raises SystemError when a finaliser parses source too, and one
    that logs a traceback does (gh-106905).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_bytes())
    finally:
        if was_enabled:
            gc.enable()
