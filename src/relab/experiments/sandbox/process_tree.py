"""Find the children and the descendants of a process in /proc, see proc_pid_task(5)."""

from __future__ import annotations

import os
from typing import Final

_PIECE: Final = 65_536


def children_of(pid: int) -> list[int]:
    """Return the ids of the children of a process; the list is empty for an ended process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 a list of numbers, read for each trial
    except OSError:
        return []
    return [child for thread in threads for child in _children(pid, thread)]


def adopted_children() -> list[int]:
    """Return the ids of this process's adopted orphans, and of the children that its first thread has started.

    Children that other threads have started are not included.
    """
    # The kernel gives an orphan to the first living thread of its subreaper (`find_new_reaper` in kernel/exit.c).
    # Python's first thread lives as long as the process, so one file is enough.
    pid = os.getpid()
    return _children(pid, str(pid))


def descendants(pid: int) -> list[int]:
    """Return the ids of a process and its descendants; a descendant whose parent has ended is missing."""
    found = [pid]
    # The loop appends to the list that it iterates over.
    for parent in found:
        found += children_of(parent)
    return found


def _children(pid: int, thread: str) -> list[int]:
    """Return the ids of the children of one thread of a process; the list is empty if the thread has ended."""
    try:
        descriptor = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY)
    except OSError:
        return []
    pieces: list[bytes] = []
    try:
        while piece := os.read(descriptor, _PIECE):
            pieces.append(piece)
    except OSError:
        # The thread ended meanwhile; what was read are children.
        pass
    finally:
        os.close(descriptor)
    return list(map(int, b"".join(pieces).split()))
