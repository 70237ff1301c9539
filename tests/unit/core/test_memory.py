"""Memory: freed large blocks return to the system, after any earlier allocations and in any thread."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Freeing a block raises the dynamic mmap threshold of glibc, so later blocks of its size stay in the heap.
BLOCKS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from relab.core.memory import give_large_blocks_back

def kept_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096 / 1_048_576

if sys.argv[1] == "back":
    give_large_blocks_back()
bytearray(30 * 1_048_576)
before = kept_mb()
with ThreadPoolExecutor(4) as pool:
    # Something small above each block keeps it from being the end of its arena, which is given back anyway.
    def large(number):
        block = bytearray(4 * 1_048_576)
        above = [bytes(2_000) for _ in range(200)]
        del block
        return above
    held = list(pool.map(large, range(4)))
    print(kept_mb() - before)
"""


def kept(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", BLOCKS, how], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such bound")
def test_freed_large_blocks_return_to_the_system() -> None:
    kept_otherwise = kept("not")
    assert kept("back") < 3.0 < kept_otherwise
