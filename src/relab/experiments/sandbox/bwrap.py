"""The bubblewrap sandbox: separate mounts, processes and network per attempt, without a daemon and without root.

Options of the program: https://github.com/containers/bubblewrap/blob/main/bwrap.xml
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from relab.experiments.errors import SandboxUnavailableError
from relab.experiments.sandbox.bwrap_running import BwrapProcess, BwrapRunning
from relab.experiments.sandbox.cgroups import Cgroups
from relab.experiments.sandbox.host_system import (
    interpreter_folders,
    kernel_interface_mounts,
    make_etc,
    system_mounts,
)
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
from relab.experiments.sandbox.process import as_user
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
from relab.experiments.sandbox.rlimits import set_rlimits
from relab.experiments.sandbox.seccomp import compile_filter
from relab.experiments.sandbox.trial_user import TrialUser, trial_user
from relab.experiments.sandbox.user_namespace import REMEDY as USER_NAMESPACES
from relab.experiments.sandbox.user_namespace import acting_as, make_user_namespace

INSTALL: Final = "apt-get install bubblewrap"
_CHECK_TIMEOUT_S = 20.0
_ISOLATION: Final = (
    "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session",
    "--hostname", "trial", "--clearenv", "--cap-drop", "ALL",
)  # fmt: skip
_HARMLESS: Final = {
    "CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
    "CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
}  # fmt: skip
"""The required values in `/proc/<pid>/status` of a sandboxed process (proc_pid_status(5)).

