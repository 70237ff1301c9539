"""Read the state and the resource use of processes from the kernel."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from typing import Any, Final

import psutil

_STATES: Final = {
    psutil.STATUS_RUNNING: "running",
    psutil.STATUS_SLEEPING: "sleeping",
    psutil.STATUS_DISK_SLEEP: "waiting for disk",
    psutil.STATUS_STOPPED: "stopped",
    psutil.STATUS_TRACING_STOP: "traced",
    psutil.STATUS_ZOMBIE: "zombie",
}


def state_of(pid: int) -> str:
    """Return the kernel's state of a process as a word, such as `running`, `sleeping`, `stopped` or `zombie`.

    Return `gone` for a process that does not exist, and `unknown` if the state cannot be read.
    """
    try:
        return _STATES.get(psutil.Process(pid).status(), "unknown")
    except psutil.NoSuchProcess:
        return "gone"
    except (psutil.Error, OSError):
        return "unknown"


class OwnProcess:
    """Measures the resource use of the process that has created the object."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._cpu_s = sum(os.times()[:2])
        self._at_s = time.monotonic()

    def sample(self) -> dict[str, Any]:
        """Return the current resource use of this process.

        - `cpu_pct`: mean CPU use since the last sample, in percent of one core.
        - `cpu_s`: CPU seconds since the start of the process.
        - `fds`, `fd_limit`: number of open file descriptors, and the limit of this number. If the process has no free
          descriptor to count them, `fds` is the limit.
        - `rss_bytes`, `threads`: resident memory and number of threads; left out if the process has no free descriptor
          to read them.
        """
        cpu_s, at_s = sum(os.times()[:2]), time.monotonic()
        elapsed_s = max(at_s - self._at_s, 1e-3)
        cpu_pct = 100 * (cpu_s - self._cpu_s) / elapsed_s
        self._cpu_s, self._at_s = cpu_s, at_s
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        figures: dict[str, Any] = {
            "cpu_pct": round(cpu_pct, 1),
            "cpu_s": round(cpu_s, 2),
            "fds": limit,
            "fd_limit": limit,
        }
        with suppress(OSError):
            # One descriptor is open only while the descriptors are listed.
            figures["fds"] = self._process.num_fds() - 1
            figures["rss_bytes"] = self._process.memory_info().rss
            figures["threads"] = self._process.num_threads()
        return figures
