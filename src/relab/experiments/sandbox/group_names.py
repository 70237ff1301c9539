"""Names of the control groups that a process creates: `relab-<run id>-<PID namespace>.<process id>-<number>`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"relab-.+-(\d+)\.(\d+)-\d+")


def run_prefix(run_id: str) -> str:
    """Return the beginning of the names of all control groups that processes create for a run: `relab-<run id>-`."""
    return f"relab-{run_id}-"


def this_process() -> str:
    """Return the part of a control group's name that identifies this process: `<PID namespace>.<process id>`."""
    return f"{_pid_namespace()}.{os.getpid()}"


def has_dead_runner(name: str) -> bool:
    """Return whether the process that created the control group with this name has ended.

    Return False if that is unknown, for example because that process was in another PID namespace.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    namespace, pid = map(int, found.groups())
    return namespace != 0 and namespace == _pid_namespace() and not Path(f"/proc/{pid}").exists()


def _pid_namespace() -> int:
    """Return the number of this process's PID namespace; 0 if it is unknown."""
    # The number is in the names of control groups, because the same process id is another process in each container.
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
