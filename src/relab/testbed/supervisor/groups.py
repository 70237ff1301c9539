"""The kernel's control groups of components, version 1 or 2, if the supervisor may create them on this machine.

A group is created when a component first gets a CPU or memory limit, and is removed at a reset or at the end of the
testbed if no process is in it. The component's processes are moved into it; later processes join it before they execute
the program.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from relab.testbed.errors import UnavailableLimitError
from relab.testbed.models import GroupFigures, ResourceLimits

Controller = Literal["cpu", "memory"]
_CONTROLLERS: Final[tuple[Controller, ...]] = ("cpu", "memory")
_PERIOD_US: Final = 100_000


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The place in the kernel's file system in which control groups with one controller (CPU or memory) can be created.

    Attributes:
        version: the version of the kernel's interface, 1 or 2.
        parent: the folder in which this testbed's groups are created.
    """

    version: int
    parent: Path


def find_hierarchies(
    mounts: Path = Path("/proc/self/mounts"), own: Path = Path("/proc/self/cgroup")
) -> dict[Controller, Hierarchy]:
    """Return `{controller (CPU or memory): place in which this process may create control groups}`.

    A controller is left out if this process may create no groups for it.

    Args:
        mounts: the kernel's list of mounts.
        own: the kernel's list of the control groups of this process.
    """
    found: dict[Controller, Hierarchy] = {}
    try:
        points = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
        memberships = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return found
    paths = {name: path for _, names, path in memberships for name in names.split(",")}
    for _, point, kind, options, *_ in points:
        for controller in _CONTROLLERS:
            if kind == "cgroup" and controller in options.split(","):
                _offer(found, controller, Hierarchy(1, Path(point, paths.get(controller, "/").lstrip("/"))))
            elif kind == "cgroup2":
                parent = Path(point, paths.get("", "/").lstrip("/"))
                # In version 2 a group with child groups may hold no processes, so create the groups beside this
                # process's own.
                beside = parent if parent == Path(point) else parent.parent
                with contextlib.suppress(OSError):
                    enabled = (beside / "cgroup.subtree_control").read_text(encoding="ascii").split()
                    if controller in enabled:
                        _offer(found, controller, Hierarchy(2, beside))
    return found


def _offer(found: dict[Controller, Hierarchy], controller: Controller, hierarchy: Hierarchy) -> None:
    if controller not in found and _may_make(hierarchy.parent):
        found[controller] = hierarchy


