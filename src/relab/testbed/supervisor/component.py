"""A component: the specification of how to start it, and the code that keeps it running."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from relab.core.clock import Clock
from relab.core.logging import get_logger
from relab.testbed.errors import NotAnsweringError, StartError
from relab.testbed.models import ComponentState, ComponentStatus, GroupFigures, ResourceLimits
from relab.testbed.supervisor.probes import ReadinessProbe
from relab.testbed.supervisor.process import Owner, Process, ProcessSpec, tail

ABORT_GRACE_S: Final = 0.3
FIRST_PAUSE_S: Final = 0.2
MAX_PAUSE_S: Final = 5.0
STEADY_AFTER_S: Final = 10.0
"""If a component has run for this time, the pause before its next restart is the shortest one again."""
_POLL_INTERVAL_S: Final = 0.01
_MAX_EXITS: Final = 20

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """How to start, probe and stop a component: one row of the component table.

    Attributes:
        name: the component's own name.
        group: the name of the component's group, such as `target` for all workers.
        stage: number of the start stage; components start when all components of the previous stages are ready.
        command: program (an absolute path) and arguments.
        environment: all environment variables of the program.
        cwd: the working folder of the program.
        log: the file for the program's output.
        probe: checks whether the component is ready.
        owner: the user under which the program runs; None for the supervisor's user.
        port: the port on which the component listens; None for no port.
        stop_signal: the signal that requests an orderly end of the program.
        stop_grace_s: time in seconds to wait for an orderly end before SIGKILL.
        abort_signal: the signal that ends the program at once, but lets it remove its kernel objects, such as shared
            memory; None for SIGKILL.
        hidden: whether the component is left out of the lists that a responder may see.
        started: whether the component is started at the beginning of an episode (one test of a responder).
        episode_end_path: the HTTP path of a POST that makes the component forget the previous episode; None to restart
            the component instead.
        opened: `{number of a descriptor: path}` of files and folders that are opened for the program.
        leaves: called after the program has ended, to remove kernel objects that it may have left, such as shared
            memory.
    """

    name: str
    group: str
    stage: int
    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    log: Path
    probe: ReadinessProbe
    owner: Owner | None = None
    port: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 3.0
    abort_signal: signal.Signals | None = None
    hidden: bool = False
    started: bool = True
    episode_end_path: str | None = None
    opened: Mapping[int, Path] = field(default_factory=dict)
    leaves: Callable[[], None] = field(default=lambda: None)


class Component:
    """Runs a program of the testbed, and restarts it if it ends by itself.

    Args:
        spec: how to start, probe and stop the program.
        groups: returns, for a component's name, the control-group files to which the process's pid is written.
        clock: the clock for the times in the status.
        counted: returns, for a component's name, the kernel's counters of its control groups, such as OOM kills.

    Attributes:
        limits: the resource limits for the component's next process.
    """

    def __init__(
        self,
        spec: ComponentSpec,
        *,
        groups: Callable[[str], Sequence[Path]],
        clock: Clock,
        counted: Callable[[str], GroupFigures] = lambda _: GroupFigures(),
    ) -> None:
        self.spec = spec
        self.limits = ResourceLimits()
        self._groups = groups
        self._counted = counted
        self._clock = clock
        self._process: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = False
        self._is_ready = asyncio.Event()
        self._starts = 0
        self._restarts = 0
        self._exits: list[int] = []
        self._started_at: int | None = None
        self._ready_at: int | None = None
        # One order at a time: a stop that is requested during a restart waits for it.
        self._lock = asyncio.Lock()

    @property
    def process(self) -> Process | None:
        """The running process; None while the component has no process."""
        return self._process

    @property
    def is_ready(self) -> bool:
        """Whether the current process of the component has passed the readiness probe."""
        return self._is_ready.is_set()

    def status(self) -> ComponentStatus:
        """Return the current status of the component."""
        return ComponentStatus(
            name=self.spec.name,
            group=self.spec.group,
            state=self._state(),
            pid=self._process.pid if self._process else None,
            port=self.spec.port,
            started_at=self._started_at if self._process else None,
            ready_at=self._ready_at if self._process else None,
            restarts=self._restarts,
            starts=self._starts,
            exit_code=self._exits[-1] if self._exits else None,
            exits=list(self._exits),
            limits=self.limits,
            counted=self._counted(self.spec.name),
            log=str(self.spec.log),
        )

    async def start(self) -> None:
        """Start the component, unless it is running or about to be restarted; do not wait until it is ready."""
        async with self._lock:
            self._start()

    async def stop(self, *, gently: bool = True) -> None:
        """Stop the component and all processes that it has started; they stay stopped until `start` is called.

        Args:
            gently: True to request an orderly end first. False to end the processes at once: by SIGKILL, or by
                `abort_signal` if the component has one, with SIGKILL 0.3 s later.

        Raises:
            NotAnsweringError: a process does not end even after SIGKILL.
        """
        async with self._lock:
            await self._stop(gently=gently)

    async def restart(self, *, gently: bool = True) -> None:
        """Stop the component with all its processes, and start it again, without waiting until it is ready.

        Args:
            gently: True to request an orderly end first. False to end the processes at once: by SIGKILL, or by
                `abort_signal` if the component has one, with SIGKILL 0.3 s later.

        Raises:
            NotAnsweringError: a process does not end even after SIGKILL; the component is not started.
        """
        async with self._lock:
            await self._stop(gently=gently)
            self._start()

    async def wait_ready(self) -> None:
        """Wait until the component is ready, without a time-out."""
        await self._is_ready.wait()

    def _start(self) -> None:
        if not self._wanted:
            # A process that did not end in time may have been ready, but the next process is not ready yet.
            self._is_ready.clear()
        # If the keeper still waits for a process that did not end in time, this makes it start the next process.
        self._wanted = True
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    async def _stop(self, *, gently: bool) -> None:
        self._wanted = False
        if self._process is not None:
            spec = self.spec
            how = (spec.stop_signal, spec.stop_grace_s) if gently else (spec.abort_signal, ABORT_GRACE_S)
            await self._process.end(*how)
        if self._keeper is not None:
            if self._process is None:
                # The keeper waits between two starts, or is about to notice that the process has ended.
                self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while self._wanted:
            began = loop.time()
            code = await self._run()
            if self._was_stopped():
                return
            pause_s = FIRST_PAUSE_S if loop.time() - began > STEADY_AFTER_S else pause_s
            _log.warning("component_ended", component=self.spec.name, exit_code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MAX_PAUSE_S)
            self._restarts += 1

    def _was_stopped(self) -> bool:
        return not self._wanted

    async def _run(self) -> int | None:
        """Run the program until it ends; return its exit code, or None if it could not be started."""
        spec = self.spec
        order = ProcessSpec(
            command=spec.command,
            environment=spec.environment,
            cwd=spec.cwd,
            log=spec.log,
            owner=spec.owner,
            rlimits={str(name): value for name, value in self.limits.rlimits.items()},
            groups=self._groups(spec.name),
            opened=spec.opened,
        )
        self._starts += 1
        self._started_at = self._clock.now_us()
        self._ready_at = None
        try:
            process = self._process = Process(order)
        except OSError as error:
            _log.warning("component_not_started", component=spec.name, reason=str(error))
            return None
        watcher = asyncio.create_task(self._watch(process), name=f"watch {spec.name}")
        try:
            code = await process.wait()
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            self._is_ready.clear()
            self._process = None
        self._exits = [*self._exits, code][-_MAX_EXITS:]
        spec.leaves()
        return code

    async def _watch(self, process: Process) -> None:
        pause_s = _POLL_INTERVAL_S
        while not await self.spec.probe.ready(process.pid):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 0.1)
        self._ready_at = self._clock.now_us()
        self._is_ready.set()

    def _state(self) -> ComponentState:
        if self._process is not None:
            return "running" if self.is_ready else "starting"
        if self._keeper is not None and not self._keeper.done():
            return "waiting"
        return "stopped" if self._starts else "new"


async def wait_all_ready(components: Sequence[Component], deadline: float) -> None:
    """Wait for the components one after another, until each of them has been ready at least once.

    If a component is ready and then ends before the others are ready, the function does not notice this.

    Args:
        components: the components to wait for.
        deadline: time limit, by the event loop's clock in seconds.

    Raises:
        NotAnsweringError: a component is not ready before the deadline; the message of the error is the component's
            name.
    """
    try:
        async with asyncio.timeout_at(deadline):
            for component in components:
                await component.wait_ready()
    except TimeoutError as error:
        late = next((item for item in components if not item.is_ready), components[0])
        raise NotAnsweringError(late.spec.name) from error


def not_ready_error(item: Component, within_s: float) -> StartError:
    """Return the error for a component that is not ready within `within_s` seconds, with the last lines of its log."""
    status = item.status()
    ended = f", exit codes so far: {status.exits}" if status.exits else ""
    return StartError(
        f"The component {item.spec.name} is not ready within {within_s:g} s ({status.state}{ended}).",
        component=item.spec.name,
        log_tail=tail(item.spec.log),
        remedy=f"See {item.spec.log}.",
    )
