"""A running bubblewrap sandbox: create it with a blocked harness, start the harness, wait for it, end the sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.cgroups import Group
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.namespaces import call_all, exit_code_of
from relab.experiments.sandbox.ownership import reclaim
from relab.experiments.sandbox.process import MARKER, Child, streams_of
from relab.experiments.sandbox.protocol import Launch, Posture, SandboxError
from relab.experiments.sandbox.trial_user import TrialUser

_SETUP_TIMEOUT_S: Final = 30.0
_EXIT_TIMEOUT_S: Final = 10.0


class BwrapProcess:
    """A bubblewrap sandbox whose harness is blocked until `start_harness`.

    Args:
        program: the path of bubblewrap.
        options: bubblewrap's options, without the options that name file descriptors of this process.
        launch: what to start: the command of one attempt of a trial, its environment, folders and files.
        system_calls: the seccomp filter, as a BPF program.
        user: the user of the harness and of bubblewrap; None for the user of this process.
        user_namespace: a file descriptor of the user namespace in which the sandbox runs, if it runs as another user
            than this process; else None.

    Raises:
        SandboxError: the sandbox cannot be created.
    """

    def __init__(
        self,
        program: str,
        options: Sequence[str],
        launch: Launch,
        *,
        system_calls: bytes,
        user: TrialUser | None = None,
        user_namespace: int | None = None,
    ) -> None:
        status_read, status_write = os.pipe()
        gate_read, self._gate = os.pipe()
        # Opened for reading and writing, so that bubblewrap reads no end of file when the runner dies: it would then
        # start the harness.
        gate = os.open(f"/proc/self/fd/{gate_read}", os.O_RDWR | os.O_CLOEXEC)
        os.close(gate_read)
        arguments, filters = os.memfd_create("arguments"), os.memfd_create("filter")
        self._status = status_read
        self._output = b""
        try:
            # Options go through a file, because all users of this machine can read command lines, and variables may be secret.
            _fill(arguments, b"".join(os.fsencode(option) + b"\0" for option in options))
            _fill(filters, system_calls)
            command = [
                program,
                "--args",
                str(arguments),
                "--json-status-fd",
                str(status_write),
                "--block-fd",
                str(gate),
            ]
            command += ["--seccomp", str(filters)]
            inherited = [arguments, status_write, gate, filters]
            if user_namespace is not None:
                command += ["--userns", str(user_namespace)]
                inherited.append(user_namespace)
            self.child = _start([*command, "--", *launch.command], launch, inherited, user)
        except BaseException:
            os.close(status_read)
            os.close(self._gate)
            raise
        finally:
            for fd in (arguments, status_write, gate, filters):
                os.close(fd)
        try:
            self.pid = self._read_pid(launch.stderr)
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException as error:
            self.child.close()
            os.close(self._status)
            os.close(self._gate)
            if isinstance(error, OSError):
                raise SandboxError(f"the sandbox ended while it was made: {_last_words(launch.stderr)}") from error
            raise
        self._is_closed = False

    def start_harness(self) -> None:
        """Let the blocked harness start."""
        os.write(self._gate, b"\n")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the harness and its process group. The sandbox goes on, because its first process ignores it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill the sandbox's first process, which ends every process of the sandbox."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def has_run(self) -> bool:
        """Return whether the harness was started; call it after the sandbox has ended."""
        os.set_blocking(self._status, False)
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._status, 4_096):
                self._output += more
        return b'"exit-code"' in self._output

    def close(self) -> None:
        """End the sandbox and wait until all its processes have ended. May be called repeatedly.

        Raises:
            SandboxError: the sandbox's first process does not end.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self.kill()
        # The sandbox's first process ends last; this process must reap it if bubblewrap's monitor ended earlier.
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        is_gone = bool(ended.poll(_EXIT_TIMEOUT_S * 1_000))
        self.child.wait(_EXIT_TIMEOUT_S)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        self.child.close()
        for fd in (self._pidfd, self._status, self._gate):
            os.close(fd)
        if not is_gone:
            raise SandboxError(f"process {self.pid} does not end, though it was killed")

    def _read_pid(self, stderr: Path) -> int:
        """Return the id of the sandbox's first process in this machine's PID namespace, as bubblewrap reports it.

        `stderr` is the file of bubblewrap's error messages; an error quotes the last message.

        Raises:
            SandboxError: bubblewrap cannot create the sandbox, or takes too long.
        """
        readable = select.poll()
        readable.register(self._status, select.POLLIN)
        while b"}" not in self._output:
            more = os.read(self._status, 4_096) if readable.poll(_SETUP_TIMEOUT_S * 1_000) else b""
            if not more:
                raise SandboxError(f"the sandbox cannot be made: {_last_words(stderr)}")
            self._output += more
        pid: int = json.loads(self._output[: self._output.index(b"}") + 1])["child-pid"]
        return pid


