"""One testbed as a whole: start, reset and shut it down, and control its single components."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from relab.core.clock import SystemClock
from relab.testbed.errors import NotAnsweringError, StartError, SupervisorBusyError, UnknownComponentError
from relab.testbed.layout import HOST, Layout, write_json
from relab.testbed.models import (
    Addresses,
    ComponentStatus,
    ResourceLimits,
    SignalName,
    TestbedPhase,
    TestbedState,
    TestbedStatus,
)
from relab.testbed.supervisor import programs, table, template
from relab.testbed.supervisor.component import Component, not_ready_error, wait_all_ready
from relab.testbed.supervisor.copying import remove_tree
from relab.testbed.supervisor.groups import Groups
from relab.testbed.supervisor.plan import SupervisorPlan
from relab.testbed.supervisor.ports import HeldPort
from relab.testbed.supervisor.probes import end_episode
from relab.testbed.supervisor.process import descendants
from relab.testbed.supervisor.settings_store import SettingsStore
from relab.testbed.supervisor.template import Template
from relab.testbed.supervisor.volume import Volume

_READY_TIMEOUT_S: Final = 10.0
_OLD: Final = "old-"


class Supervisor:
    """Controls one testbed as a whole, and its components. Use it on one event loop, on the main thread.

    Args:
        plan: the configuration of the testbed.
        layout: the testbed's folders; the guard process must already hold the testbed's lock.

    Attributes:
        settings: the versions of the target's settings.
    """

    def __init__(self, plan: SupervisorPlan, layout: Layout) -> None:
        self.plan = plan
        self.layout = layout
        self._clock = SystemClock()
        self.settings = SettingsStore(layout.settings, self._clock)
        self._volume = Volume(layout.data)
        self._groups = Groups(f"relab-{os.getpid()}-{layout.name}", layout.groups)
        self._held: dict[str, HeldPort] = {}
        self._components: dict[str, Component] = {}
        self._template: Template | None = None
        self._versions: dict[str, str] = {}
        self._site: table.Site | None = None
        self._phase: TestbedPhase = "starting"
        self._started_at = self._clock.now_us()
        self._ready_at: int | None = None
        self._whole = asyncio.Lock()
        self._removals: set[asyncio.Task[None]] = set()

    @property
    def phase(self) -> TestbedPhase:
        """The current phase of the testbed, such as `starting` or `ready`."""
        return self._phase

    async def start(self) -> None:
        """Start the testbed and wait until all components are ready.

        Raises:
            MissingProgramError, StartError: the testbed cannot be started; the caller must call `shut_down`.
            OSError: the disk is full, for example.
        """
        async with self._doing("starting"):
            found = await asyncio.to_thread(programs.find_postgres)
            redis, redis_version = await asyncio.to_thread(programs.find_redis)
            self._versions = {"postgres": found.version, "redis": redis_version}
            self._held = table.hold_ports(self.plan)
            await asyncio.to_thread(self._volume.make)
            async with _within(self.plan.template_within_s, "the template of the database"):
                self._template = await template.ensure(found, self.plan.seed_module, self.layout.templates)
            ports = {name: held.port for name, held in self._held.items()}
            self._site = table.Site(
                self.plan, self.layout, ports, found, redis, self._template.credentials()
            )  # fmt: skip
            deadline = self._start_deadline()
            await self._begin(deadline, {})
            await self._end_episode(self._keepers())
            # A component that did not confirm the new episode was stopped.
            await self._start_all(deadline)

    async def reset(self) -> None:
        """Restore the testbed's initial data, settings and limits, and wait until all components are ready.

        Components that are ready, have no limits, and confirm that they forget the previous episode (test of a
        responder) continue to run. All others are stopped, and those that run at the beginning of an episode are
        started, without limits.

        Raises:
            SupervisorBusyError: the testbed is being started, reset or shut down.
            StartError: a component does not become ready again.
        """
        async with self._doing("resetting"):
            kept = {name: item for name, item in self._keepers().items() if item.limits == ResourceLimits()}
            await self._end_all(but=kept)
            # All other components are stopped by now, so the kept ones can release their resources there at once.
            kept = await self._end_episode(kept)
            await self._begin(self._start_deadline(), kept)

    async def shut_down(self) -> None:
        """Stop all components; the testbed's folder stays, so that its logs can be read."""
        self._phase = "stopping"
        async with self._whole:
            self._phase = "stopping"
            await self._end_all()
            self._groups.remove()
            self._volume.remove()
            for held in self._held.values():
                held.close()
            self.layout.state.unlink(missing_ok=True)
            await asyncio.gather(*self._removals)

    def status(self, *, hidden: bool = False) -> TestbedStatus:
        """Return the testbed's status; `hidden` adds the components and addresses that responders must not see."""
        return TestbedStatus(
            state=self._state(hidden=hidden),
            components=self.components(hidden=hidden),
            limits_available=self._groups.available(),
        )

    def components(self, *, hidden: bool = False) -> list[ComponentStatus]:
        """Return the status of the components in start order; `hidden` adds those that responders must not see."""
        return [item.status() for item in self._components.values() if hidden or not item.spec.hidden]

    def access(self) -> dict[str, Any]:
        """Return the addresses and credentials, as JSON, that operators need to reach database and cache directly."""
        assert self._site is not None
        return table.access_of(self._site)

    async def start_components(self, name: str) -> list[ComponentStatus]:
        """Start the component, or all components of the group, with this name; return their status.

        Running components are left alone.

        Raises:
            UnknownComponentError: no component or group has this name.
            SupervisorBusyError: the testbed is being started, reset or shut down.
        """
        return await self._each(name, lambda item: item.start())

    async def stop_components(self, name: str, *, gently: bool = True) -> list[ComponentStatus]:
        """Stop the component, or all components of the group, with this name; return their status.

        The components stay stopped until they are started again, or the testbed is reset.

        Args:
            name: the name of the component or group.
            gently: True to request an orderly end first. False to end the processes at once: by SIGKILL, or by the
                `abort_signal` of the component if it has one, with SIGKILL 0.3 s later.

        Raises:
            UnknownComponentError: no component or group has this name.
            SupervisorBusyError: the testbed is being started, reset or shut down.
            NotAnsweringError: a process does not end even after SIGKILL.
        """
        return await self._each(name, lambda item: item.stop(gently=gently))

    async def restart_components(self, name: str, *, gently: bool = True) -> list[ComponentStatus]:
        """Restart the component, or all components of the group, with this name; return their status.

        Do not wait until the components are ready. The arguments and errors are the same as in `stop_components`.
        """
        return await self._each(name, lambda item: item.restart(gently=gently))

    def signal(self, name: str, number: SignalName, *, everyone: bool) -> list[ComponentStatus]:
        """Send a signal to the component, or to each component of the group, with this name; return their status.

        Args:
            name: the name of the component or group.
            number: name of the signal without `SIG`, such as `STOP`.
            everyone: True to signal all processes of a component; False for its main process only.

        Raises:
            UnknownComponentError: no component or group has this name.
        """
        found = self.find(name)
        for item in found:
            if item.process is not None:
                item.process.send(signal.Signals[f"SIG{number}"], everyone=everyone)
        return [item.status() for item in found]

    def limit(self, name: str, limits: ResourceLimits) -> list[ComponentStatus]:
        """Set the resource limits of the component, or of each component of the group, with this name.

        Return the components' status. Running processes get the limits, too. A limit absent in `limits` is removed.

        Raises:
            UnknownComponentError: no component or group has this name.
            UnavailableLimitError: this machine cannot enforce a limit (nothing was changed), or the kernel rejects it.
        """
        found = self.find(name)
        self._groups.check(limits)
        for item in found:
            process = item.process
            pids = [process.pid, *descendants(process.pid)] if process else []
            self._groups.set(item.spec.name, limits, pids)
            lifted = item.limits.rlimits.keys() - limits.rlimits.keys()
            if process is not None:
                process.limit({str(key): value for key, value in limits.rlimits.items()} | _usual(lifted))
            item.limits = limits
        return [item.status() for item in found]

    def find(self, name: str) -> list[Component]:
        """Return the component with this name, or all components of the group or program with this name.

        Raises:
            UnknownComponentError: no component, group or program has this name.
        """
        if name in self._components:
            return [self._components[name]]
        found = [
            item for key, item in self._components.items() if item.spec.group == name or key.rpartition("-")[0] == name
        ]
        if not found:
            shown = ", ".join(key for key, item in self._components.items() if not item.spec.hidden)
            raise UnknownComponentError(f"There is no component {name[:60]!r}; there are {shown or 'none yet'}.")
        return found

    async def wait_ready(self, found: Sequence[Component], within_s: float = _READY_TIMEOUT_S) -> None:
        """Wait until all components in `found` are ready, at most `within_s` seconds."""
        with suppress(NotAnsweringError):
            await wait_all_ready(found, asyncio.get_running_loop().time() + within_s)

    async def _each(self, name: str, act: Callable[[Component], Awaitable[None]]) -> list[ComponentStatus]:
        found = self.find(name)
        self.require_settled()
        await asyncio.gather(*(act(item) for item in found))
        return [item.status() for item in found]

    def require_settled(self) -> None:
        """Raise `SupervisorBusyError` while the testbed is being started, reset or shut down."""
        if self._phase not in {"ready", "failed"}:
            raise SupervisorBusyError(f"The testbed is {self._phase}; wait until it is ready.")

    @asynccontextmanager
    async def _doing(self, phase: TestbedPhase) -> AsyncIterator[None]:
        if self._whole.locked() or self._phase == "stopping":
            raise SupervisorBusyError(f"The testbed is {self._phase}; wait until it is ready.")
        async with self._whole:
            self._phase = phase
            try:
                yield
            except BaseException:
                self._phase = "failed"
                self._write_state()
                raise
            self._phase = "ready"
            self._ready_at = self._clock.now_us()
            self._write_state()

    def _keepers(self) -> dict[str, Component]:
        """Return the components that are ready and can drop the state of an episode, by name."""
        return {
            name: item
            for name, item in self._components.items()
            if item.spec.episode_end_path is not None and item.is_ready
        }

    async def _end_episode(self, kept: dict[str, Component]) -> dict[str, Component]:
        """Make the components `kept` drop the last episode's state; kill each one that fails, and return the others."""
        secret = self._site.secret if self._site else ""
        asked = [(item.spec.port, item.spec.episode_end_path) for item in kept.values()]
        results = await asyncio.gather(*(end_episode(port or 0, path or "", secret) for port, path in asked))
        deaf = [item for item, did in zip(kept.values(), results, strict=True) if not did]
        await asyncio.gather(*(item.stop(gently=False) for item in deaf))
        return {name: item for name, item in kept.items() if item not in deaf}

    async def _begin(self, deadline: float, kept: dict[str, Component]) -> None:
        """Restore the initial state of the testbed's folder, then start the components, stage by stage.

        Args:
            deadline: time limit until all components are ready, by the event loop's clock in seconds.
            kept: the components that keep running, by name.
        """
        assert self._site is not None
        await asyncio.to_thread(self._lay_out, self._site)
        self.settings.begin(table.first_settings(self._site))
        self._components = {
            spec.name: kept.get(spec.name)
            or Component(spec, groups=self._groups.joined_by, clock=self._clock, counted=self._groups.figures)
            for spec in table.components(self._site)
        }
        self._write_state()
        await self._start_all(deadline)

    async def _start_all(self, deadline: float) -> None:
        """Start the components with `spec.started`, stage by stage; raise `StartError` after the deadline."""
        for stage in sorted({item.spec.stage for item in self._components.values()}):
            started = [item for item in self._components.values() if item.spec.stage == stage and item.spec.started]
            for item in started:
                await item.start()
            try:
                await wait_all_ready(started, deadline)
            except NotAnsweringError as error:
                raise not_ready_error(self._components[error.message], self.plan.start_within_s) from error

    def _start_deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.plan.start_within_s

    def _lay_out(self, site: table.Site) -> None:
        layout = self.layout
        assert self._template is not None
        self._put_away([layout.postgres, layout.redis, layout.search, layout.stats, layout.flags, layout.report_order])
        # Kept components write to the log files that they have open.
        written = {item.spec.log for item in self._components.values()} | {layout.supervisor_log}
        self._put_away([path for path in layout.logs.iterdir() if path not in written])
        kept = {layout.plan, layout.groups, *written}
        self._put_away(
            [path for path in layout.private.iterdir() if path not in kept and not path.name.startswith(_OLD)]
        )
        self._volume.empty()
        layout.stats.mkdir()
        self._template.copy_to(layout)
        write_json(
            layout.credentials,
            {"superuser": site.credentials.superuser, "application": site.credentials.application},
        )
        table.write_configurations(site)

    def _put_away(self, paths: Sequence[Path]) -> None:
        """Move these files or folders aside, so that a background task can delete them later."""
        for path in paths:
            if path.is_symlink() or path.exists():
                path.rename(self.layout.private / f"{_OLD}{os.urandom(8).hex()}")

    async def _end_all(self, but: dict[str, Component] | None = None) -> None:
        """Kill all components except those in `but`; remove unused control groups and files that were moved aside."""
        but = but or {}
        ended = [item for item in self._components.values() if item.spec.name not in but]
        await asyncio.gather(*(item.stop(gently=False) for item in ended))
        self._components = dict(but)
        self._groups.remove()
        self._remove_old()

    def _remove_old(self) -> None:
        def remove() -> None:
            for path in self.layout.private.glob(f"{_OLD}*"):
                remove_tree(path)

        task = asyncio.create_task(asyncio.to_thread(remove))
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    def _write_state(self) -> None:
        write_json(self.layout.state, self._state().model_dump(mode="json"), mode=0o644)

    def _state(self, *, hidden: bool = False) -> TestbedState:
        """Return the testbed's state; `hidden` adds the ports and addresses that responders must not see."""
        shown = [row for row in self.plan.rows if row.port is not None and (hidden or not row.hidden)]
        public = {str(row.port) for row in shown}
        ports = {name: held.port for name, held in self._held.items() if name in public or name in table.PRIVATE_PORTS}
        urls = {name: f"http://{HOST}:{getattr(self.plan.ports, name)}" for name in public}
        return TestbedState(
            name=self.layout.name,
            pid=os.getpid(),
            phase=self._phase,
            started_at=self._started_at,
            ready_at=self._ready_at,
            ports=ports,
            addresses=Addresses(
                target=f"http://{HOST}:{self.plan.ports.target}", chaos=urls.get("chaos"), actions=urls.get("actions")
            ),
            control_socket=str(self.layout.control_socket),
            versions=self._versions,
            template=self._template.digest if self._template else "",
        )


def _usual(names: Iterable[str]) -> dict[str, int]:
    """Return this process's soft resource limits of the given names; components inherit these limits by default."""
    return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[0] for name in names}


@asynccontextmanager
async def _within(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise StartError(f"Creating {what} took longer than {seconds:g} s.") from error
