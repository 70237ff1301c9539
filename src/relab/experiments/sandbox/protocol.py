"""The interface of all sandboxes for trials.

A sandbox serves a whole run, and starts the harness once per attempt. `Posture` reports the isolation and the limits
that are really in effect; they may be weaker than the configured ones.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one attempt, as paths on this machine.

    The attempt reads `harness` (the project's snapshot) and `dataset` (the data set), and writes to the other folders.
    `tmp` and `home` are deleted when the attempt ends.
    """

    workspace: Path
    state: Path
    out: Path
    tmp: Path
    home: Path
    harness: Path
    dataset: Path


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of an attempt's folders inside its sandbox, with the same field names as `Folders`."""

    workspace: str
    state: str
    out: str
    tmp: str
    home: str
    harness: str
    dataset: str

    def inside(self, path: str) -> str:
        """Return the path inside this sandbox for `/<field>/<rest>`, such as `/out/x`.

        `<field>` is the name of a field of this class.
        """
        _, top, rest = path.split("/", 2)
        return f"{getattr(self, top)}/{rest}"


PLACES: Final = Places("/workspace", "/state", "/out", "/tmp", "/home/trial", "/harness", "/dataset")  # noqa: S108
"""The paths in a sandbox that has a file system of its own.

AgentLab, an experiment runner whose file formats relab keeps, defines them.
"""


class NetworkMode(StrEnum):
    """The network access of a trial: none, the listed hosts through a proxy, or everything."""

    NONE = "none"
    ALLOWLIST = "allowlist_enforced"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The resource limits of one attempt; None for no limit.

    Attributes:
        cpu_count, memory_mb, max_pids: limits for all processes of the attempt together; `max_pids` counts processes
            and threads.
        max_open_files: the limit of each process.
        tmp_mb: the size of each folder that the sandbox stores in memory, such as /tmp.
        at_once: the number of attempts that run at the same time. A limit that the kernel applies to a user as a whole
            is multiplied by this number.
    """

    cpu_count: float | None = None
    memory_mb: int | None = None
    max_pids: int | None = None
    max_open_files: int | None = None
    tmp_mb: int | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Listener:
    """A service that the runner offers to the programs in a sandbox, such as a proxy or a trace receiver.

    In a sandbox with a network of its own, the service listens at the loopback address `address`, on `port`. In a
    sandbox that shares this machine's network, it listens at 127.0.0.1, on a free port. So the values of environment
    variables contain the placeholder `{port:<port>}`, which the sandbox replaces by the port that is really used.

    `serve` accepts connections on a listening socket in the background. It returns a function that stops the service
    and closes the socket.
    """

    port: int
    serve: Callable[[socket.socket], Callable[[], None]]
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Launch:
    """The description of one attempt of a trial; a sandbox needs it to start the attempt.

    Attributes:
        command: the program and its arguments, with paths as inside the sandbox.
        environment: the complete environment; the runner's own variables are not added.
        folders: the folders of the attempt, on this machine.
        stdin: the file that the harness reads as standard input.
        stdout, stderr: the files for the harness's output; existing content is deleted. If both are the same path, the
            lines of both streams are in one file; in a container, lines of different streams may change their order.
        mounts: further read-only folders or files: `{path in the sandbox: path on this machine}`.
        listeners: services of the runner inside the sandbox's network.
        max_file_bytes: the largest size of a file that the harness writes; None for no limit.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folders: Folders
    stdin: Path
    stdout: Path
    stderr: Path
    mounts: Mapping[str, Path] = field(default_factory=dict)
    listeners: Sequence[Listener] = ()
    max_file_bytes: int | None = None


def bind_mounts(launch: Launch) -> dict[str, tuple[Path, str]]:
    """Return the mounts of an attempt as `{path in the sandbox: (path on this machine, mode)}`.

    The attempt's folders are mounted at the paths in `PLACES`, except `tmp`, which is not mounted. The mode is `rw`
    (writable) or `ro` (read-only).
    """
    modes = {"workspace": "rw", "state": "rw", "out": "rw", "home": "rw", "harness": "ro", "dataset": "ro"}
    found = {getattr(PLACES, name): (getattr(launch.folders, name), mode) for name, mode in modes.items()}
    return found | {place: (path, "ro") for place, path in launch.mounts.items()}


@dataclass(frozen=True, slots=True)
class Posture:
    """The isolation that is really in effect in a sandbox; it is recorded in the trial's `state_inventory.json`.

    Attributes:
        network_effective: `none`, `allowlist_enforced` or `full`.
        enforcement: the mechanism, such as `network_namespace`; `none` if the network is not restricted.
        egress_self_test: the result of the test that the network is blocked; without a test, `performed` is False.
        mounts: `{path in the sandbox: "rw" or "ro"}`.
        limits: `{limit: mechanism that enforces it, or "not enforced: <why>"}`.
    """

    network_effective: str
    enforcement: str
    egress_self_test: Mapping[str, Any]
    mounts: Mapping[str, str]
    limits: Mapping[str, str] = field(default_factory=dict)


class RunningAttempt(Protocol):
    """A harness that was started for one attempt of a trial."""

    @property
    def posture(self) -> Posture:
        """The isolation that is in effect in the attempt's sandbox."""

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the end of the harness, at most `timeout_s` seconds (None is no limit).

        Returns:
            The harness's exit code (`-n` if signal n ended it), or None on time-out.
        """

    def end(self, grace_s: float) -> int:
        """End the harness: SIGTERM, and SIGKILL if it still runs after `grace_s` seconds; return its exit code.

        Processes that the harness started may continue to run until `close` is called.

        Raises:
            SandboxError: the harness cannot be ended.
        """

    def close(self) -> None:
        """End the processes that the harness left running, and release all resources. May be called repeatedly."""

    def exceeded(self) -> str | None:
        """Return the name of the `SandboxLimits` field that the attempt has exceeded; None if it has exceeded none.

        It may be called after `close`, too.
        """

    def hidden_bytes(self) -> int:
        """Return how many bytes the attempt has written to memory file systems and to open files that were deleted."""

    def memory_bytes(self) -> int:
        """Return the anonymous and shared memory of the attempt's processes now, in bytes; 0 if it is unknown."""


class Sandbox(Protocol):
    """Starts the attempts of one run, each with folders and processes of its own. Thread-safe.

    `RunningAttempt.posture` says how far an attempt is really isolated; the kind `local` hardly isolates it.
    """

    name: str
    """The name of the kind of sandbox, as in the configuration (`sandbox.kinds.SandboxMode`)."""

    image_digest: str | None
    """The digest of the image that attempts run in; None if they run in no image, and before `prepare`."""

    def prepare(self) -> None:
        """Check that the sandbox works on this machine; remove what an earlier, killed process of the run has left.

        Call this method once, before the first attempt.

        Raises:
            SandboxUnavailableError: the sandbox does not work; the message says what to install or to change.
        """

    def places(self, folders: Folders) -> Places:
        """Return the paths of an attempt's folders inside the sandbox."""

    def start(self, launch: Launch) -> RunningAttempt:
        """Start the attempt that `launch` describes; call `close` of the result to end all its processes.

        Raises:
            SandboxError: this attempt cannot be started; other attempts may still start.
            OSError: a file of this attempt cannot be opened or written.
        """

    def close(self) -> None:
        """End the attempts that still run, and release the resources that the attempts of the run share.

        May be called repeatedly.
        """


class SandboxError(Exception):
    """One attempt could not be started, watched or ended."""
