"""Compute the resource limits of a trial from the configuration and defaults; describe them for records and errors."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relab.experiments.config.models import ExperimentConfig, Workspace
from relab.experiments.models import ErrorType
from relab.experiments.sandbox.protocol import SandboxLimits

DEFAULT_MAX_PIDS: Final = 1_024
"""The default limit of processes and threads of a trial. Browsers and parallel builds use some hundreds."""
DEFAULT_MAX_OPEN_FILES: Final = 65_536
"""The default limit of open files of each process: the largest number that a common server requires."""
MEMORY_SHARE: Final = 0.75
"""By default, all concurrent trials together may use this share of the machine's memory."""
MIN_MEMORY_MB: Final = 1_024
"""The least default of a trial's memory limit, in MB, for any number of concurrent trials, if the machine has as much."""
_MB: Final = 1_048_576
_TMP_MARGIN_MB: Final = 64
"""Memory folders are larger than the write limit by this margin, so that the runner ends the trial and names the limit."""
_FIELDS: Final[Mapping[str, str]] = {
    "cpu_count": "runtime.sandbox.resources.cpu_count",
    "memory_mb": "runtime.sandbox.resources.memory_mb",
    "max_pids": "runtime.sandbox.resources.max_pids",
    "max_open_files": "runtime.sandbox.resources.max_open_files",
    "max_written_mb": "runtime.workspace.max_written_mb",
}
_NO_LIMIT: Final = 0


def limits_of(config: ExperimentConfig, machine_mb: int | None = None) -> SandboxLimits:
    """Return the resource limits of one trial.

    Args:
        config: the experiment. A limit of 0 in it means no limit; a missing limit gets its default.
        machine_mb: the memory of the machine in MB; None to read it from the system.
    """
    resources, at_once = config.runtime.sandbox.resources, config.design.max_concurrency
    memory = resources.memory_mb
    if memory is None:
        memory = default_memory_mb(machine_memory_mb() if machine_mb is None else machine_mb, at_once)
    pids = DEFAULT_MAX_PIDS if resources.max_pids is None else resources.max_pids
    files = DEFAULT_MAX_OPEN_FILES if resources.max_open_files is None else resources.max_open_files
    return SandboxLimits(
        cpu_count=resources.cpu_count,
        memory_mb=memory if memory != _NO_LIMIT else None,
        max_pids=pids if pids != _NO_LIMIT else None,
        max_open_files=files if files != _NO_LIMIT else None,
        tmp_mb=int(config.runtime.workspace.max_written_mb) + _TMP_MARGIN_MB,
        at_once=at_once,
    )


def default_memory_mb(machine_mb: int, at_once: int) -> int:
    """Return the default memory limit in MB of one trial.

    All trials together get `MEMORY_SHARE` of the machine's memory, divided equally among the trials that run at the
    same time. The limit of a trial is at least `MIN_MEMORY_MB`; on a small machine, where `MEMORY_SHARE` of the memory
    is less than `MIN_MEMORY_MB`, each trial gets all of this share.

    Args:
        machine_mb: the memory of the machine in MB.
        at_once: the number of trials that run at the same time.
    """
    most = int(machine_mb * MEMORY_SHARE)
    return max(most // at_once, min(MIN_MEMORY_MB, most), 4)


@functools.cache
def machine_memory_mb(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory in MB that this process can use: the machine's, or the limit of its container if that is less.

    `proc` and `groups` are the folders at which the kernel's process and control group file systems are mounted.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        lines = (proc / "self/cgroup").read_text().splitlines()
        paths = {controllers: path.strip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
        # Inside a container the path may be the one on the host, while the mount shows the container's own group.
        for name, folder, path in (
            ("memory.limit_in_bytes", groups / "memory", paths.get("memory", "")),
            ("memory.max", groups, paths.get("", "")),
        ):
            for candidate in (folder / path / name, folder / name):
                with contextlib.suppress(OSError, ValueError):
                    found.append(int(candidate.read_text()))
    return min(found) // _MB


def limits_record(config: ExperimentConfig, enforced: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the limits of a trial for the state inventory, the document that records how the trial was isolated.

    The result is `{name of a limit: {"value", "is_default", "field", "enforced_by"}}`. A name with the ending `_mb` has
    its value in MB; other values are counts. `field` is the field of the experiment file that sets the limit.

    Args:
        config: the experiment.
        enforced: `{limit: mechanism that enforces it}`, from `Posture.limits`.
    """
    resources, limits = config.runtime.sandbox.resources, limits_of(config)
    values = {name: getattr(limits, name) for name in _FIELDS if name != "max_written_mb"}
    defaults = {name for name in values if getattr(resources, name) is None}
    values["max_written_mb"] = config.runtime.workspace.max_written_mb
    if values["max_written_mb"] == Workspace.model_fields["max_written_mb"].default:
        defaults.add("max_written_mb")
    return {
        name: {
            "value": value,
            "is_default": name in defaults,
            "field": _FIELDS[name],
            "enforced_by": enforced.get(name, "not enforced: the attempt was not started"),
        }
        for name, value in values.items()
        if value is not None
    }


def describe_exceeded(limit: str, limits: SandboxLimits) -> tuple[ErrorType, str]:
    """Return the error type and the message of a trial that exceeded a limit; the message names the setting to change.

    Args:
        limit: the name of the exceeded field of `SandboxLimits`.
        limits: the limits of the trial.
    """
    value = f"{getattr(limits, limit):,}"
    error_type, what = {
        "memory_mb": (ErrorType.MEMORY_LIMIT, f"the trial used more memory than its {value} MB"),
        "max_pids": (
            ErrorType.PROCESS_LIMIT,
            f"the trial ran more than {value} processes and threads at the same time",
        ),
        "max_open_files": (ErrorType.OPEN_FILES_LIMIT, f"a process of the trial opened {value} files"),
    }[limit]
    return error_type, f"{what}; to allow more, set {_FIELDS[limit]} (0 is no limit)"
