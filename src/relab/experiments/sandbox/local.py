"""The sandbox without isolation: the harness runs as a plain child process in its own copy of the project."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.cgroups import Cgroups, Group
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.namespaces import call_all, listen_here, with_ports
from relab.experiments.sandbox.ownership import reclaim
from relab.experiments.sandbox.process import Child, end_all_orphans, stop_all, streams_of
from relab.experiments.sandbox.protocol import (
    Folders,
    Launch,
    NetworkMode,
    Places,
    Posture,
    SandboxError,
    SandboxLimits,
)
from relab.experiments.sandbox.rlimits import set_rlimits, tasks_of_user

_OTHER_TASKS: Final = 1_024
"""An allowance for processes and threads that other programs of the same user start during a run."""


class LocalSandbox:
    """Starts harnesses as plain child processes. Only their folders and environment are separate.

    Args:
        limits: the limits of each attempt. Control groups enforce the limits of processors, memory and processes.
            Without control groups, the runner measures memory and processes, and sets rlimits as well; then `cpu_count`
            is not enforced. The limit of open files is always an rlimit.
        run_id: the id of the run, a part of the names of its control groups.
    """

    name = "local"
    image_digest: str | None = None

    def __init__(self, limits: SandboxLimits, run_id: str) -> None:
        self._limits = limits
        self._cgroups = Cgroups(run_id, limits, own_tasks=0)
        self._most_tasks: int | None = None
        self._lock = threading.Lock()
        self._running: dict[int, LocalRunning] = {}

    def prepare(self) -> None:
        """Create the control groups of the run.

        If the groups cannot limit the processes and threads of an attempt, compute an rlimit for them. The kernel
        compares this rlimit with all processes and threads of the user, so it allows for other programs as well. For
        root no rlimit is computed, because the kernel does not apply it.
        """
        self._cgroups.prepare()
        if "max_pids" in self._cgroups.missing and self._limits.max_pids is not None and os.getuid() != 0:
            # RLIMIT_NPROC counts all tasks of the user, so this limit is wide; it stops fork bombs that outrun the measuring.
            self._most_tasks = tasks_of_user() + _OTHER_TASKS + self._limits.max_pids * self._limits.at_once

    def places(self, folders: Folders) -> Places:
        """Return the paths of the folders on this machine, because the harness sees the same file system."""
        return Places(**{name: str(path) for name, path in asdict(folders).items()})

    def start(self, launch: Launch) -> LocalRunning:
        """Start the harness in its workspace; `launch` is its command with its folders, environment and services.

        Raises:
            SandboxError: the harness cannot be started or limited, or a mount is not below /workspace.
            OSError: a file of the harness's input or output cannot be opened, or a link to a mount cannot be created.
        """
        closers, ports = listen_here(launch.listeners)
        try:
            for place, path in launch.mounts.items():
                _link(launch.folders, place, path)
            running = self._start(launch, closers, ports)
        except BaseException:
            call_all(closers)
            raise
        with self._lock:
            self._running[id(running)] = running
        return running

    def close(self) -> None:
        """End every attempt and the orphaned processes that the run left, and remove the run's control groups."""
        with self._lock:
            unfinished = list(self._running.values())
        for running in unfinished:
            running.close()
        end_all_orphans()
        self._cgroups.close()

    def remove(self, running: LocalRunning) -> None:
        """Remove an attempt that its caller closes from this sandbox's list of running attempts."""
        with self._lock:
            self._running.pop(id(running), None)

    def _start(self, launch: Launch, closers: list[Callable[[], None]], ports: dict[int, int]) -> LocalRunning:
        group = self._cgroups.make()
        try:
            running = LocalRunning(self.remove, launch, closers, ports, group, self._limits)
        except BaseException:
            if group is not None:
                group.close()
            raise
        try:
            if group is not None:
                group.add_tree(running.processes)
            # The harness is already running, so its child processes have to be limited as well.
            for pid in reversed(running.processes()):
                enforced = set_rlimits(
                    pid,
                    self._limits,
                    self._cgroups.missing,
                    max_file_bytes=launch.max_file_bytes,
                    most_tasks=self._most_tasks,
                )
            running.posture = self._posture(self._cgroups.enforced | enforced)
        except BaseException:
            running.close()
            raise
        return running

    def _posture(self, limits: Mapping[str, str]) -> Posture:
        return Posture(
            network_effective=NetworkMode.FULL,
            enforcement="none",
            egress_self_test={"performed": False, "reason": "a plain local run shares the network of this machine"},
            mounts={},
            limits=limits,
        )


class LocalRunning:
    """A harness in a plain child process, which starts when this object is created.

    Args:
        remove: `close` calls this function with the attempt, before it ends the attempt's processes.
        launch: the command of the harness, with its folders and environment.
        closers: functions that release the resources of the attempt when it is closed.
        ports: `{n: real port}` for the placeholders `{port:<n>}` in the harness's environment.
        group: the control group of the attempt; None if it has none.
        limits: the limits of the attempt.
    """

    posture: Posture

    def __init__(
        self,
        remove: Callable[[LocalRunning], None],
        launch: Launch,
        closers: list[Callable[[], None]],
        ports: dict[int, int],
        group: Group | None,
        limits: SandboxLimits,
    ) -> None:
        self._remove = remove
        self._launch = launch
        self._is_reclaimed = False
        self._closers = closers
        self._group = group
        environment = with_ports(launch.environment, ports)
        with streams_of(launch) as (stdin, stdout, stderr):
            self._child = Child(
                launch.command,
                cwd=launch.folders.workspace,
                environment=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )
        self.processes = self._child.processes
        self._watch = LimitWatch(limits, group, self.processes, measures_all=True)
        self.exceeded = self._watch.exceeded
        self.hidden_bytes = self._watch.hidden_bytes
        self.memory_bytes = self._watch.memory_bytes

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the harness, at most `timeout_s` seconds (None is no limit).

        Return its exit code, or None on time-out.
        """
        return self._child.wait(timeout_s)

    def end(self, grace_s: float) -> int:
        """End the harness and its process group with SIGTERM; return the exit code of the harness.

        The group gets SIGKILL only if the harness itself still runs after `grace_s` seconds.

        Raises:
            SandboxError: the harness does not end after SIGKILL.
        """
        return self._child.end(grace_s)

    def close(self) -> None:
        """End the processes that the harness left running, and release all resources. May be called repeatedly."""
        # First, so that an attempt that cannot be ended does not fail a second time when the sandbox is closed.
        self._remove(self)
        self._watch.finish()
        if self._group is not None:
            self._group.kill()
        else:
            stop_all(self.processes)
        self._child.close()
        if self._group is not None:
            self._group.close()
            self._group = None
        call_all(self._closers)
        if not self._is_reclaimed:
            self._is_reclaimed = True
            reclaim(self._launch)


def _link(folders: Folders, place: str, path: Path) -> None:
    """Create a symbolic link to a folder or file in the workspace of a trial.

    Args:
        folders: the folders of the trial.
        place: where the harness expects the folder or file, below `/workspace/`.
        path: the folder or file on this machine.

    Raises:
        SandboxError: `place` is not below /workspace.
    """
    inside = place.removeprefix("/workspace/")
    if inside == place:
        raise SandboxError(f"a plain local run can show {path} only below /workspace, not at {place}")
    link = folders.workspace / inside
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(path)
