"""What every room for trials can do.

A sandbox serves a whole run and starts one process per attempt. It says what it really
enforces, so that nothing is claimed that does not hold.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one attempt, on this machine.

    `workspace`, `state` and `out` are written by the trial; `tmp` and `home` are its own too and
    thrown away; `harness` (the project's snapshot) and `dataset` (the folder of the data set) are read.
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
    """The same folders as the harness sees them."""

    workspace: str
    state: str
    out: str
    tmp: str
    home: str
    harness: str
    dataset: str


class Network(StrEnum):
    """What is asked for; as in `config.NetworkMode`."""

    NONE = "none"
    ALLOWLIST = "allowlist_enforced"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one attempt may use; None is no limit of its own.

    Attributes:
        cpu_count, memory_mb, max_pids: of all its processes together; `max_pids` counts processes and threads.
        max_open_files: of each process.
        tmp_mb: of each folder that the room keeps in memory, such as /tmp.
        at_once: how many attempts run at the same time, because the kernel counts some things by user.
    """

    cpu_count: float | None = None
    memory_mb: int | None = None
    max_pids: int | None = None
    max_open_files: int | None = None
    tmp_mb: int | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Listener:
    """A port of a loopback address, as the harness sees it, that the runner serves: a proxy, a receiver of traces.

    `serve` is given a listening socket, takes connections from then on without blocking its caller, and
    returns what ends that and closes the socket. Where rooms share the host's network the port may differ:
    the sandbox then replaces `{port:<port>}` in the environment's values by the real one.
    """

    port: int
    serve: Callable[[socket.socket], Callable[[], None]]
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start.

    Attributes:
        command: program and arguments, as the harness's room has them.
        environment: all of it; nothing of the runner's own is added.
        stdin: a file to read; stdout, stderr: files to write, made anew.
        mounts: further folders or files to read: `{place in the room: path on this machine}`.
        listeners: what the runner serves inside the room's network.
        max_file_bytes: of each file that it writes; None for any size.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folders: Folders
    stdin: Path
    stdout: Path
    stderr: Path
    mounts: Mapping[str, Path] = field(default_factory=dict)
    listeners: Sequence[Listener] = ()
    max_file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Posture:
    """What really holds in a room, for the state inventory.

    Attributes:
        network_effective: `none`, `allowlist_enforced` or `full`.
        enforcement: how, such as `network_namespace`; `none` if nothing is enforced.
        egress_self_test: what was looked at and what was found; `performed` false if there is nothing to test.
        mounts: `{place: "rw" or "ro"}`.
        limits: what of the limits is enforced, and by what; unenforced ones are named with "not enforced: <why>".
    """

    network_effective: str
    enforcement: str
    egress_self_test: Mapping[str, Any]
    mounts: Mapping[str, str]
    limits: Mapping[str, str] = field(default_factory=dict)


class Running(Protocol):
    """One attempt at work."""

    @property
    def posture(self) -> Posture:
        """What holds in its room."""

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the harness; return its exit code (negative: the signal that ended it), or None after the time."""

    def end(self, grace_s: float) -> int:
        """End the whole process tree: politely, then after the grace for sure; return the harness's exit code."""

    def close(self) -> None:
        """Release everything; whatever the harness left running is ended first. May be called again."""

    def exceeded(self) -> str | None:
        """Return the field of `Limits` that it has run into, as far as the room can see; also after `close`."""

    def hidden_bytes(self) -> int:
        """Return the bytes that it has written where no folder shows them: in memory, or to deleted files."""


class Sandbox(Protocol):
    """Makes rooms for the attempts of one run. Used from several threads at once."""

    name: str
    """`local`, `bwrap` or `container`."""

    def prepare(self) -> None:
        """Check that rooms can be made, once and before the run; clear away what a killed run left.

        Raises:
            SandboxUnavailableError: they cannot; the message says what to install or to change.
        """

    def places(self, folders: Folders) -> Places:
        """Return where the harness of an attempt with these folders finds them."""

    def start(self, launch: Launch) -> Running:
        """Start an attempt. Nothing of it runs any more once `close` of the result has returned.

        Raises:
            SandboxError: this attempt cannot be started; others may.
        """

    def close(self) -> None:
        """End every attempt that is still at work and release what the run shares."""


class SandboxError(Exception):
    """One attempt could not be started or watched."""
