"""Start child processes, and wait for and end them with all their descendants.

A harness may fork, detach and ignore signals. On Linux this process makes itself the subreaper. Orphans that a harness
leaves then become children of this process, which can find and end them. On other systems only the process group can be
ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from relab.experiments.sandbox.ignored_signals import default_signals
from relab.experiments.sandbox.process_tree import adopted_children, descendants
from relab.experiments.sandbox.protocol import Launch, SandboxError
from relab.experiments.sandbox.trial_user import TrialUser

MARKER: Final = "AGENTLAB_TRIAL_INPUT"
"""The environment variable whose value identifies the processes of one trial."""

_PR_SET_CHILD_SUBREAPER = 36
_IS_LINUX = sys.platform == "linux"
_SWEEPS = 50
_AFTER_KILL_S = 5.0
_TICK_S = 0.02
"""The tolerance for start times: the kernel reports them in hundredths of a second."""

_lock = threading.Lock()
_own: dict[int, bytes] = {}
"""The children that this module started, which are therefore not orphans: `{pid: marker}`."""
_reaper_since_s: float | None = None
"""When this process became the subreaper, in seconds since the machine started; None before."""


@contextmanager
def streams_of(launch: Launch) -> Iterator[tuple[int, int, int]]:
    """Open the standard streams of a harness, and yield their descriptors: input, output, error.

    The streams are closed after the `with` block.

    Raises:
        OSError: a file cannot be opened, for example because the input file is missing.
    """
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    opened: list[int] = []
    try:
        opened.append(os.open(launch.stdin, os.O_RDONLY))
        opened.append(os.open(launch.stdout, writing, 0o666))
        # Two descriptors of one file would overwrite each other; a duplicate shares the position.
        is_one = launch.stdout == launch.stderr
        opened.append(os.dup(opened[1]) if is_one else os.open(launch.stderr, writing, 0o666))
        yield opened[0], opened[1], opened[2]
    finally:
        for descriptor in opened:
            os.close(descriptor)


class Child:
    """A child process, with all its descendants. It starts in a session of its own when this object is created.

    Signals that this process ignores have their default action in the child.

    Args:
        command: the program of the child process and its arguments.
        cwd: the working directory of the child; None for the directory of this process.
        environment: the complete environment of the child.
        stdin, stdout, stderr: descriptors of the files to read and to write.
        pass_fds: further file descriptors that the child inherits.
        user: the user that the child runs as, without supplementary groups; None for the user of this process.

    Raises:
        SandboxError: the program cannot be started, or this process cannot become the subreaper.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None,
        environment: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
        pass_fds: Sequence[int] = (),
        user: TrialUser | None = None,
    ) -> None:
        self._since_s = _now_s()
        self._marker = f"{MARKER}={environment[MARKER]}".encode() if MARKER in environment else b""
        words, identity = as_user(command, user)
        # The lock keeps `_orphans` from taking the new child for an orphan before it is in `_own`.
        with _lock:
            _become_reaper()
            try:
                with default_signals():
                    self._popen = subprocess.Popen(  # noqa: S603 to run the team's own program is the purpose
                        words,
                        cwd=cwd,
                        env=dict(environment),
                        stdin=stdin,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=True,
                        pass_fds=tuple(pass_fds),
                        **identity,
                    )
            except (OSError, ValueError) as error:
                raise SandboxError(f"{command[0]!r} cannot be started: {error}") from error
            self.pid = self._popen.pid
            _own[self.pid] = self._marker
        self._pidfd = os.pidfd_open(self.pid) if _IS_LINUX else None
        self._poll = select.poll()
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the process, at most `timeout_s` seconds (None is no limit).

        Returns:
            The exit code of the process (`-n` if signal n ended it); None on time-out.
        """
        if self._popen.returncode is None and self._pidfd is not None:
            # Popen.wait polls at intervals; a pidfd becomes readable immediately.
            self._poll.poll(None if timeout_s is None else max(timeout_s, 0) * 1_000)
            return self._popen.poll()
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self, grace_s: float) -> int:
        """End the process and its group with SIGTERM; return the exit code of the process.

        The group gets SIGKILL only if the process itself still runs after `grace_s` seconds. Other members of the group
        that ignore SIGTERM may thus continue to run until `close`.

        Raises:
            SandboxError: the process does not end after SIGKILL.
        """
        if self._popen.poll() is None:
            self._signal(signal.SIGTERM)
            if self.wait(grace_s) is None:
                self._signal(signal.SIGKILL)
        code = self.wait(_AFTER_KILL_S)
        if code is None:
            raise SandboxError(f"process {self.pid} does not end, though it was killed")
        return code

    def processes(self) -> list[int]:
        """Return the ids of the process, of its orphans, and of all their descendants.

        Orphans are processes that the harness started and whose parent has ended; they are found on Linux only. The
        process itself is left out once it has been waited for.
        """
        # The lock is held, because a process of a trial that is just starting would look like an orphan of this trial.
        with _lock:
            orphans = _orphans(self._marker, self._since_s) if _IS_LINUX else []
        # A process that was waited for has no children any more, and its id may be that of another process.
        own = [self.pid] if self._popen.returncode is None else []
        return [pid for first in (*own, *orphans) for pid in descendants(first)]

    def close(self) -> None:
        """End the process, its group and its orphans (descendants whose parent has ended). May be called repeatedly."""
        if self._popen.poll() is None:
            self.end(0)
        # The process group exists until its last member ends, so it may outlive its leader.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if _IS_LINUX:
            _end_orphans(self._marker, self._since_s)
        with _lock:
            _own.pop(self.pid, None)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def as_user(command: Sequence[str], user: TrialUser | None) -> tuple[list[str], dict[str, Any]]:
    """Return the command and the keyword arguments with which `subprocess.Popen` starts a program as another user.

    The program gets the user's group, and no supplementary groups.

    Args:
        command: program and arguments.
        user: the user to run as; None for the user of this process.
    """
    if user is None:
        return list(command), {}
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return list(command), {"user": user.uid, "group": user.gid, "extra_groups": []}
    # Popen changes the user only after a fork, which takes 8 ms in a process of this size; vfork and setpriv take 1 ms.
    return [setpriv, f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--", *command], {}


def stop_all(find: Callable[[], Sequence[int]]) -> None:
    """Stop (SIGSTOP) the processes whose ids `find` returns; repeat this while `find` returns further ids.

    The number of repetitions is limited (`_SWEEPS`).

    A stopped process cannot start other processes before it is killed.
    """
    stopped: set[int] = set()
    for _ in range(_SWEEPS):
        new = [pid for pid in find() if pid not in stopped]
        if not new:
            return
        for pid in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
        stopped.update(new)


def end_all_orphans() -> None:
    """End all orphans (adopted processes that harnesses left); call this at the end of a run, when no trial runs.

    Only on Linux does this process adopt orphans.
    """
    if _IS_LINUX and _reaper_since_s is not None:
        _end_orphans(None, _reaper_since_s)


def _become_reaper() -> None:
    global _reaper_since_s  # noqa: PLW0603 a property of the process, as this is
    if _IS_LINUX and _reaper_since_s is None:
        since_s = _now_s()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise SandboxError(f"cannot become the reaper of orphans: {os.strerror(ctypes.get_errno())}")
        _reaper_since_s = since_s


def _end_orphans(marker: bytes | None, since_s: float) -> None:
    """Kill the orphans of this process (adopted processes that harnesses left); repeat this up to `_SWEEPS` times.

    Args:
        marker: the environment variable that identifies a trial; None for all orphans. While other trials run, only
            orphans with this variable are killed; otherwise all orphans are.
        since_s: kill only orphans that started at or after this time, in seconds since the start of the machine.
    """
    for _ in range(_SWEEPS):
        with _lock:
            orphans = _orphans(marker, since_s)
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in orphans:
            _reap(pid)
        # Their children have become children of this process, and the next round finds them.


def _orphans(marker: bytes | None, since_s: float) -> list[int]:
    """Return the ids of this process's orphans (adopted processes that harnesses left). The caller must hold `_lock`.

    Args:
        marker: the environment variable that identifies a trial; None for all orphans. While other trials run, only
            orphans with this variable are returned; otherwise all orphans are.
        since_s: return only orphans that started at or after this time, in seconds since the start of the machine.
    """
    found = [pid for pid in adopted_children() if pid not in _own]
    if not found:
        return []
    others = {own for own in _own.values() if own and own != marker}
    # An orphan without a marker may be of any running trial, so it counts only if no other trial runs.
    return [pid for pid in found if _belongs(pid, marker, others, since_s)]


def _belongs(pid: int, marker: bytes | None, others: set[bytes], since_s: float) -> bool:
    if not _is_orphan(pid, since_s):
        return False
    if marker is None:
        return True
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        environment = []
    if marker in environment:
        return True
    # A process without a marker (a zombie, a cleared environment) could belong to any other running trial.
    return not others


def _is_orphan(pid: int, since_s: float) -> bool:
    """Return whether a child of this process is an orphan that this process has adopted from a harness.

    A child is an orphan if it has another session than this process, and started at `since_s` (in seconds since the
    start of the machine) or later. The rule does not hold for children in `_own`; the caller excludes them.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    # A child that this program started itself is in the same session or is older.
    session, started_s = int(fields[3]), int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return session != os.getsid(0) and started_s >= since_s - _TICK_S


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _IS_LINUX else 0.0


def _reap(pid: int) -> None:
    deadline = time.monotonic() + _AFTER_KILL_S
    while time.monotonic() < deadline:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return
        if done:
            return
        time.sleep(0.001)
