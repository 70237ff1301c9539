"""The kernel's figures of the machine: CPU, load, memory, disk, and the limits of this process's control group."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

SAMPLE_S: Final = 0.25
"""Time between the two samples from which the CPU use is computed."""
_CPU_STATES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

_CGROUP_FILES: Final = (
    "cpu.max", "cpu.stat", "memory.max", "memory.current", "memory.events", "memory.pressure", "cpu.pressure",
    "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control",
    "memory.failcnt", "pids.current", "pids.max",
)  # fmt: skip
"""Files of version 2 and of version 1; those that a machine lacks are left out."""


def host_diagnostics(data_dir: Path) -> dict[str, Any]:
    """Return the machine's figures: CPU, load, memory, pressure, control group, and the disk of `data_dir`.

    The call blocks the calling thread for a quarter of a second.
    """
    return {
        "cpu": _cpu_shares(),
        "cpus": os.cpu_count(),
        **_load(),
        "memory_kib": _memory(),
        "disk": disk_figures(data_dir),
        "pressure": _pressure(),
        "cgroup": cgroup_figures(),
        "oom_kills": _oom_kills(),
    }


def disk_figures(folder: Path) -> dict[str, Any]:
    """Return `path`, `total_bytes`, `free_bytes`, `used_pct` and `free_inodes` of the disk of a folder.

    If the disk cannot be read, return `path` and `error`.
    """
    try:
        status = os.statvfs(folder)
    except OSError as error:
        return {"path": str(folder), "error": error.strerror}
    total = status.f_blocks * status.f_frsize
    return {
        "path": str(folder),
        "total_bytes": total,
        "free_bytes": status.f_bavail * status.f_frsize,
        "used_pct": round(100 * (1 - status.f_bavail / status.f_blocks), 1) if status.f_blocks else None,
        "free_inodes": status.f_favail,
    }


def cgroup_figures(proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> dict[str, Any]:
    """Return `{name of a kernel file: content}`: limits and counters of this process's control groups (version 1 or 2).

    Args:
        proc: the process's folder in `/proc`.
        root: where the control groups are mounted.
    """
    found: dict[str, Any] = {}
    with suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for folder in _cgroup_folders(root, controllers, path):
                for name in _CGROUP_FILES:
                    if name not in found and (value := _read_cgroup(folder / name)) is not None:
                        found[name] = value
    return found


def _cgroup_folders(root: Path, controllers: str, path: str) -> list[Path]:
    bases = (
        [root / name for name in (controllers, *controllers.split(","))] if controllers else [root, root / "unified"]
    )
    # Inside a container the group's own folder may be the root of the mount.
    return [base / path.lstrip("/") for base in bases] + bases


def _read_cgroup(path: Path) -> Any:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines()]
    if lines and all(len(line) == 2 and line[1].isdigit() for line in lines):
        return {name: int(value) for name, value in lines}
    return int(text) if text.isdigit() else text


def _cpu_shares() -> dict[str, float]:
    times = psutil.cpu_times_percent(interval=SAMPLE_S)
    shares: dict[str, float] = {f"{name}_pct": getattr(times, name) for name in _CPU_STATES}
    return {"busy_pct": round(100 - shares["idle_pct"] - shares["iowait_pct"], 1), **shares}


def _load() -> dict[str, Any]:
    one, five, fifteen, tasks, _ = Path("/proc/loadavg").read_text().split()
    running, _, total = tasks.partition("/")
    return {"load": [float(one), float(five), float(fifteen)], "run_queue": int(running), "tasks": int(total)}


def _memory() -> dict[str, int]:
    wanted = {"MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree", "Dirty"}
    found = re.findall(r"^(\w+):\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found if name in wanted}


def _oom_kills() -> int | None:
    """Return how many processes of this machine the OOM killer has ended; None if the kernel does not count them."""
    found = re.search(r"^oom_kill (\d+)", Path("/proc/vmstat").read_text(), re.MULTILINE)
    return int(found[1]) if found else None


def _pressure() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name in ("cpu", "memory", "io"):
        with suppress(OSError):
            text = Path(f"/proc/pressure/{name}").read_text()
            found[name] = {
                f"{kind}_avg10_pct": float(value)
                for kind, value in re.findall(r"^(\w+) avg10=([\d.]+)", text, re.MULTILINE)
            }
    return found
