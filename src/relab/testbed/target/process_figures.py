"""Read figures of processes from /proc."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")

_STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for disk",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
}


def state_of(pid: int) -> str:
    """Return the kernel's state of a process as a word; `gone` if it does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        return "gone"
    except OSError:
        return "unknown"
    return _STATES.get(fields[0].decode(), "unknown")


class OwnProcess:
    """Figures of this process; the CPU use is that between two samples."""

    def __init__(self) -> None:
        self._cpu_s = sum(os.times()[:2])
        self._at_s = time.monotonic()

    def sample(self) -> dict[str, Any]:
        """Return memory in bytes, CPU in percent of one core, descriptors and their limit, threads."""
        cpu_s, at_s = sum(os.times()[:2]), time.monotonic()
        elapsed_s = max(at_s - self._at_s, 1e-3)
        cpu_pct = 100 * (cpu_s - self._cpu_s) / elapsed_s
        self._cpu_s, self._at_s = cpu_s, at_s
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        figures: dict[str, Any] = {"cpu_pct": round(cpu_pct, 1), "fds": limit, "fd_limit": limit}
        # If no descriptor is free, they cannot be counted; then all are in use.
        with suppress(OSError):
            figures["fds"] = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 names are enough
        with suppress(OSError):
            figures["rss_bytes"] = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
        with suppress(OSError):
            fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
            figures["threads"] = int(fields[17])
            figures["cpu_s"] = round((int(fields[11]) + int(fields[12])) / _TICKS, 2)
        return figures
