"""Measure the resources of an attempt and detect exceeded limits, from its control group and from /proc."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.cgroups import Group
from relab.experiments.sandbox.protocol import SandboxLimits

_KB: Final = 1_024
_MB: Final = 1_048_576
_BLOCK: Final = 512
"""The unit of `st_blocks` in bytes, see stat(2)."""


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """The total use of several processes: anonymous and shared memory in bytes, and tasks (processes and threads)."""

    memory_bytes: int
    tasks: int


class LimitWatch:
    """Detects whether an attempt has exceeded a limit.

    For a limit that the control group enforces, the group reports whether it was exceeded. For other limits, this
    object measures the use.

    Args:
        limits: the limits of the attempt.
        group: the attempt's control group; None if it has none.
        processes: returns the ids of the attempt's processes in this machine's PID namespace.
        own_tasks: the number of these processes that belong to the sandbox itself.
        memory_folders: the folders that are stored in memory, as paths inside the sandbox.
        measures_all: whether to measure the use also for limits that the group enforces. Set it if the attempt started
            outside of the group: the group may not count all of the attempt's use.
    """

    def __init__(
        self,
        limits: SandboxLimits,
        group: Group | None,
        processes: Callable[[], Sequence[int]],
        *,
        own_tasks: int = 0,
        memory_folders: Sequence[str] = (),
        measures_all: bool = False,
    ) -> None:
        self._limits = limits
        self._group = group
        self._processes = processes
        self._own_tasks = own_tasks
        self._memory_folders = memory_folders
        self._grouped = frozenset[str]() if group is None or measures_all else group.limits
        self._found: str | None = None

    def exceeded(self) -> str | None:
        """Return the name of the `SandboxLimits` field that the attempt has exceeded; None if it has exceeded none.

        Once a limit has been exceeded, every later call returns the same name.
        """
        # Never set to None: another thread may have called `count` in the meantime.
        found = self._found or self._counted() or self._measured()
        if found is not None:
            self._found = found
        return self._found

    def count(self) -> None:
        """Check the control group's limits now, so that `exceeded` returns one of them even without the group.

        Another thread may call this method.
        """
        found = self._found or self._counted()
        if found is not None:
            self._found = found

    def finish(self) -> None:
        """Check the control group's limits a last time, and stop measuring. `exceeded` then returns the last result."""
        self.count()
        self._group = None
        self._limits = SandboxLimits()

    def hidden_bytes(self) -> int:
        """Return how many bytes the attempt has written to memory file systems and to open files that were deleted."""
        pids = self._processes()
        total = sum(_used_in(f"/proc/{pids[0]}/root{folder}") for folder in self._memory_folders) if pids else 0
        return total + _deleted_bytes(pids)

    def memory_bytes(self) -> int:
        """Return the anonymous and shared memory of the attempt's processes now, in bytes.

        Memory that several processes share is counted once for each of these processes, so the result may be too high.
        """
        return use_of(self._processes()).memory_bytes

    def _counted(self) -> str | None:
        if self._group is None:
            return None
        if self._group.was_out_of_memory():
            return "memory_mb"
        return "max_pids" if self._group.was_out_of_processes() else None

    def _measured(self) -> str | None:
        limits, grouped = self._limits, self._grouped
        memory = limits.memory_mb if "memory_mb" not in grouped else None
        tasks = limits.max_pids if "max_pids" not in grouped else None
        files = limits.max_open_files
        if memory is None and tasks is None and files is None:
            return None
        pids = self._processes()
        if memory is not None or tasks is not None:
            use = use_of(pids)
            if tasks is not None and use.tasks > tasks + self._own_tasks:
                return "max_pids"
            # `use_of` is faster, but counts shared pages once per process. If its result is too high, count exactly.
            if memory is not None and use.memory_bytes > memory * _MB and _exact_bytes(pids) > memory * _MB:
                return "memory_mb"
        if files is not None and any(_open_files(pid) >= files for pid in pids):
            return "max_open_files"
        return None


def use_of(pids: Iterable[int]) -> ResourceUse:
    """Return the total memory and the total number of tasks (threads) of the processes with these ids.

    Memory that several processes share is counted once for each of these processes. Processes that do not exist any
    more do not count.
    """
    memory = tasks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
                name, _, value = line.partition(b":")
                if name in {b"RssAnon", b"RssShmem"}:
                    memory += int(value.split()[0]) * _KB
                elif name == b"Threads":
                    tasks += int(value)
    return ResourceUse(memory, tasks)


def _exact_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes in bytes; memory that several of them share counts only once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
        except OSError:
            total += use_of([pid]).memory_bytes
            continue
        parts = [line.split() for line in lines]
        total += sum(int(part[1]) * _KB for part in parts if part[0] in {b"Pss_Anon:", b"Pss_Shmem:"})
    return total


def _open_files(pid: int) -> int:
    with contextlib.suppress(OSError):
        # Since Linux 6.2 `st_size` is the number of open files, see proc_pid_fd(5).
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH116, PTH208 as above
    return 0


def _deleted_bytes(pids: Iterable[int]) -> int:
    """Return the disk space in bytes of deleted files that the processes still have open."""
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 as above
                with contextlib.suppress(OSError):
                    status = os.stat(f"/proc/{pid}/fd/{number}")  # noqa: PTH116 as above
                    if status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                        found[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
    return sum(found.values())


def _used_in(folder: str) -> int:
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize
