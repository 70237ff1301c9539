"""The room that is none: the harness runs beside everything else, in its own copy of the project."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from relab.experiments.sandbox.namespaces import listen_here, with_ports
from relab.experiments.sandbox.ownership import reclaim
from relab.experiments.sandbox.process import Child, end_all_orphans, streams_of
from relab.experiments.sandbox.protocol import Folders, Launch, Limits, Network, Places, Posture, SandboxError

_NO_ROOM = "not enforced: a plain local run has no room of its own"


class LocalSandbox:
    """Starts harnesses as plain child processes. Nothing but their folders and environment is theirs.

    Args:
        network: what is asked for; nothing of it can be enforced here.
        limits: what is asked for; neither can this.
    """

    name = "local"

    def __init__(self, network: Network, limits: Limits) -> None:
        self._network = network
        self._limits = limits

    def prepare(self) -> None:
        """Do nothing: a process can always be started."""

    def places(self, folders: Folders) -> Places:
        """Return the folders as they are."""
        return Places(
            workspace=str(folders.workspace),
            state=str(folders.state),
            out=str(folders.out),
            tmp=str(folders.tmp),
            home=str(folders.home),
            harness=str(folders.harness),
            dataset=str(folders.dataset),
        )

    def start(self, launch: Launch) -> LocalRunning:
        """Start the harness in its workspace.

        Raises:
            SandboxError: it cannot be started.
        """
        closers, ports = listen_here(launch.listeners)
        try:
            for place, path in launch.mounts.items():
                _link(launch.folders, place, path)
            return LocalRunning(launch, self._posture(), closers, ports)
        except BaseException:
            for close in closers:
                close()
            raise

    def close(self) -> None:
        """End what the run has left."""
        end_all_orphans()

    def _posture(self) -> Posture:
        limits = {
            name: _NO_ROOM for name in ("cpu_count", "memory_mb", "max_pids") if getattr(self._limits, name) is not None
        }
        return Posture(
            network_effective=Network.FULL,
            enforcement="none",
            egress_self_test={"performed": False, "reason": "a plain local run shares the network of this machine"},
            mounts={},
            limits=limits,
        )


class LocalRunning:
    """A harness at work as a plain child process."""

    def __init__(
        self, launch: Launch, posture: Posture, closers: list[Callable[[], None]], ports: dict[int, int]
    ) -> None:
        self.posture = posture
        self._launch = launch
        self._is_reclaimed = False
        self.out_of_memory = False
        self._closers = closers
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

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the harness; return its exit code, or None after the time."""
        return self._child.wait(timeout_s)

    def end(self, grace_s: float) -> int:
        """End the harness and its group; return its exit code."""
        return self._child.end(grace_s)

    def close(self) -> None:
        """End what the harness has left running."""
        self._child.close()
        while self._closers:
            self._closers.pop()()
        if not self._is_reclaimed:
            self._is_reclaimed = True
            reclaim(self._launch)


def _link(folders: Folders, place: str, path: Path) -> None:
    """Show a mount where the harness expects it, as far as a link can."""
    inside = place.removeprefix("/workspace/")
    if inside == place:
        raise SandboxError(f"a plain local run can show {path} only below /workspace, not at {place}")
    link = folders.workspace / inside
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(path)
