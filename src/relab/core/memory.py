"""What the C library keeps of memory that was given back."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 1_048_576


def give_large_blocks_back() -> None:
    """Have blocks from 1 MB on given back to the system as soon as they are free, for the whole process.

    glibc raises this bound by itself, up to 32 MB, and keeps what is below it in the arena of the thread that had it. A
    table that is made anew now and then, each time in another thread, is then kept once for each thread: Python's
    table of interned strings (3.6 MB after some 10,000 trials) is one, and pathlib interns every part of a path. Other C
    libraries have no such bound; nothing happens then. See mallopt(3).
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
