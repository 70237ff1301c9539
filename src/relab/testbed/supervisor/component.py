"""A component: the specification of how to start it, and the code that keeps it running."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from relab.core.clock import Clock
from relab.testbed.errors import NotAnsweringError
from relab.testbed.models import ComponentState, ComponentStatus, GroupFigures, ResourceLimits
from relab.testbed.supervisor.probes import ReadinessProbe
from relab.testbed.supervisor.process import Owner, Process, ProcessSpec

ABORT_GRACE_S: Final = 0.3
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
STEADY_AFTER_S: Final = 10.0
"""After running for this time, a component restarts with the first pause again."""
_LOOK_AGAIN_S: Final = 0.01
_EXITS_KEPT: Final = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One row of the component table.

    Attributes:
        group: a name for several components that are controlled together; also a component's own name.
        stage: components of one stage start together, after those of the previous stage are ready.
        stop_signal: requests an orderly end of the program.
        abort_signal: ends the program at once without leaving anything in the kernel; None for SIGKILL.
        hidden: whether it is left out of lists that responders can see.
        started: whether it is started at the beginning of an episode.
        forget_path: HTTP path that makes it forget the previous episode; without one, a reset restarts it.
        opened: as in `ProcessSpec`.
        leaves: is called after its end, to remove anything that it may have left in the kernel.
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
    forget_path: str | None = None
    opened: Mapping[int, Path] = field(default_factory=dict)
    leaves: Callable[[], None] = field(default=lambda: None)


class Component:
    """Starts a program, and restarts it when it ends by itself, but not after it was stopped on request.

    Args:
        spec: its row of the table.
        groups: returns the control-group files that a new process must join.
        counted: returns the kernel's counters of the component.
        clock: for the times in its status.
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
        """The running process."""
        return self._process

    @property
    def is_ready(self) -> bool:
        """Whether its probe has succeeded since its last start."""
        return self._is_ready.is_set()

    def status(self) -> ComponentStatus:
        """Return the status of the component."""
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
        """Start it, unless it is running or about to be restarted."""
        async with self._lock:
            self._start()

    async def stop(self, *, gently: bool = True) -> None:
        """Stop it and all processes that it has started, until it is started again."""
        async with self._lock:
            await self._stop(gently=gently)

    async def restart(self, *, gently: bool = True) -> None:
        """Stop it and start it again."""
        async with self._lock:
            await self._stop(gently=gently)
            self._start()

    async def wait_ready(self) -> None:
        """Wait until it is ready, without a time-out."""
        await self._is_ready.wait()

    def _start(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._wanted = True
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
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._restarts += 1

    def _was_stopped(self) -> bool:
        return not self._wanted

    async def _run(self) -> int | None:
        """Run the program once; return its exit code, or None if it could not be started."""
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
        self._exits = [*self._exits, code][-_EXITS_KEPT:]
        spec.leaves()
        return code

    async def _watch(self, process: Process) -> None:
        pause_s = _LOOK_AGAIN_S
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
    """Wait until all components are ready.

    Args:
        components: to wait for.
        deadline: by the loop's clock, in seconds.

    Raises:
        NotAnsweringError: a component is not ready in time; the message is its name.
    """
    try:
        async with asyncio.timeout_at(deadline):
            for component in components:
                await component.wait_ready()
    except TimeoutError as error:
        late = next((item for item in components if not item.is_ready), components[0])
        raise NotAnsweringError(late.spec.name) from error