class BwrapRunning:
    """An attempt that runs in a bubblewrap sandbox.

    Args:
        remove: `close` calls this function with the attempt, after the sandbox has ended.
        process: bubblewrap's process.
        posture: the isolation that is in effect.
        group: the control group of the attempt; None if it has none.
        closers: functions that release the resources of the attempt when it is closed.
        launch: the command of the harness, with its folders and environment.
        watch: watches the limits of the attempt.
    """

    def __init__(
        self,
        remove: Callable[[BwrapRunning], None],
        process: BwrapProcess,
        posture: Posture,
        group: Group | None,
        closers: list[Callable[[], None]],
        launch: Launch,
        watch: LimitWatch,
    ) -> None:
        self.posture = posture
        self.exceeded = watch.exceeded
        self.hidden_bytes = watch.hidden_bytes
        self.memory_bytes = watch.memory_bytes
        self._watch = watch
        self._launch = launch
        self._remove = remove
        self._process = process
        self._group = group
        self._closers = closers
        self._code: int | None = None
        self._is_ended = False
        self._is_reclaimed = False

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the harness, at most `timeout_s` seconds (None is no limit); return its exit code, None on time-out.

        Raises:
            SandboxError: the harness was never started, because its program is missing or the sandbox failed.
        """
        if self._code is None:
            status = self._process.child.wait(timeout_s)
            if status is None:
                return None
            if not self._is_ended and not self._process.has_run():
                raise SandboxError(f"the harness cannot be started: {_last_words(self._launch.stderr)}")
            self._code = exit_code_of(status)
        return self._code

    def end(self, grace_s: float) -> int:
        """Send SIGTERM to the harness, and kill the sandbox after `grace_s` seconds.

        Return the exit code of the harness.

        Raises:
            SandboxError: the sandbox does not end.
        """
        self._is_ended = True
        if self.wait(0) is None:
            self._process.send_signal(signal.SIGTERM)
            if grace_s <= 0 or self.wait(grace_s) is None:
                self._process.kill()
        code = self.wait(_EXIT_TIMEOUT_S)
        if code is None:
            raise SandboxError(f"process {self._process.pid} does not end, though it was killed")
        return code

    def close(self) -> None:
        """End the sandbox with all its processes, and release all resources. May be called repeatedly."""
        try:
            self._process.close()
        finally:
            call_all(self._closers)
            if self._group is not None:
                self._watch.finish()
                self._group.close()
                self._group = None
            self._remove(self)
            if not self._is_reclaimed:
                self._is_reclaimed = True
                reclaim(self._launch)


def _start(command: Sequence[str], launch: Launch, fds: Sequence[int], user: TrialUser | None) -> Child:
    # bubblewrap does not get the harness's environment, which could make it load other code. It gets the trial's
    # marker, so that the processes that a killed runner leaves can be found.
    environment = {MARKER: str(launch.folders.out / "trial_input.json")}
    with streams_of(launch) as (stdin, stdout, stderr):
        return Child(
            command,
            cwd=None,
            environment=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=fds,
            # bubblewrap's monitor also runs as this user, to be allowed to end the sandbox when the runner dies.
            user=user,
        )


def _fill(fd: int, data: bytes) -> None:
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)


def _last_words(stderr: Path) -> str:
    with contextlib.suppress(OSError):
        words = stderr.read_text(errors="replace").strip()[-500:]
        if words:
            return words
    return "it gives no reason"
