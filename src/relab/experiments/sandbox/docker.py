"""The container sandbox: each attempt runs in a container of a Docker Engine. Images are neither built nor pulled."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from relab.experiments.errors import SandboxUnavailableError
from relab.experiments.sandbox.cgroups import group_of
from relab.experiments.sandbox.docker_engine import DockerEngine, EngineError
from relab.experiments.sandbox.docker_running import DockerRunning
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.namespaces import (
    SandboxNetworks,
    call_all,
    check_egress,
    enforcement_of,
    listen_here,
    with_ports,
)
from relab.experiments.sandbox.ownership import SharedFolders
from relab.experiments.sandbox.process_tree import descendants
from relab.experiments.sandbox.protocol import (
    PLACES,
    Folders,
    Launch,
    NetworkMode,
    Places,
    Posture,
    SandboxError,
    SandboxLimits,
    bind_mounts,
)
from relab.experiments.sandbox.rlimits import WATCHED
from relab.experiments.sandbox.trial_user import TrialUser, trial_user

INSTALL: Final = "apt-get install docker.io, and start dockerd"
RUN_LABEL: Final = "relab.run"
_RUNNER_LABEL: Final = "relab.runner"
_SHELL: Final = "/bin/sh"
_GATE: Final = 'read -r _ || exit 125; exec "$@"'
"""A shell script that waits for one line on stdin and then starts the harness; if the runner dies first, nothing starts."""
_NETWORK_CHECK = "the network is asked for in full"
_SERVED_BY: Final = "Docker Engine"
_LIMITS: Final = {"memory_mb": "MemoryLimit", "cpu_count": "CpuCfsQuota", "max_pids": "PidsLimit"}
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOFT_FILES: Final = 16_384
_RLIMIT_ERROR: Final = "error setting rlimit"
"""The error text of runc for any resource limit; only the limit of open files can be higher than the engine's own."""
_instances = itertools.count(1)