Seccomp 2 is a seccomp filter.
"""


class BwrapSandbox:
    """Starts each attempt of a trial in its own bubblewrap sandbox.

    The thread that starts an attempt must live until the attempt is closed: the kernel ends the sandbox with the
    thread.

    Args:
        run_id: the id of the run, a part of the names of folders and control groups. A later process of the run finds
            leftovers by these names.
        network: with `none` and `allowlist_enforced`, an attempt gets a network namespace without any route. The
            runner's proxies listen in it, and pass on requests to allowed hosts. With `full`, an attempt shares the
            network of this machine.
        limits: the limits of each attempt. Control groups enforce them if this process may use control groups;
            otherwise rlimits do, as far as possible.
        read_only_paths: further folders and files of this machine, mounted read-only at the same path.
        user: `uid` or `uid:gid`; None for the runner's own user, or for an unused id if the runner is root.
        program: the name or path of bubblewrap.
    """

    name = "bwrap"
    image_digest: str | None = None

    def __init__(
        self,
        *,
        run_id: str,
        network: NetworkMode,
        limits: SandboxLimits,
        read_only_paths: Sequence[str] = (),
        user: str | None = None,
        program: str = "bwrap",
    ) -> None:
        self._run_id = run_id
        self._network = network
        self._limits = limits
        self._read_only_paths = tuple(read_only_paths)
        self._wanted_user = user
        self._program = program
        self._system_calls = b""
        self._user = TrialUser(os.getuid(), os.getgid())
        self._user_namespace: int | None = None
        self._cgroups = Cgroups(run_id, limits)
        self._networks = SandboxNetworks(run_id)
        self._folder: Path | None = None
        self._shared: list[str] = []
        self._lock = threading.Lock()
        self._running: dict[int, BwrapRunning] = {}
        self._shared_folders = SharedFolders()

    def prepare(self) -> None:
        """Remove the leftovers of an earlier process of this run, and check that bubblewrap can create a safe sandbox.

        Raises:
            SandboxUnavailableError: bubblewrap or a read-only path is missing, trials cannot run as the user, or this
                machine cannot create a safe sandbox.
            OSError: the folder for the sandbox's files cannot be created or written.
        """
        found = shutil.which(self._program)
        if found is None:
            raise SandboxUnavailableError(f"{self._program} is not installed.", remedy=f"Install it: {INSTALL}")
        self._program = found
        for path in self._read_only_paths:
            if not Path(path).is_absolute() or not Path(path).exists():
                raise SandboxUnavailableError(f"sandbox.read_only_paths: there is no {path!r} on this machine.")
        try:
            self._system_calls = compile_filter(os.uname().machine)
        except LookupError as error:
            raise SandboxUnavailableError(
                f"System calls cannot be filtered here: {error}.", remedy="Use the container sandbox on this machine."
            ) from error
        self._user = trial_user(self._wanted_user)
        self._clear_stale()
        if not self._user.is_runner:
            self._user_namespace = make_user_namespace(self._user)
        self._folder = Path(tempfile.mkdtemp(prefix=self._folder_prefix(os.getpid())))
        # Readable for all: it contains no secrets, and trials may run as another user.
        self._folder.chmod(0o755)
        etc = make_etc(self._folder / "etc", is_networked=self._network is NetworkMode.FULL, user=self._user)
        self._shared = [*_ISOLATION, "--uid", str(self._user.uid), "--gid", str(self._user.gid)]
        self._shared += ["--unshare-user"] if self._user_namespace is None else []
        self._shared += [] if self._network is NetworkMode.FULL else ["--unshare-net"]
        self._shared += [*system_mounts(), *etc, "--proc", "/proc", "--dev", "/dev"]
        self._shared += kernel_interface_mounts(self._folder / "covers")
        # Folders in memory have a size limit, and the rest of /dev is read-only.
        size = [] if self._limits.tmp_mb is None else ["--size", str(self._limits.tmp_mb * 1_048_576)]
        self._shared += [*size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", *size, "--tmpfs", "/tmp"]  # noqa: S108
        self._shared += ["--dir", "/run", "--symlink", "/tmp", "/var/tmp"]  # noqa: S108 as above
        for path in self._read_only_paths:
            self._shared += ["--ro-bind", path, path]
        self._check_isolation()
        self._cgroups.prepare()

    def places(self, folders: Folders) -> Places:  # noqa: ARG002 they are the same for all
        """Return the paths of an attempt's folders inside the sandbox; they are the same for all attempts."""
        return PLACES

    def start(self, launch: Launch) -> BwrapRunning:
        """Start an attempt (one execution of a trial's harness) in a new sandbox.

        The egress self-test checks that the sandbox's network is blocked. If it fails, the harness does not start, and
        the caller must end the attempt. The returned object has the result of the test in `posture.egress_self_test`.

        Args:
            launch: the command of the harness, with its folders, environment and services.

        Raises:
            SandboxError: the sandbox, a limit or a service cannot be set up.
            OSError: a file of the harness's input or output cannot be opened.
        """
        with contextlib.ExitStack() as undo:
            closers: list[Callable[[], None]] = []
            undo.callback(call_all, closers)
            ports = {listener.port: listener.port for listener in launch.listeners}
            if self._network is NetworkMode.FULL:
                found, ports = listen_here(launch.listeners)
                closers += found
            mounts, shown = self._mounts(launch)
            environment = with_ports(launch.environment, ports)
            options = [*self._shared, *mounts, "--remount-ro", "/", "--chdir", PLACES.workspace]
            for name, value in environment.items():
                options += ["--setenv", name, value]
            group = self._cgroups.make()
            if group is not None:
                undo.callback(group.close)
            self._shared_folders.prepare(launch, self._user)
            process = BwrapProcess(
                self._program,
                options,
                launch,
                system_calls=self._system_calls,
                user=self._other_user(),
                user_namespace=self._user_namespace,
            )
            undo.callback(process.close)
            if group is not None:
                group.add(process.pid)
            with acting_as(self._other_user()):
                enforced = self._cgroups.enforced | self._set_rlimits(process.pid, launch)
            posture = self._posture(process.pid, shown, enforced)
            if self._network is not NetworkMode.FULL:
                closers += self._networks.serve(process.pid, launch.listeners)
            if posture.egress_self_test.get("passed", True):
                process.start_harness()
            watch = LimitWatch(
                self._limits,
                group,
                functools.partial(descendants, process.pid),
                own_tasks=1,
                memory_folders=("/tmp", "/dev/shm"),  # noqa: S108 of the sandbox
            )
            running = BwrapRunning(self.remove, process, posture, group, closers, launch, watch)
            undo.pop_all()
        with self._lock:
            self._running[id(running)] = running
        return running

    def close(self) -> None:
        """End every attempt and remove the resources that the attempts of the run share."""
        with self._lock:
            unfinished = list(self._running.values())
        for running in unfinished:
            running.close()
        self._networks.close()
        self._cgroups.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._user_namespace is not None:
            os.close(self._user_namespace)
            self._user_namespace = None

    def remove(self, running: BwrapRunning) -> None:
        """Remove an attempt that has ended from this sandbox's list of running attempts."""
        with self._lock:
            self._running.pop(id(running), None)

    def _folder_prefix(self, pid: int) -> str:
        return f"relab-room-{self._run_id}-{pid}-"

    def _clear_stale(self) -> None:
        own = self._folder_prefix(os.getpid())
        for folder in Path(tempfile.gettempdir()).iterdir():
            name = folder.name
            if name.startswith(f"relab-room-{self._run_id}-") and not name.startswith(own):
                shutil.rmtree(folder, ignore_errors=True)

    def _other_user(self) -> TrialUser | None:
        return None if self._user.is_runner else self._user

    def _check_isolation(self) -> None:
        """Start a sandbox with the options of trials; check the capabilities, ids and seccomp mode of a process in it.

        Raises:
            SandboxUnavailableError: bubblewrap fails, or one of these values differs from the required value.
        """
        with contextlib.ExitStack() as undo:
            filters = undo.enter_context(tempfile.TemporaryFile())
            filters.write(self._system_calls)
            filters.seek(0)
            inherited = [filters.fileno()]
            command = [self._program, "--seccomp", str(filters.fileno())]
            if self._user_namespace is not None:
                command += ["--userns", str(self._user_namespace)]
                inherited.append(self._user_namespace)
            command += [*self._shared, "/usr/bin/env", "cat", "/proc/self/status"]
            command, identity = as_user(command, self._other_user())
            try:
                # The harness is later run in the same way, with its own folders in addition.
                done = subprocess.run(  # noqa: S603
                    command,
                    capture_output=True,
                    text=True,
                    timeout=_CHECK_TIMEOUT_S,
                    check=False,
                    pass_fds=inherited,
                    **identity,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise SandboxUnavailableError(f"{self._program} cannot be run: {error}") from error
        if done.returncode != 0:
            raise SandboxUnavailableError(
                f"{self._program} cannot make a sandbox here: {done.stderr.strip()[-500:] or f'exit {done.returncode}'}.",
                remedy=USER_NAMESPACES,
            )
        found = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
        wanted = _HARMLESS | {"Uid": "\t".join([str(self._user.uid)] * 4), "Gid": "\t".join([str(self._user.gid)] * 4)}
        if self._user_namespace is not None:
            wanted["Groups"] = " "
        wrong = {name: found.get(name) for name, value in wanted.items() if found.get(name) != value}
        if wrong:
            raise SandboxUnavailableError(
                f"A sandbox of {self._program} would not be safe here: the kernel reports {wrong} of a process in it.",
                remedy=f"Install a recent bubblewrap: {INSTALL}; or use the container sandbox.",
            )

    def _set_rlimits(self, pid: int, launch: Launch) -> dict[str, str]:
        most = self._limits.max_pids
        if most is not None:
            # One more for the sandbox's first process. Without root each sandbox has its own user namespace and counts separately.
            most = (most + 1) * (self._limits.at_once if os.getuid() == 0 else 1)
        missing = self._cgroups.missing
        return set_rlimits(pid, self._limits, missing, max_file_bytes=launch.max_file_bytes, most_tasks=most)

    def _mounts(self, launch: Launch) -> tuple[list[str], dict[str, str]]:
        """Return bubblewrap's options that mount an attempt's folders, and `{path in the sandbox: "rw" or "ro"}`.

        Raises:
            SandboxError: one of these folders does not exist.
        """
        mounts = bind_mounts(launch)
        for place, (path, _) in mounts.items():
            if place not in launch.mounts and not path.is_dir():
                raise SandboxError(f"the folder {path} of the sandbox does not exist")
        options: list[str] = []
        shown: dict[str, str] = {PLACES.tmp: "rw"}
        for folder in interpreter_folders(launch.command[0], launch.environment, launch.folders.harness):
            options += ["--ro-bind", str(folder), str(folder)]
            shown[str(folder)] = "ro"
        for place, (path, mode) in mounts.items():
            options += ["--bind" if mode == "rw" else "--ro-bind", str(path), place]
            shown[place] = mode
        return options, shown | dict.fromkeys(self._read_only_paths, "ro")

    def _posture(self, pid: int, mounts: Mapping[str, str], limits: Mapping[str, str]) -> Posture:
        if self._network is NetworkMode.FULL:
            test: dict[str, Any] = {"performed": False, "reason": "the network is asked for in full"}
            return Posture(NetworkMode.FULL, "none", test, mounts, limits)
        test = check_egress(pid)
        if not test["performed"]:
            raise SandboxError(f"the egress self-test cannot be made: {test['reason']}")
        return Posture(self._network, enforcement_of(self._network), test, mounts, limits)
