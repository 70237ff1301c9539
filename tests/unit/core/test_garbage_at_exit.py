"""Garbage collection: a late first collection, frequent later ones, and none at exit."""

from __future__ import annotations

import subprocess
import sys

ENDING = """
from relab.core.garbage import collect_seldom, skip_collections_at_exit
collect_seldom()
skip_collections_at_exit()
import duckdb
duckdb.connect().execute("select 1").fetchall()
"""


def test_process_that_used_duckdb_exits_without_output_on_stderr() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True, timeout=60)

    assert done.stderr == ""


STARTING = """
import gc
from relab.core.garbage import collect_seldom
collect_seldom()
before = gc.get_stats()
loaded = [[] for _ in range(100_000)]
print(gc.get_stats() == before)
loaded += [[] for _ in range(400_000)]
print(gc.get_threshold()[0], gc.callbacks)
"""


def test_first_collection_waits_for_the_libraries_and_later_ones_are_more_frequent() -> None:
    command = [sys.executable, "-c", STARTING]
    before, after = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()

    assert before == "True"
    assert after == "50000 []"
