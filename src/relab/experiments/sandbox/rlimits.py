"""Set resource limits that the kernel enforces per process, see getrlimit(2) and prlimit(2)."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.protocol import SandboxError, SandboxLimits

_MB: Final = 1_048_576
WATCHED: Final = "watched by the runner"


def set_rlimits(
    pid: int, limits: SandboxLimits, missing: Mapping[str, str], *, max_file_bytes: int | None, most_tasks: int | None
) -> dict[str, str]:
    """Set the resource limits of a process; child processes that it starts later inherit them.

    The limits of open files and of file sizes are set unless they are None. The limits of memory and of tasks are only
    set if they are in `missing`.

    Args:
        pid: the process id in this machine's PID namespace.
        limits: the limits of the attempt.
        missing: `{limit: reason}` of the limits that no control group enforces.
        max_file_bytes: the largest size of each file that the process writes; None for no limit.
        most_tasks: how many tasks (processes and threads) the process's user may have; None to set no limit of tasks.
            The limit that is set is higher, `most_tasks * 9/8 + 16`, so that the runner's measuring ends the attempt
            first and reports the reason. For root no limit is set, because the kernel does not apply it to root.

    Returns:
        `{limit: mechanism that enforces it, or "not enforced: <why>"}` for the limits in `missing`, for open files and
            for file sizes.

    Raises:
        SandboxError: the kernel refuses the limit of open files or of file sizes.
    """
    found: dict[str, str] = {}
    for limit, reason in missing.items():
        found[limit] = f"not enforced: {reason}"
        if limit == "memory_mb" and limits.memory_mb is not None:
            how = [WATCHED]
            if _set(pid, resource.RLIMIT_DATA, limits.memory_mb * _MB):
                how.append("RLIMIT_DATA, per process")
            found[limit] = f"{'; '.join(how)}; no cgroup: {reason}"
        if limit == "max_pids":
            how = [WATCHED]
            # Higher than the measured limit, so that measuring ends the trial first and names the limit. RLIMIT_NPROC does
            # not apply to root.
            most = most_tasks + most_tasks // 8 + 16 if most_tasks is not None else 0
            if most and _user_of(pid) != 0 and _set(pid, resource.RLIMIT_NPROC, most):
                how.append(f"RLIMIT_NPROC, {most:,} of its user")
            found[limit] = f"{'; '.join(how)}; no cgroup: {reason}"
    if limits.max_open_files is not None:
        if not _set(pid, resource.RLIMIT_NOFILE, limits.max_open_files):
            raise SandboxError(f"the open files of process {pid} cannot be limited")
        found["max_open_files"] = "RLIMIT_NOFILE, per process"
    if max_file_bytes is not None:
        if not _set(pid, resource.RLIMIT_FSIZE, max_file_bytes):
            raise SandboxError(f"the size of the files of process {pid} cannot be limited")
        found["max_written_mb"] = f"{WATCHED}; RLIMIT_FSIZE, per file"
    return found


def tasks_of_user() -> int:
    """Return the number of processes and threads of this process's user: the number that RLIMIT_NPROC limits."""
    total = 0
    own = os.getuid()
    for name in os.listdir("/proc"):  # noqa: PTH208 a list of numbers
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                lines = Path(f"/proc/{name}/status").read_text().splitlines()
                fields = dict(line.split(":", 1) for line in lines if ":" in line)
                total += int(fields["Threads"]) if int(fields["Uid"].split()[0]) == own else 0
    return total


def _set(pid: int, kind: int, size: int) -> bool:
    """Lower the resource limit `kind` (such as `RLIMIT_NOFILE`) of a process to `size`; never raise it.

    Return whether the limit is in effect. For a process that has ended, return True.
    """
    try:
        soft, hard = resource.prlimit(pid, kind)
        infinity = resource.RLIM_INFINITY
        lower = (size if soft == infinity else min(soft, size), size if hard == infinity else min(hard, size))
        resource.prlimit(pid, kind, lower)
    except ProcessLookupError:
        # The process has ended and needs no limit.
        return True
    except (OSError, ValueError):
        return False
    return True


def _user_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[1])
    return 0