def _may_make(parent: Path) -> bool:
    probe = parent / f"relab-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def _counts(path: Path) -> dict[str, int]:
    """Return `{name: number}` from a kernel file with one pair per line; {} if the file cannot be read."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if value.isdigit():
                found[name] = int(value)
    return found


class Groups:
    """Creates, changes and removes the control groups of one testbed.

    Args:
        prefix: the beginning of the groups' names.
        listing: the file to which the paths of the groups are written. If the supervisor is killed, its parent process
            (the guard) removes the groups in this file.
        hierarchies: `{controller: place for new groups}`; None to find the places with `find_hierarchies`.
    """

    def __init__(self, prefix: str, listing: Path, hierarchies: Mapping[Controller, Hierarchy] | None = None) -> None:
        self._prefix = prefix
        self._listing = listing
        self._hierarchies = find_hierarchies() if hierarchies is None else hierarchies
        self._made: dict[tuple[str, Controller], Path] = {}

    def available(self) -> dict[str, str | None]:
        """Return how this machine enforces each resource limit, as `{resource limit: method}`.

        The method is `prlimit`, `cgroup1` or `cgroup2` (control groups of version 1 or 2), or None for a limit that
        this machine cannot enforce.
        """
        by_limit: dict[str, Controller] = {"cpu_pct": "cpu", "memory_mb": "memory"}
        found: dict[str, str | None] = {"rlimits": "prlimit"}
        for limit, controller in by_limit.items():
            hierarchy = self._hierarchies.get(controller)
            found[limit] = f"cgroup{hierarchy.version}" if hierarchy else None
        return found

    def check(self, limits: ResourceLimits) -> None:
        """Check that this machine can enforce these limits.

        Raises:
            UnavailableLimitError: a limit needs a control group that this process may not create.
        """
        wanted = {"cpu": limits.cpu_pct, "memory": limits.memory_mb}
        missing = [name for name in _CONTROLLERS if wanted[name] is not None and name not in self._hierarchies]
        if missing:
            raise UnavailableLimitError(
                f"This machine has no control group for {' and '.join(missing)} that may be written.",
                remedy="Run the testbed as root, or in a scope that has these controllers delegated.",
            )

    def set(self, component: str, limits: ResourceLimits, pids: Iterable[int]) -> None:
        """Set the CPU and memory limits of a component.

        The kernel applies them to control groups, which are created when the component first needs them. The
        component's running processes are moved into these groups.

        Args:
            component: name of the component.
            limits: the new limits; an absent limit is removed.
            pids: the ids of the component's running processes.

        Raises:
            UnavailableLimitError: this process may not create the control group, or the kernel rejects a limit, for
                example a memory limit below the current use.
        """
        self.check(limits)
        wanted: dict[Controller, float | None] = {"cpu": limits.cpu_pct, "memory": limits.memory_mb}
        pids = list(pids)
        for controller, value in wanted.items():
            group = self._made.get((component, controller))
            if group is None and value is None:
                continue
            try:
                group = group or self._make(component, controller)
                self._write(group, controller, value)
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
            except OSError as error:
                raise UnavailableLimitError(
                    f"The kernel refuses the limit {controller} = {value} for {component}: {error.strerror}."
                ) from error

    def figures(self, component: str) -> GroupFigures:
        """Return the kernel's counters of the control groups of the component with this name."""
        cpu, memory = self._made.get((component, "cpu")), self._made.get((component, "memory"))
        throttled = _counts(cpu / "cpu.stat").get("nr_throttled") if cpu else None
        if memory is None:
            return GroupFigures(throttled_periods=throttled)
        if self._hierarchies["memory"].version == 2:
            events = _counts(memory / "memory.events")
            return GroupFigures(
                throttled_periods=throttled, memory_refusals=events.get("max"), oom_kills=events.get("oom_kill")
            )
        refusals: int | None = None
        with contextlib.suppress(OSError, ValueError):
            refusals = int((memory / "memory.failcnt").read_text(encoding="ascii"))
        kills = _counts(memory / "memory.oom_control").get("oom_kill")
        return GroupFigures(throttled_periods=throttled, memory_refusals=refusals, oom_kills=kills)

    def joined_by(self, component: str) -> list[Path]:
        """Return the files to which a new process of the component with this name must write its pid."""
        return sorted({group / "cgroup.procs" for (name, _), group in self._made.items() if name == component})

    def remove(self) -> None:
        """Remove all control groups of the testbed, except those that still contain processes."""
        for group in set(self._made.values()):
            with contextlib.suppress(OSError):
                group.rmdir()
        self._made = {key: group for key, group in self._made.items() if group.is_dir()}
        self._list()

    def _make(self, component: str, controller: Controller) -> Path:
        hierarchy = self._hierarchies[controller]
        group = hierarchy.parent / f"{self._prefix}-{component}"
        self._made[component, controller] = group
        self._list()
        try:
            group.mkdir(exist_ok=True)
        except OSError:
            # A new process of the component could not join a group that does not exist.
            del self._made[component, controller]
            self._list()
            raise
        return group

    def _list(self) -> None:
        self._listing.write_text("".join(f"{path}\n" for path in sorted(set(self._made.values()))), encoding="utf-8")

    def _write(self, group: Path, controller: Controller, value: float | None) -> None:
        version = self._hierarchies[controller].version
        if controller == "cpu":
            quota = None if value is None else int(_PERIOD_US * value / 100)
            if version == 1:
                (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
                (group / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota), encoding="ascii")
            else:
                (group / "cpu.max").write_text(f"{'max' if quota is None else quota} {_PERIOD_US}", encoding="ascii")
            return
        most = None if value is None else int(value * 1_048_576)
        if version == 1:
            (group / "memory.limit_in_bytes").write_text(str(-1 if most is None else most), encoding="ascii")
        else:
            (group / "memory.max").write_text("max" if most is None else str(most), encoding="ascii")
