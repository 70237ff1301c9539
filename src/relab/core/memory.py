"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 1_048_576


def give_large_blocks_back() -> None:
    """Make glibc return freed memory blocks of 1 MB or more to the system at once, for the whole process.

    By default, glibc raises this threshold itself, up to 32 MB. It keeps smaller freed blocks in the arena (memory
    pool) of their thread. So a table that several threads reallocate in turn leaves its memory behind in each of their
    arenas. An example is Python's table of interned strings (3.6 MB after about 10,000 trials), because pathlib interns
    every part of a path.

    With a C library without this threshold, nothing happens. See mallopt(3).
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
