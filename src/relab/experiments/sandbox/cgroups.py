"""Limit attempts by control groups (version 1 or 2), below this process's own group or, in version 2, its parent.

Interface files: https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/index.html
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.group_names import has_dead_runner, run_prefix, this_process
from relab.experiments.sandbox.protocol import SandboxError, SandboxLimits

_CONTROLLERS: Final = {"memory_mb": "memory", "cpu_count": "cpu", "max_pids": "pids"}
_CPU_PERIOD_US: Final = 100_000
_MB: Final = 1_048_576
_instances = itertools.count(1)
_EMPTY_TIMEOUT_S: Final = 2.0
"""How long to wait until a group can be removed: an ended process leaves its group with a short delay."""


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """A hierarchy of control groups: its version, the folder in which groups are created, and its controllers."""

    version: int
    base: Path
    controllers: frozenset[str]


class Group:
    """The control group of one attempt, in one or several hierarchies."""

    def __init__(self, folders: Sequence[tuple[_Hierarchy, Path]]) -> None:
        self._folders = folders

    def add(self, pid: int, *, may_have_ended: bool = False) -> None:
        """Move the process with the id `pid` into this control group; processes that it starts later join it, too.

        With `may_have_ended`, a process that does not exist any more is ignored.

        Raises:
            SandboxError: the kernel refuses.
        """
        for _, folder in self._folders:
            try:
                (folder / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                if may_have_ended and isinstance(error, ProcessLookupError):
                    return
                raise SandboxError(f"cannot limit process {pid} by {folder}: {error.strerror}") from error

    def add_tree(self, find: Callable[[], Sequence[int]]) -> None:
        """Move the processes that `find` returns into this control group; repeat this until `find` returns no new ones.

        Raises:
            SandboxError: the kernel refuses.
        """
        added: set[int] = set()
        while new := [pid for pid in find() if pid not in added]:
            for pid in new:
                self.add(pid, may_have_ended=True)
            added.update(new)

    @property
    def limits(self) -> frozenset[str]:
        """The names of the fields of `SandboxLimits` that this control group enforces."""
        controllers = {controller for hierarchy, _ in self._folders for controller in hierarchy.controllers}
        return frozenset(limit for limit, controller in _CONTROLLERS.items() if controller in controllers)

    def processes(self) -> list[int]:
        """Return the ids of the processes in this control group, in this machine's PID namespace."""
        return _processes(self._folders[0][1]) if self._folders else []

    def was_out_of_memory(self) -> bool:
        """Return whether the kernel has killed a process of this control group because of the memory limit."""
        return self._count("memory", ("memory.oom_control", "memory.events"), "oom_kill") > 0

    def was_out_of_processes(self) -> bool:
        """Return whether the kernel has refused to start another process or thread in this control group."""
        return self._count("pids", ("pids.events", "pids.events"), "max") > 0

    def kill(self) -> None:
        """Kill every process of this control group, even if its processes start new ones all the time (fork bomb)."""
        for hierarchy, folder in self._folders:
            if "pids" in hierarchy.controllers:
                # A limit of 0 prevents new processes, which could otherwise start faster than the signals arrive.
                with contextlib.suppress(OSError):
                    (folder / "pids.max").write_text("0")
        deadline = time.monotonic() + _EMPTY_TIMEOUT_S
        while (pids := self.processes()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def _count(self, controller: str, names: tuple[str, str], field: str) -> int:
        for hierarchy, folder in self._folders:
            if controller in hierarchy.controllers:
                with contextlib.suppress(OSError):
                    counts = dict(
                        line.split() for line in (folder / names[hierarchy.version - 1]).read_text().splitlines()
                    )
                    return int(counts.get(field, 0))
        return 0

    def close(self) -> None:
        """Remove this control group; its processes must have ended. May be called repeatedly."""
        for _, folder in self._folders:
            _remove(folder)
        self._folders = ()


class Cgroups:
    """Creates a control group for each attempt of a run, as far as this process is permitted to.

    Args:
        run_id: the id of the run, a part of the groups' names. A later process of the run finds leftovers by these
            names.
        limits: the limits of each attempt.
        proc: the `/proc` folder of this process; another folder in tests.
        own_tasks: the number of processes of each attempt that belong to the sandbox and not to the harness.
    """

    def __init__(
        self, run_id: str, limits: SandboxLimits, proc: Path = Path("/proc/self"), *, own_tasks: int = 1
    ) -> None:
        self._own_tasks = own_tasks
        self._prefix = run_prefix(run_id)
        self._own_prefix = f"{self._prefix}{this_process()}-"
        self._name = f"{self._own_prefix}{next(_instances)}"
        self._limits = limits
        self._proc = proc
        self._numbers = itertools.count(1)
        self._hierarchies: list[_Hierarchy] = []
        self.enforced: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def prepare(self) -> None:
        """Find the usable controllers, remove control groups that a killed process left, and create the run's own.

        Afterwards `enforced` is `{enforced limit: controller}`, and `missing` is `{other limit: reason}`.
        """
        wanted = [name for name in _CONTROLLERS if getattr(self._limits, name) is not None]
        for limit in wanted:
            controller = _CONTROLLERS[limit]
            try:
                hierarchy = self._place(controller)
                self._remove_stale(hierarchy.base)
                (hierarchy.base / self._name).mkdir(exist_ok=True)
                if hierarchy.version == 2:
                    (hierarchy.base / self._name / "cgroup.subtree_control").write_text(f"+{controller}")
                self._check(hierarchy, limit)
            except OSError as error:
                self.missing[limit] = f"{error.filename or 'cgroups'}: {error.strerror or error}"
                continue
            self.enforced[limit] = f"cgroup v{hierarchy.version} {controller}"
            self._add(hierarchy, controller)

    def make(self) -> Group | None:
        """Create and return the control group of one attempt; None if control groups enforce no limit.

        Raises:
            SandboxError: the kernel refuses.
        """
        if not self._hierarchies:
            return None
        number = next(self._numbers)
        made: list[tuple[_Hierarchy, Path]] = []
        try:
            for hierarchy in self._hierarchies:
                folder = hierarchy.base / self._name / str(number)
                folder.mkdir()
                made.append((hierarchy, folder))
                for limit in self.enforced:
                    if _CONTROLLERS[limit] in hierarchy.controllers:
                        self._write(hierarchy.version, limit, folder)
        except OSError as error:
            Group(made).close()
            raise SandboxError(f"cannot limit an attempt by {error.filename}: {error.strerror}") from error
        return Group(made)

    def close(self) -> None:
        """Remove the run's control groups; kill the processes that are left in them."""
        for hierarchy in self._hierarchies:
            _remove_tree(hierarchy.base / self._name)
        self._hierarchies = []

    def _remove_stale(self, base: Path) -> None:
        """Remove from `base` all groups of this run's earlier processes, and empty groups of other runs that have ended."""
        for folder in base.iterdir():
            if folder.name.startswith(self._prefix):
                if not folder.name.startswith(self._own_prefix):
                    _remove_tree(folder)
            elif has_dead_runner(folder.name):
                _remove_empty(folder)

    def _check(self, hierarchy: _Hierarchy, limit: str) -> None:
        """Check that the kernel accepts the value of `limit`, by setting it in a test group.

        Raises:
            OSError: the kernel rejects the value.
        """
        folder = hierarchy.base / self._name / "check"
        folder.mkdir()
        try:
            self._write(hierarchy.version, limit, folder)
        finally:
            folder.rmdir()

    def _add(self, hierarchy: _Hierarchy, controller: str) -> None:
        for index, known in enumerate(self._hierarchies):
            if known.base == hierarchy.base:
                merged = known.controllers | {controller}
                self._hierarchies[index] = _Hierarchy(known.version, known.base, merged)
                return
        self._hierarchies.append(hierarchy)

    def _write(self, version: int, limit: str, folder: Path) -> None:
        value = getattr(self._limits, limit)
        if limit == "max_pids":
            value += self._own_tasks
        for name, text, is_needed in _settings(version, limit, value):
            try:
                (folder / name).write_text(text)
            except OSError:
                if is_needed:
                    raise

    def _place(self, controller: str) -> _Hierarchy:
        """Return the hierarchy in which groups with this controller can be created.

        Raises:
            OSError: no such hierarchy is mounted, or this process cannot use it; the message gives the reason.
        """
        own = dict(_own_groups(self._proc))
        mounts = list(_mounts(self._proc))
        if controller in own:
            for options, mount, root in mounts:
                if controller in options:
                    return _Hierarchy(1, _below(mount, root, own[controller]), frozenset((controller,)))
        for options, mount, root in mounts:
            if not options and "" in own:
                return _Hierarchy(
                    2, _unified(_below(mount, root, own[""]), mount, controller), frozenset((controller,))
                )
        raise OSError(errno.ENOENT, f"the {controller} controller is not mounted here")


def _settings(version: int, limit: str, value: float) -> Iterator[tuple[str, str, bool]]:
    """Yield `(file, text, is required)` for each file that sets a limit in a control group of this cgroup version.

    `value` is the value of `limit`, in the unit of the limit. The kernel may lack a file that is not required.
    """
    if limit == "memory_mb":
        size = str(int(value) * _MB)
        if version == 1:
            yield "memory.limit_in_bytes", size, True
            # This file does not exist on kernels without swap accounting.
            yield "memory.memsw.limit_in_bytes", size, False
        else:
            yield "memory.max", size, True
            yield "memory.swap.max", "0", False
            yield "memory.oom.group", "1", False
    elif limit == "cpu_count":
        quota = str(max(int(value * _CPU_PERIOD_US), 1_000))
        if version == 1:
            yield "cpu.cfs_period_us", str(_CPU_PERIOD_US), True
            yield "cpu.cfs_quota_us", quota, True
        else:
            yield "cpu.max", f"{quota} {_CPU_PERIOD_US}", True
    else:
        yield "pids.max", str(int(value)), True


def _own_groups(proc: Path) -> Iterator[tuple[str, str]]:
    """Yield `(controller, path)` for each control group of this process; for version 2 the controller is ''."""
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(proc: Path) -> Iterator[tuple[frozenset[str], Path, str]]:
    """Yield `(controllers, mount point, root)` of each mounted cgroup hierarchy; version 2 has empty `controllers`."""
    for line in (proc / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            root, mount = left.split(" ")[3:5]
            found = frozenset(options.split(",")) if kind == "cgroup" else frozenset[str]()
            yield found, Path(mount), root


def _below(mount: Path, root: str, path: str) -> Path:
    if path.startswith("/.."):
        raise OSError(errno.ENOENT, f"this process's group {path} is not visible below {mount}")
    inside = path.removeprefix(root) if root != "/" else path
    return mount / inside.lstrip("/")


def _unified(own: Path, mount: Path, controller: str) -> Path:
    """Return the group below which new control groups can use `controller`: `own` (this process's group) or its parent.

    `mount` is the mount point of the hierarchy. Its root group has no parent.

    Raises:
        OSError: neither group can be used.
    """
    refusal: OSError | None = None
    # A group that contains processes cannot delegate controllers, so its parent is tried as well.
    for base in (own, own.parent) if own != mount else (own,):
        try:
            if controller not in (base / "cgroup.controllers").read_text().split():
                raise OSError(errno.ENOENT, f"the {controller} controller is not available", str(base))  # noqa: TRY301
            if controller not in (base / "cgroup.subtree_control").read_text().split():
                if base != own:
                    raise OSError(errno.EPERM, f"the {controller} controller is not handed down", str(base))  # noqa: TRY301
                (base / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            refusal = refusal or error
        else:
            return base
    assert refusal is not None
    raise refusal


def _remove_tree(folder: Path) -> None:
    """Kill the processes in a run's control groups and remove the groups; ignore groups that cannot be removed."""
    with contextlib.suppress(FileNotFoundError):
        for child in [*(path for path in folder.iterdir() if path.is_dir()), folder]:
            for pid in _processes(child):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            _remove(child)


def _remove_empty(folder: Path) -> None:
    """Remove the control group `folder` and the groups in it; groups that contain processes stay."""
    with contextlib.suppress(OSError):
        for child in [*(path for path in folder.iterdir() if path.is_dir()), folder]:
            with contextlib.suppress(OSError):
                child.rmdir()


def _processes(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text().split() if line != "0"]
    except OSError:
        return []


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _EMPTY_TIMEOUT_S
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        else:
            return


def group_of(pid: int) -> Group | None:
    """Return the control group of a process, to read the group's counters; None if this process cannot see the group.

    The caller must not close the group, because another program manages it.
    """
    folders: list[tuple[_Hierarchy, Path]] = []
    try:
        own = dict(_own_groups(Path(f"/proc/{pid}")))
        mounts = list(_mounts(Path("/proc/self")))
    except OSError:
        return None
    for controller in ("memory", "pids"):
        for options, mount, root in mounts:
            version, name = (1, controller) if options else (2, "")
            if name not in own or (version == 1 and controller not in options):
                continue
            with contextlib.suppress(OSError):
                folder = _below(mount, root, own[name])
                if (
                    folder / f"{controller}.{'events' if version == 2 or controller == 'pids' else 'oom_control'}"
                ).exists():
                    folders.append((_Hierarchy(version, folder.parent, frozenset((controller,))), folder))
                    break
    return Group(folders) if folders else None