class DockerSandbox:
    """Starts each attempt of a trial in its own container.

    If the network is restricted, the harness starts after the egress self-test (a check of the container's network) has
    passed. If the image has no shell, the harness starts before this test; the test's result then has
    `before_start: false`.

    Args:
        run_id: the id of the run, a label of the containers. A later process of the run finds leftovers by this label.
        image: the name of the image, which must exist on this machine.
        network: with `none` and `allowlist_enforced`, a container gets a network namespace with only loopback. The
            runner's proxies listen in it, and pass on requests to allowed hosts. With `full`, a container gets the
            engine's bridge, or this machine's network if the engine has no bridge.
        limits: the limits of each attempt.
        read_only_root: whether only the trial's folders and `/tmp` are writable.
        user: `uid` or `uid:gid`; None for the runner's own user, or for an unused id if the runner is root.
        no_new_privileges, drop_all_caps: restrictions of the container.
        engine: the Docker Engine; None for the default one.
    """

    name = "container"

    def __init__(
        self,
        *,
        run_id: str,
        image: str,
        network: NetworkMode,
        limits: SandboxLimits,
        read_only_root: bool = True,
        user: str | None = None,
        no_new_privileges: bool = True,
        drop_all_caps: bool = True,
        engine: DockerEngine | None = None,
    ) -> None:
        self.image_digest: str | None = None
        """The image's id, a SHA-256 of its configuration; None before `prepare`."""
        self._run_id = run_id
        self._runner = f"{os.getpid()}-{next(_instances)}"
        self._image = image
        self._network = network
        self._limits = limits
        self._read_only_root = read_only_root
        self._wanted_user = user
        self._user = TrialUser(os.getuid(), os.getgid())
        self._security = ["no-new-privileges"] if no_new_privileges else []
        self._cap_drop = ["ALL"] if drop_all_caps else []
        self._engine = engine or DockerEngine()
        self._networks = SandboxNetworks(run_id)
        self._lock = threading.Lock()
        self._running: dict[str, DockerRunning] = {}
        self._shared_folders = SharedFolders()
        self._has_gate = False
        self._sets_files = self._limits.max_open_files is not None
        self._network_mode = "none"
        self._enforced: dict[str, str] = {}

    def prepare(self) -> None:
        """Read the engine's capabilities, and remove the containers that an earlier process of this run has left.

        Raises:
            SandboxUnavailableError: the engine does not answer or has no seccomp filter, the image is missing, or
                trials cannot run as the user.
        """
        self._user = trial_user(self._wanted_user)
        try:
            info = self._engine.call("GET", "/info")
        except EngineError as error:
            raise SandboxUnavailableError(f"{_sentence(error)}", remedy=f"On Debian: {INSTALL}") from error
        if not _filters_system_calls(info.get("SecurityOptions") or []):
            raise SandboxUnavailableError(
                "The Docker Engine runs containers without a seccomp filter, so a trial could reach the whole kernel.",
                remedy="Remove the unconfined seccomp-profile from the engine's settings; the kernel needs SECCOMP.",
            )
        try:
            found = self._engine.call("GET", f"/images/{self._image}/json")
        except EngineError as error:
            if error.status != 404:
                raise SandboxUnavailableError(_sentence(error)) from error
            raise SandboxUnavailableError(
                f"The image {self._image!r} is not on this machine, and the runner neither pulls nor builds.",
                remedy=f"For example: docker pull {self._image}",
            ) from error
        self.image_digest = found["Id"]
        try:
            self._remove(lambda runner: runner.split("-")[0] != str(os.getpid()))
            self._has_gate = self._find_shell()
            if self._network is NetworkMode.FULL:
                names = {network["Name"] for network in self._engine.call("GET", "/networks")}
                self._network_mode = "bridge" if "bridge" in names else "host"
        except EngineError as error:
            raise SandboxUnavailableError(_sentence(error)) from error
        if self._limits.max_open_files is not None:
            self._enforced["max_open_files"] = f"{_SERVED_BY}: RLIMIT_NOFILE, per process"
        for limit in self._asked():
            is_there = bool(info.get(_LIMITS[limit]))
            self._enforced[limit] = _SERVED_BY if is_there else f"not enforced: the engine has no {_LIMITS[limit]}"

    def places(self, folders: Folders) -> Places:  # noqa: ARG002 they are the same for all
        """Return the paths of an attempt's folders inside the container; they are the same for all attempts."""
        return PLACES

    def start(self, launch: Launch) -> DockerRunning:
        """Create and start the container of an attempt.

        If the network is restricted, the egress self-test is performed. If it fails, the attempt is returned, but its
        harness does not start. In an image without a shell, the harness starts before the test.

        Raises:
            SandboxError: the engine rejects a request, or the container cannot be prepared or tested.
            OSError: a file of the harness's input or output cannot be opened.
        """
        sets_files = self._sets_files
        try:
            return self._start(launch)
        except SandboxError as error:
            # An engine without CAP_SYS_RESOURCE cannot set a limit of open files above its own; retry without one.
            if _RLIMIT_ERROR not in str(error) or not sets_files:
                raise
        self._sets_files = False
        self._enforced["max_open_files"] = f"{_SERVED_BY}: its own limit, which it cannot raise"
        return self._start(launch)

    def _start(self, launch: Launch) -> DockerRunning:
        with contextlib.ExitStack() as undo:
            closers: list[Callable[[], None]] = []
            undo.callback(call_all, closers)
            ports = {listener.port: listener.port for listener in launch.listeners}
            is_shared = self._network_mode == "host"
            if is_shared:
                found, ports = listen_here(launch.listeners)
                closers += found
            self._shared_folders.prepare(launch, self._user)
            try:
                container = self._engine.call("POST", "/containers/create", body=self._container(launch, ports))["Id"]
                undo.callback(self._drop, container)
                running = DockerRunning(self._engine, container, launch, self.remove)
                undo.callback(running.close)
                self._engine.call("POST", f"/containers/{container}/start")
                pid = self._engine.call("GET", f"/containers/{container}/json")["State"]["Pid"]
            except EngineError as error:
                raise SandboxError(f"the container cannot be started: {error}") from error
            posture = self._posture(pid, launch)
            if not is_shared and launch.listeners:
                closers += self._networks.serve(pid, launch.listeners)
            # The processes of a container on another machine are not visible, so no exceeded limit is detected.
            is_visible = _is_of(pid, container)
            watch = self._watch_of(pid) if is_visible else LimitWatch(SandboxLimits(), None, list)
            running.watch_limits(watch, pid if is_visible else None)
            may_start = posture.egress_self_test.get("passed", True)
            running.start_harness(posture, closers, with_line=self._has_gate, is_open=may_start or not self._has_gate)
            undo.pop_all()
        with self._lock:
            self._running[container] = running
        return running

    def close(self) -> None:
        """End every attempt and remove its container."""
        with self._lock:
            unfinished = list(self._running.values())
        for running in unfinished:
            running.close()
        self._networks.close()
        if self.image_digest is not None:
            with contextlib.suppress(EngineError):
                self._remove(lambda runner: runner == self._runner)

    def remove(self, container: str) -> None:
        """Remove an attempt from this sandbox's list of running attempts; `container` is the id of its container.

        The caller has already removed the container itself. An attempt is one execution of a trial's harness.
        """
        with self._lock:
            self._running.pop(container, None)

    def _labels(self) -> dict[str, str]:
        return {RUN_LABEL: self._run_id, _RUNNER_LABEL: self._runner}

    def _drop(self, container: str) -> None:
        with contextlib.suppress(EngineError):
            self._engine.call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})

    def _remove(self, is_meant: Callable[[str], bool]) -> None:
        filters = json.dumps({"label": [f"{RUN_LABEL}={self._run_id}"]})
        for container in self._engine.call("GET", "/containers/json", {"all": "1", "filters": filters}):
            if is_meant(container["Labels"].get(_RUNNER_LABEL, "")):
                self._drop(container["Id"])

    def _find_shell(self) -> bool:
        """Return whether the image has a shell. The check creates a container, but does not start it."""
        created = self._engine.call(
            "POST", "/containers/create", body={"Image": self._image, "Cmd": [_SHELL], "Labels": self._labels()}
        )
        try:
            return self._engine.exists(created["Id"], _SHELL)
        finally:
            self._drop(created["Id"])

    def _container(self, launch: Launch, ports: Mapping[int, int]) -> dict[str, Any]:
        environment = with_ports(launch.environment, ports)
        # A name without a value removes the variable that the engine would add.
        unset = [name for name in ("HOSTNAME",) if name not in environment]
        # Shells drop variables whose names are not valid shell names, so `env` sets these.
        odd = [f"{name}={value}" for name, value in environment.items() if not _SHELL_NAME.fullmatch(name)]
        command = ["env", *odd, *launch.command] if odd and self._has_gate else list(launch.command)
        return {
            "Image": self._image,
            "Entrypoint": [_SHELL, "-c", _GATE, "gate", *command] if self._has_gate else command,
            "Cmd": [],
            "Env": [*(f"{name}={value}" for name, value in environment.items()), *unset],
            "Hostname": "trial",
            "User": f"{self._user.uid}:{self._user.gid}",
            "WorkingDir": PLACES.workspace,
            "Labels": self._labels(),
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "NetworkDisabled": False,
            "HostConfig": self._host_config(launch),
        }

    def _host_config(self, launch: Launch) -> dict[str, Any]:
        limits = self._limits
        memory = None if limits.memory_mb is None else limits.memory_mb * 1_048_576
        size = "" if limits.tmp_mb is None else f",size={limits.tmp_mb}m"
        return {
            "Mounts": [
                {"Type": "bind", "Source": str(source), "Target": place, "ReadOnly": mode == "ro"}
                for place, (source, mode) in bind_mounts(launch).items()
            ],
            "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777{size}"},  # noqa: S108
            "Ulimits": _ulimits(limits if self._sets_files else SandboxLimits(), launch),
            "NetworkMode": self._network_mode,
            "ReadonlyRootfs": self._read_only_root,
            "SecurityOpt": self._security,
            "CapDrop": self._cap_drop,
            # An init process reaps zombies and forwards signals, which a harness as process 1 would not receive.
            "Init": True,
            "LogConfig": {"Type": "none"},
            "Memory": memory or 0,
            "MemorySwap": memory or 0,
            "NanoCpus": int((limits.cpu_count or 0) * 1_000_000_000),
            # One more for the init process.
            "PidsLimit": 0 if limits.max_pids is None else limits.max_pids + 1,
        }

    def _watch_of(self, pid: int) -> LimitWatch:
        """Return the watch that detects an exceeded limit of a container, whose first process has the id `pid`."""
        group = group_of(pid) if self._enforced.items() >= dict.fromkeys(self._asked(), _SERVED_BY).items() else None
        processes = functools.partial(descendants, pid)
        return LimitWatch(self._limits, group, processes, own_tasks=1, memory_folders=(PLACES.tmp,))

    def _asked(self) -> list[str]:
        return [limit for limit in _LIMITS if getattr(self._limits, limit) is not None]

    def _posture(self, pid: int, launch: Launch) -> Posture:
        mounts = {place: mode for place, (_, mode) in bind_mounts(launch).items()} | {PLACES.tmp: "rw"}
        enforced = dict(self._enforced)
        if launch.max_file_bytes is not None:
            enforced["max_written_mb"] = f"{WATCHED}; {_SERVED_BY}: RLIMIT_FSIZE, per file"
        if self._network is NetworkMode.FULL:
            test: dict[str, Any] = {"performed": False, "reason": _NETWORK_CHECK, "network": self._network_mode}
            return Posture(NetworkMode.FULL, "none", test, mounts, enforced)
        test = check_egress(pid) | {"before_start": self._has_gate}
        # Without a gate the harness may have ended before the test.
        if not test["performed"] and self._has_gate:
            raise SandboxError(f"the egress self-test cannot be made: {test['reason']}")
        return Posture(self._network, enforcement_of(self._network), test, mounts, enforced)


def _ulimits(limits: SandboxLimits, launch: Launch) -> list[dict[str, Any]]:
    # With a very high soft limit, old programs close a million file descriptors before they start another program.
    files, size = limits.max_open_files, launch.max_file_bytes
    found = [{"Name": "fsize", "Soft": size, "Hard": size}] if size is not None else []
    return found + ([{"Name": "nofile", "Soft": min(files, _SOFT_FILES), "Hard": files}] if files is not None else [])


def _is_of(pid: int, container: str) -> bool:
    """Return whether process `pid` of this machine belongs to a container; False if the process cannot be inspected."""
    with contextlib.suppress(OSError):
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    return False


def _filters_system_calls(options: Sequence[str]) -> bool:
    """Return whether an engine has a seccomp filter, according to the `SecurityOptions` of its `/info`."""
    return any("name=seccomp" in option.split(",") and "profile=unconfined" not in option for option in options)


def _sentence(error: EngineError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
