"""Read-only information for operators about the components, logs and settings, available even if the target is down."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import psutil

from relab.core.errors import NotFoundError
from relab.testbed.actions.plant import Plant
from relab.testbed.target.process_figures import state_of

MAX_LINES: Final = 1_000
_TAIL_BYTES: Final = 262_144
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
TARGET: Final = "target"
"""A caller may give this name in place of a component's name, to get the target's structured log of all workers."""


class UnknownLogError(NotFoundError):
    """No component that a responder may see has this name, so there is no log to return."""

    code = "unknown_component"


class Looks:
    """Reads the status of the components, the settings history and the logs of one testbed.

    Args:
        plant: gives access to the testbed. `Plant.components` must return only the components that a responder (the
            program that handles incidents) may see.
    """

    def __init__(self, plant: Plant) -> None:
        self._plant = plant

    def components(self) -> dict[str, Any]:
        """Return the state of the components and of the machine, as JSON.

        - `components`: the status of each component. Its field `process` has the kernel's figures of the component's
          process; None if no process runs.
        - `kernel`: figures of the whole machine: number of OOM kills since boot, number of CPUs, load average of the
          last minute, and number of runnable tasks.
        - `volume`: the size and the free space of the target's volume in bytes; None if the volume cannot be read.

        Raises:
            PlantError: the supervisor does not answer.
        """
        rows = [{**item, "process": _process(item["pid"])} for item in self._plant.components()]
        return {"components": rows, "kernel": _kernel(), "volume": self._volume()}

    def history(self) -> dict[str, Any]:
        """Return `{"versions": [...]}`: all changes of the target's settings with author and time, oldest first.

        Secrets are masked.

        Raises:
            PlantError: the supervisor does not answer.
        """
        return {"versions": self._plant.history()}

    def logs(self, component: str, lines: int) -> dict[str, Any]:
        """Return the last lines of a component's log as `{"component": name, "lines": [...]}`, oldest first.

        A line that is a JSON object is returned as this object. Any other line is returned as text; for `target`, it
        is left out. Only the last `_TAIL_BYTES` bytes of a file are read.

        Args:
            component: name of the component; `target` for the structured log of all workers.
            lines: maximum number of lines.

        Raises:
            UnknownLogError: no component has this name.
            PlantError: the supervisor does not answer.
        """
        if component == TARGET:
            found = _target_lines(Path(self._plant.settings()["log_path"]), lines)
            return {"component": component, "lines": found}
        rows = {item["name"]: item for item in self._plant.components()}
        if component not in rows:
            known = ", ".join((TARGET, *rows))
            raise UnknownLogError(f"There is no component {component[:60]!r}.", remedy=f"One of: {known}.")
        return {"component": component, "lines": _tail(Path(rows[component]["log"]), lines)}

    def _volume(self) -> dict[str, int] | None:
        try:
            status = os.statvfs(self._plant.settings()["data_dir"])
        except OSError:
            return None
        total = status.f_blocks * status.f_frsize
        return {"total_bytes": total, "free_bytes": status.f_bavail * status.f_frsize}


def _target_lines(path: Path, lines: int) -> list[Any]:
    newest: dict[str, Path] = {}
    for file in sorted(path.parent.glob(f"{path.stem}.w*.jsonl"), key=lambda found: found.stat().st_mtime):
        newest[file.name.split(".")[-4]] = file
    found = [line for file in newest.values() for line in _tail(file, lines) if isinstance(line, dict)]
    return sorted(found, key=lambda line: str(line.get("time")))[-lines:]


def _tail(path: Path, lines: int) -> list[Any]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(size - _TAIL_BYTES, 0)
            file.seek(begin)
            text = file.read(_TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        # The component has not run yet.
        return []
    # If reading began in the middle of the file, the first line is incomplete.
    whole = text.splitlines()[1 if begin else 0 :]
    return [_parsed(line) for line in whole[-lines:]]


def _parsed(line: str) -> Any:
    try:
        found = json.loads(line)
    except ValueError:
        return line
    return found if isinstance(found, dict) else line


def _process(pid: int | None) -> dict[str, Any] | None:
    """Return the state, memory, CPU time and number of open files of a process; None if no process has this id."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return {
            "kernel_state": state_of(pid),
            "rss_bytes": process.memory_info().rss,
            "cpu_ticks": round((times.user + times.system) * _TICKS_PER_S),
            "descriptors": process.num_fds(),
            "descriptors_limit": _descriptors_limit(pid),
        }
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        # The process has ended in the meantime.
        return None


def _descriptors_limit(pid: int) -> int | None:
    # psutil's `rlimit` needs CAP_SYS_RESOURCE for a process of another user; reading the file does not.
    limit = re.search(r"^Max open files\s+(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    return int(limit[1]) if limit else None


def _kernel() -> dict[str, Any]:
    """Return the machine's OOM kills since boot, number of CPUs, one-minute load average, and runnable tasks."""
    counted = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    load = Path("/proc/loadavg").read_text().split()
    return {
        "oom_kills": int(counted.get("oom_kill", 0)),
        "cpus": os.cpu_count(),
        "load_1m": float(load[0]),
        "running": int(load[3].partition("/")[0]),
    }
