"""Tune Python's cyclic garbage collector for processes that create many objects and few reference cycles."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Final

_FIRST: Final = 400_000
_THRESHOLDS: Final = (50_000, 20, 50)


def collect_seldom() -> None:
    """Make Python's cyclic garbage collector run less often in this process.

    The first collection starts after about 400,000 new objects, the next ones each after about 50,000 more. The first
    limit is higher because loading the libraries of a command creates so many objects, which cannot be freed.
    """
    # Modules, spans and rows form few cycles. With Python's defaults, collections took a quarter of the time to read
    # an export (2026-11-21, bench/ingest.py), and an eighth of the time to load the libraries of a command
    # (2026-11-23). These libraries create about 400,000 objects, which cannot be freed.
    gc.set_threshold(_FIRST, *_THRESHOLDS[1:])
    if _end_of_start not in gc.callbacks:
        gc.callbacks.append(_end_of_start)


def _end_of_start(_phase: str, _info: object) -> None:
    gc.callbacks.remove(_end_of_start)
    gc.set_threshold(*_THRESHOLDS)


def skip_collections_at_exit() -> None:
    """Make this process exit faster: Python skips the garbage collections at the exit.

    Python does not skip them if DuckDB is loaded, because DuckDB would report each remaining object on stderr.
    """
    # The end of the process frees the objects anyway. These collections took a quarter of the processor time of `lab
    # agent-runs list` (2026-11-23).
    atexit.register(_freeze)


def _freeze() -> None:
    if "_duckdb" not in sys.modules:
        gc.freeze()
