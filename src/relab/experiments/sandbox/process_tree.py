"""Find the children and the descendants of a process in /proc (proc_pid_task(5)); quick, because each trial needs it."""

from __future__ import annotations

import contextlib
import os
from typing import Final

_PIECE: Final = 65_536


def children_of(pid: int | str) -> list[int]:
    """Return the ids of the children of a process; `self` is this process. The list is empty for an ended process."""
    pieces: list[bytes] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 a list of numbers, read after each trial
            with contextlib.suppress(OSError):
                descriptor = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY)
                try:
                    while piece := os.read(descriptor, _PIECE):
                        pieces.append(piece)
                finally:
                    os.close(descriptor)
                pieces.append(b" ")
    return list(map(int, b"".join(pieces).split()))


def descendants(pid: int) -> list[int]:
    """Return the ids of a process and its descendants; those whose parent has ended are missing."""
    found = [pid]
    # The loop appends to the list that it iterates over.
    for parent in found:
        found += children_of(parent)
    return found
