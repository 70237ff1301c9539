"""Busy loops: processes that each use a whole processor for a limited time, to simulate a machine with other work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOOP: Final = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


@contextmanager
def busy_loops(count: int, longest_s: float) -> Iterator[None]:
    """Run `count` processes that each use a whole processor, until the block ends.

    Each process ends by itself after `longest_s` seconds.
    """
    command = [sys.executable, "-S", "-c", _LOOP, f"{longest_s:g}"]
    loops = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(count)]  # noqa: S603 our own words
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()
