"""Change a setting of the memory allocator of the C library (glibc)."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 1_048_576


def give_large_blocks_back() -> None:
    """Make glibc return freed memory blocks of 1 MB or more to the system at once, for the whole process.

    With another C library, nothing happens. See mallopt(3).
    """
    # By default, glibc raises this threshold up to 32 MB, and keeps smaller freed blocks in the arena of their
    # thread. A table that several threads reallocate in turn, such as Python's interned strings (3.6 MB after 10,000
    # trials), would leave its memory in each arena.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
