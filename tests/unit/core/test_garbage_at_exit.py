"""What a command leaves at its end is no news for its user."""

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


def test_process_that_used_duckdb_ends_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True, timeout=60)

    assert done.stderr == ""
