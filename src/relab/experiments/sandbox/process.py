"""Child processes whose whole offspring can be waited for and ended.

A harness may fork, detach and ignore signals. On Linux this process makes itself the reaper
of orphans, so that whatever a harness leaves behind becomes a child of ours and is found;
elsewhere only the process group can be ended.
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

from relab.experiments.sandbox.limit_watch import descendants
from relab.experiments.sandbox.protocol import Launch, SandboxError
from relab.experiments.sandbox.trial_user import TrialUser

MARKER: Final = "AGENTLAB_TRIAL_INPUT"
"""The variable by whose value the processes of one trial are told from those of another."""

_PR_SET_CHILD_SUBREAPER = 36
_IS_LINUX = sys.platform == "linux"
_SWEEPS = 50
_AFTER_KILL_S = 5.0
_PIECE = 65_536
_TICK_S = 0.02
"""The kernel tells when a process started in hundredths of a second."""

_lock = threading.Lock()
_own: dict[int, bytes] = {}
"""Our children that are no orphans, by pid, each with its marker."""
_reaper_since_s: float | None = None
"""Since when orphans come to us, in seconds since the machine started."""


@contextmanager
def streams_of(launch: Launch) -> Iterator[tuple[int, int, int]]:
    """Open what a harness reads and where its output goes; they are closed here once it has them.

    Raises:
        OSError: there is no room, or the input is gone.
    """
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    wanted = ((launch.stdin, os.O_RDONLY), (launch.stdout, writing), (launch.stderr, writing))
    opened: list[int] = []
    try:
        for path, flags in wanted:
            opened.append(os.open(path, flags, 0o666))
        yield opened[0], opened[1], opened[2]
    finally:
        for descriptor in opened:
            os.close(descriptor)


class Child:
    """One process, started in a session of its own, and what comes of it.

    Args:
        command: program and arguments.
        cwd: where it starts.
        environment: all of it.
        stdin, stdout, stderr: descriptors of files to read and to write.
        pass_fds: further file descriptors that it inherits.
        user: whose process it is, without supplementary groups; None for the user of this process.

    Raises:
        SandboxError: it cannot be started; the message names the program and the reason.
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
        # Listing children and starting one exclude each other: a child that is just born is no orphan.
        with _lock:
            _become_reaper()
            try:
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
        """Wait for the process; return its exit code, negative for a signal, or None after the time."""
        if self._popen.returncode is None and self._pidfd is not None:
            # Popen.wait looks every so often; a pidfd tells at once.
            self._poll.poll(None if timeout_s is None else max(timeout_s, 0) * 1_000)
            return self._popen.poll()
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self, grace_s: float) -> int:
        """End the process and its group: SIGTERM, and SIGKILL after the grace; return the exit code."""
        if self._popen.poll() is None:
            self._signal(signal.SIGTERM)
            if self.wait(grace_s) is None:
                self._signal(signal.SIGKILL)
        code = self.wait(_AFTER_KILL_S)
        if code is None:
            raise SandboxError(f"process {self.pid} does not end, though it was killed")
        return code

    def processes(self) -> list[int]:
        """Return the process, what it has started, and what carries its marker and has lost its parent."""
        # The lock is held throughout: the process of a trial that starts meanwhile would look like an orphan of this one.
        with _lock:
            orphans = _orphans(self._marker, self._since_s) if _IS_LINUX else []
        return [pid for first in (self.pid, *orphans) for pid in descendants(first)]

    def close(self) -> None:
        """End everything that the process has left behind. May be called again."""
        if self._popen.poll() is None:
            self.end(0)
        # The group outlives its leader as long as one of it lives.
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
    """Return the command and the arguments of `Popen` that start a program as a user without supplementary groups.

    Args:
        command: program and arguments.
        user: None for the user of this process.
    """
    if user is None:
        return list(command), {}
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return list(command), {"user": user.uid, "group": user.gid, "extra_groups": []}
    # Popen can change the user only after a fork, which takes 8 ms in a process of this size; vfork and setpriv take 1.
    return [setpriv, f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups", "--", *command], {}


def stop_all(find: Callable[[], Sequence[int]]) -> None:
    """Stop processes (SIGSTOP) until `find` returns no other one, so that none of them starts more while they are ended."""
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
    """End every orphan there is, whosever it was: for the end of a run, when no trial is at work."""
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
    """Kill our orphans that carry this marker, or none at all while no other trial could own them."""
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
        # What they in turn had started is ours now, and is found by the next look.


def _orphans(marker: bytes | None, since_s: float) -> list[int]:
    """Return our orphans that carry this marker, or none at all while no other trial could own them; `_lock` is held."""
    others = {own for own in _own.values() if own and own != marker}
    return [pid for pid in _children() if pid not in _own and _belongs(pid, marker, others, since_s)]


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
    # Without a marker (a zombie, a cleared environment) it may be another trial's as long as there is one.
    return not others


def _is_orphan(pid: int, since_s: float) -> bool:
    """Return whether a child of ours came to us: this program's own children are older, or in its session."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    session, started_s = int(fields[3]), int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return session != os.getsid(0) and started_s >= since_s - _TICK_S


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if _IS_LINUX else 0.0


def _children() -> list[int]:
    pieces: list[bytes] = []
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 a list of numbers, asked for after each trial
        with contextlib.suppress(OSError):
            descriptor = os.open(f"/proc/self/task/{thread}/children", os.O_RDONLY)
            try:
                while piece := os.read(descriptor, _PIECE):
                    pieces.append(piece)
            finally:
                os.close(descriptor)
            pieces.append(b" ")
    return list(map(int, b"".join(pieces).split()))


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
