"""Start, signal, limit and end the supervisor's child processes and their descendants.

Each child process has a session of its own. When the supervisor ends, the kernel kills its child processes, and the
guard (the supervisor's parent process) kills their descendants.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from relab.testbed.errors import NotAnsweringError
from relab.testbed.supervisor import guard, launch

_AFTER_KILL_S: Final = 5.0
_living: set[int] = set()
"""Pids of the processes that the supervisor started. Its other children are orphans of a started process that ended."""
_is_supervisor = False


@dataclass(frozen=True, slots=True)
class Owner:
    """The user and group, by their numbers, under which a process runs."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """The specification of a process to start.

    Attributes:
        command: program (an absolute path) and arguments.
        environment: all environment variables of the process.
        cwd: the working folder of the process.
        log: the file to which the output of the process is appended.
        owner: the user under which the process runs; None for the supervisor's user.
        rlimits: soft limits, by the kernel's names in lower case.
        groups: the control-group files to which the pid of the process is written.
        opened: `{file descriptor: path}` of files and folders that the process gets open for reading. They are opened
            before the user is set. Descriptors are numbered from 20 on.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    log: Path
    owner: Owner | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)
    groups: Sequence[Path] = ()
    opened: Mapping[int, Path] = field(default_factory=dict)


def become_supervisor(parent: int) -> None:
    """Register this process with the kernel as a supervisor.

    From now on, the kernel kills this process when the guard ends. Orphans of this process's components become children
    of this process.

    Args:
        parent: the pid of the guard, the process that created this one.

    Raises:
        OSError: the kernel rejects the request.
    """
    global _is_supervisor  # noqa: PLW0603 a property of the process, as this is
    launch.die_with_parent(parent)
    guard.become_reaper()
    _is_supervisor = True


class Process:
    """A process that this object starts when it is created (the started process), and its descendants.

    The caller must create the object on the main thread, because the kernel kills the process when that thread ends.

    Args:
        order: how to start the process.

    Attributes:
        pid: the id of the started process.

    Raises:
        OSError: the process cannot be created, or its log cannot be opened.
    """

    def __init__(self, order: ProcessSpec) -> None:
        text = json.dumps(
            {
                "parent": os.getpid(),
                "command": list(order.command),
                "environment": dict(order.environment),
                "groups": [str(path) for path in order.groups],
                "opened": {number: str(path) for number, path in order.opened.items()},
                "rlimits": dict(order.rlimits),
                "uid": order.owner.uid if order.owner else None,
                "gid": order.owner.gid if order.owner else None,
            }
        )
        with order.log.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 the component table is the supervisor's own
                [sys.executable, "-I", "-S", launch.__file__, text],
                env={},
                cwd=order.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        _living.add(self.pid)
        self._ended = asyncio.Event()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the started process, negative for a signal; None while it runs."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait until the started process ends; return its exit code.

        Descendants that still run are then killed, before the method returns (see `end_orphans`).
        """
        await self._ended.wait()
        code = self._popen.returncode
        assert code is not None
        return code

    def send(self, number: signal.Signals, *, everyone: bool = False) -> None:
        """Send a signal to the started process and then, if `everyone` is true, to its descendants."""
        for pid in [self.pid, *(descendants(self.pid) if everyone else ())]:
            if self.exit_code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def limit(self, rlimits: Mapping[str, int]) -> None:
        """Set soft resource limits of the started process and all of its descendants.

        Args:
            rlimits: `{resource: limit}`, such as `{"nofile": 256}` for RLIMIT_NOFILE. A value above the hard limit is
                lowered to it.
        """
        for pid in [self.pid, *descendants(self.pid)]:
            for name, value in rlimits.items():
                number = getattr(resource, f"RLIMIT_{name.upper()}")
                with contextlib.suppress(ProcessLookupError):
                    _, hard = resource.prlimit(pid, number)
                    within = value if hard == resource.RLIM_INFINITY else min(value, hard)
                    resource.prlimit(pid, number, (within, hard))

    async def end(self, gently: signal.Signals | None, grace_s: float) -> int:
        """End the started process and all of its descendants; return the exit code of the started process.

        Args:
            gently: the signal that requests an orderly end; None to send SIGKILL at once.
            grace_s: time in seconds to wait before SIGKILL.

        Raises:
            NotAnsweringError: the started process does not end even after SIGKILL.
        """
        if gently is not None and self.exit_code is None:
            # A stopped process handles the signal only after SIGCONT.
            self.send(gently)
            self.send(signal.SIGCONT, everyone=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._ended.wait()
        if self.exit_code is None:
            self.kill()
        try:
            async with asyncio.timeout(_AFTER_KILL_S):
                return await self.wait()
        except TimeoutError as error:
            raise NotAnsweringError(f"Process {self.pid} does not end, though it was killed.") from error

    def kill(self) -> None:
        """Send SIGKILL to the started process and to all of its descendants, without waiting for their end."""
        # Kill the started process before its children, so that it does not replace them.
        self.send(signal.SIGKILL, everyone=True)

    def _reap(self) -> None:
        if self._popen.poll() is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        _living.discard(self.pid)
        end_orphans()
        self._ended.set()


def end_orphans() -> None:
    """Kill and reap the orphans that components have left.

    An orphan is a process that a component has started, and whose parent process has ended. Do nothing if this process
    has not called `become_supervisor`.
    """
    # Orphans become children of a supervisor only; other processes must keep their own children.
    if not _is_supervisor:
        return
    for _ in range(100):
        orphans = [pid for pid in guard.children() if pid not in _living]
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in orphans:
            # The child has received SIGKILL, so it becomes a zombie at once.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def descendants(pid: int) -> list[int]:
    """Return the pids of all current descendants of a process, parents before children."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


async def run_to_end(order: ProcessSpec, *, within_s: float) -> int:
    """Run the program that `order` specifies until it ends, and return its exit code.

    Raises:
        NotAnsweringError: the program did not end within `within_s` seconds and was killed.
    """
    process = Process(order)
    try:
        async with asyncio.timeout(within_s):
            return await process.wait()
    except TimeoutError as error:
        raise NotAnsweringError(f"{order.command[0]} did not end within {within_s:g} s.") from error
    finally:
        if process.exit_code is None:
            await process.end(None, 0)


def tail(path: Path) -> str:
    """Return the last 15 lines of a log as text, but at most its last 8 KiB; return "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8_192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-15:])
