"""Limits by control groups, version 1 and 2, below the runner's own group and never outside of it where that can be.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.protocol import Limits, SandboxError

_CONTROLLERS: Final = {"memory_mb": "memory", "cpu_count": "cpu", "max_pids": "pids"}
_CPU_PERIOD_US: Final = 100_000
_MB: Final = 1_048_576
_instances = itertools.count(1)
_EMPTY_WITHIN_S: Final = 2.0
"""A group can be removed once the kernel has forgotten its last process, which is a moment after its end."""


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """A tree of groups: where new ones may be made, and what they limit."""

    version: int
    base: Path
    controllers: frozenset[str]


class Group:
    """The control group of one attempt, in one or several hierarchies."""

    def __init__(self, folders: Sequence[tuple[_Hierarchy, Path]]) -> None:
        self._folders = folders

    def add(self, pid: int) -> None:
        """Move a process in; what it starts from then on is in as well.

        Raises:
            SandboxError: the kernel refuses.
        """
        for _, folder in self._folders:
            try:
                (folder / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                raise SandboxError(f"cannot limit process {pid} by {folder}: {error.strerror}") from error

    def was_out_of_memory(self) -> bool:
        """Return whether the memory limit has ended a process of the group."""
        for hierarchy, folder in self._folders:
            if "memory" in hierarchy.controllers:
                name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
                with contextlib.suppress(OSError):
                    counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                    return int(counts.get("oom_kill", 0)) > 0
        return False

    def close(self) -> None:
        """Remove the group, whose processes have ended. May be called again."""
        for _, folder in self._folders:
            _remove(folder)
        self._folders = ()


class Cgroups:
    """Makes a group for each attempt of a run, as far as the machine lets us.

    Args:
        run_id: names the groups, so that a later runner of the same run finds what was left.
        limits: of each attempt.
        proc: what tells of this process; another folder in tests.
    """

    def __init__(self, run_id: str, limits: Limits, proc: Path = Path("/proc/self")) -> None:
        self._prefix = f"relab-{run_id}-"
        self._own_prefix = f"{self._prefix}{os.getpid()}-"
        self._name = f"{self._own_prefix}{next(_instances)}"
        self._limits = limits
        self._proc = proc
        self._numbers = itertools.count(1)
        self._hierarchies: list[_Hierarchy] = []
        self.enforced: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def prepare(self) -> None:
        """Look what can be limited, remove what a killed runner left, and make the run's own groups.

        Afterwards `enforced` says for each limit by what it is enforced, and `missing` for each other why it is not.
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
        """Make the group of one attempt; None if nothing is limited by groups.

        Raises:
            SandboxError: the kernel refuses what it has granted before.
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
        """Remove the run's groups, with whatever is left in them."""
        for hierarchy in self._hierarchies:
            _remove_tree(hierarchy.base / self._name)
        self._hierarchies = []

    def _remove_stale(self, base: Path) -> None:
        """Remove the groups of earlier runners of this run; only one is at work at a time."""
        for folder in base.iterdir():
            if folder.name.startswith(self._prefix) and not folder.name.startswith(self._own_prefix):
                _remove_tree(folder)

    def _check(self, hierarchy: _Hierarchy, limit: str) -> None:
        """Set the limit once: a kernel may have the controller and still refuse the value."""
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
        for name, text, is_needed in _settings(version, limit, value):
            try:
                (folder / name).write_text(text)
            except OSError:
                if is_needed:
                    raise

    def _place(self, controller: str) -> _Hierarchy:
        """Return where groups with this controller can be made.

        Raises:
            OSError: nowhere; the message says why.
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
    """Yield the files to write, and whether the limit depends on each."""
    if limit == "memory_mb":
        size = str(int(value) * _MB)
        if version == 1:
            yield "memory.limit_in_bytes", size, True
            # Without accounting of swap there is no such file.
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
        # The room's own first process is no process of the harness.
        yield "pids.max", str(int(value) + 1), True


def _own_groups(proc: Path) -> Iterator[tuple[str, str]]:
    """Yield `(controller, path)` of this process; the controller of version 2 is ''."""
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(proc: Path) -> Iterator[tuple[frozenset[str], Path, str]]:
    """Yield `(controllers, mount point, root)` of the mounted hierarchies; version 2 has no controllers here."""
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
    """Return a group whose children can have a controller: our own, else the one above if it was given to us.

    A group with processes cannot hand controllers down, so a runner that shares its group with others goes beside it.
    """
    refusal: OSError | None = None
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
    """Kill what is in the groups of a run and remove them; what cannot be removed stays."""
    with contextlib.suppress(FileNotFoundError):
        for child in [*(path for path in folder.iterdir() if path.is_dir()), folder]:
            for pid in _processes(child):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            _remove(child)


def _processes(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text().split() if line != "0"]
    except OSError:
        return []


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _EMPTY_WITHIN_S
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


def rlimits(limits: Limits, missing: Mapping[str, str], pid: int) -> dict[str, str]:
    """Limit a process by what needs no group, and return what holds for each limit that groups do not enforce.

    Memory is limited per process (private writable memory) and processes per user of the room's user namespace, so
    both are weaker than a group's.
    """
    import resource  # noqa: PLC0415 it does not exist everywhere, and groups make it needless

    found: dict[str, str] = {}
    for limit, reason in missing.items():
        found[limit] = f"not enforced: {reason}"
        value = getattr(limits, limit)
        kind, size, how = {
            "memory_mb": (resource.RLIMIT_DATA, int(value) * _MB, "RLIMIT_DATA, per process"),
            "max_pids": (resource.RLIMIT_NPROC, int(value) + 1, "RLIMIT_NPROC"),
            "cpu_count": (None, 0, ""),
        }[limit]
        # The kernel exempts the superuser from RLIMIT_NPROC.
        if kind is None or (limit == "max_pids" and os.getuid() == 0):
            continue
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, kind, (size, size))
            found[limit] = f"{how}; no cgroup: {reason}"
    return found
