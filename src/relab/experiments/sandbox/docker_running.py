"""A running container of an attempt: transfer its input and output, wait for its end, remove it."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Final

from relab.experiments.sandbox.docker_engine import DockerEngine, EngineError
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.namespaces import exit_code_of
from relab.experiments.sandbox.ownership import reclaim
from relab.experiments.sandbox.protocol import Launch, Posture, SandboxError

_HEADER_BYTES: Final = 8
"""The length of a frame's header in the API's `attach` stream.

The header has the stream's number (1 stdout, 2 stderr), three zeros, and the length of the frame in big-endian.
"""
_CHUNK_BYTES: Final = 65_536
_EXIT_TIMEOUT_S: Final = 30.0
_KILL_TIMEOUT_S: Final = 1.0


class DockerRunning:
    """An attempt (one execution of a trial's harness) in a container.

    Create the object before the container is started, so that no output is lost.

    Args:
        engine: the Docker Engine of the container.
        container: the id of the container.
        launch: the description of the attempt.
        remove: a function that forgets a container. `close` calls it with the container's id after it has removed the
            container from the engine.

    Raises:
        EngineError: the engine rejects a request.
        OSError: the input or output files cannot be opened.
    """

    def __init__(self, engine: DockerEngine, container: str, launch: Launch, remove: Callable[[str], None]) -> None:
        self.posture = Posture("none", "none", {"performed": False, "reason": "the container has not started"}, {})
        self._launch = launch
        self._watch: LimitWatch | None = None
        self._last_check: threading.Thread | None = None
        self._was_out_of_memory = False
        self._engine = engine
        self._container = container
        self._remove = remove
        self._closers: list[Callable[[], None]] = []
        self._code: int | None = None
        self._problem: Exception | None = None
        self._is_ended = threading.Event()
        self._is_closed = False
        stream = engine.attach(container)
        try:
            self._streams = Streams(stream, launch)
        except BaseException:
            stream.close()
            raise
        try:
            self._waiter = engine.waiter(container)
        except BaseException:
            self._streams.close()
            raise
        self._wait_thread = threading.Thread(target=self._await_end, name="container-end", daemon=True)
        self._wait_thread.start()

    def start_harness(
        self, posture: Posture, closers: list[Callable[[], None]], *, with_line: bool, is_open: bool
    ) -> None:
        """Start the harness and send its input; store the isolation of the container.

        In a container with a shell, a script waits for a line of input and then starts the harness. Without a shell,
        the harness has already started with the container.

        Args:
            posture: the isolation in effect in the container.
            closers: functions to call when the container is removed.
            with_line: whether the script waits in the container. It then gets a line before the harness's input.
            is_open: whether to send anything. If False, a waiting script never starts the harness.
        """
        self.posture = posture
        self._closers = closers
        if is_open:
            self._streams.give_input(b"\n" if with_line else b"")

    def watch_limits(self, watch: LimitWatch, pid: int | None) -> None:
        """Store `watch`, which detects exceeded limits of the container; `exceeded` uses it.

        Args:
            watch: the watch.
            pid: the id of the container's first process on this machine. When the process ends, the limits are checked
                a last time. The engine removes the control group some milliseconds later, so on a busy machine this
                check can be too late. None if the process is not visible.
        """
        self._watch = watch
        if pid is None:
            return
        # The process may have ended already.
        with contextlib.suppress(ProcessLookupError):
            target = functools.partial(_count_at_end, os.pidfd_open(pid), watch)
            self._last_check = threading.Thread(target=target, name="container-limits", daemon=True)
            self._last_check.start()

    def exceeded(self) -> str | None:
        """Return the name of the `SandboxLimits` field that the attempt has exceeded; None if it has exceeded no limit.

        The watch from `watch_limits` detects exceeded limits. After the end of the container, Docker reports an
        exceeded memory limit, too.
        """
        if self._was_out_of_memory:
            return "memory_mb"
        return self._watch.exceeded() if self._watch is not None else None

    def hidden_bytes(self) -> int:
        """Return how many bytes the container has written to memory file systems and to open files that were deleted.

        Return 0 if the container's processes are not visible on this machine.
        """
        return self._watch.hidden_bytes() if self._watch is not None else 0

    def memory_bytes(self) -> int:
        """Return the memory of the container's processes now, in bytes; 0 if they are not visible on this machine."""
        return self._watch.memory_bytes() if self._watch is not None else 0

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for the harness, at most `timeout_s` seconds (None is no limit); return its exit code, None on time-out.

        Raises:
            SandboxError: the engine did not report the container's end.
        """
        if not self._is_ended.wait(timeout_s):
            return None
        if self._problem is not None:
            raise SandboxError(f"the container's end is not known: {self._problem}") from self._problem
        # The engine may report the end before the last output has been read.
        self._streams.finish(_EXIT_TIMEOUT_S)
        if self._last_check is not None:
            self._last_check.join(_EXIT_TIMEOUT_S)
        return self._code

    def end(self, grace_s: float) -> int:
        """Send SIGTERM to the harness, and SIGKILL to the container after `grace_s` seconds; return the exit code.

        Raises:
            SandboxError: the container cannot be ended, or the engine does not report its end.
        """
        if not self._is_ended.is_set() and grace_s > 0:
            self._kill("SIGTERM")
            self._is_ended.wait(grace_s)
        if not self._is_ended.is_set():
            self._kill("SIGKILL")
        code = self.wait(_EXIT_TIMEOUT_S)
        if code is None:
            raise SandboxError(f"container {self._container[:12]} does not end, though it was killed")
        return code

    def close(self) -> None:
        """Remove the container and everything in it. May be called repeatedly.

        Raises:
            SandboxError: the engine cannot remove the container, or the owner of a file cannot be changed.
            OSError: the output of the harness could not be written to its file.
        """
        if self._is_closed:
            return
        self._is_closed = True
        problem: EngineError | None = None
        try:
            self._engine.call("DELETE", f"/containers/{self._container}", {"force": "1", "v": "1"})
        except EngineError as error:
            problem = error if error.status != 404 else None
        # The engine never reports the end of a container that was not started.
        if not self._is_ended.wait(_KILL_TIMEOUT_S):
            self._waiter.close()
        self._wait_thread.join(_EXIT_TIMEOUT_S)
        while self._closers:
            self._closers.pop()()
        self._remove(self._container)
        self._streams.close()
        reclaim(self._launch)
        if problem is not None:
            raise SandboxError(f"container {self._container[:12]} cannot be removed: {problem}") from problem
        if self._streams.problem is not None:
            raise self._streams.problem

    def _kill(self, name: str) -> None:
        try:
            self._engine.call("POST", f"/containers/{self._container}/kill", {"signal": name})
        except EngineError as error:
            # 404 and 409: the container has ended in the meantime.
            if error.status not in {404, 409}:
                raise SandboxError(f"container {self._container[:12]} cannot be ended: {error}") from error

    def _await_end(self) -> None:
        try:
            self._code = exit_code_of(self._waiter.status())
            with contextlib.suppress(EngineError):
                state = self._engine.call("GET", f"/containers/{self._container}/json")["State"]
                self._was_out_of_memory = bool(state.get("OOMKilled"))
        except EngineError as error:
            self._problem = error
        finally:
            self._waiter.close()
            self._is_ended.set()


def _count_at_end(ended: int, watch: LimitWatch) -> None:
    """Wait until a process has ended, then check its control group; `ended` is its file descriptor, which is closed."""
    with open(ended, "rb", buffering=0) as process:
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        waiting.poll()
        watch.count()


class Streams:
    """Sends a harness's input to its container, and writes the container's output to files, in a thread."""

    def __init__(self, stream: socket.socket, launch: Launch) -> None:
        self.problem: OSError | None = None
        self._stream = stream
        with contextlib.ExitStack() as files:
            self._stdin = files.enter_context(launch.stdin.open("rb"))
            output = files.enter_context(launch.stdout.open("wb", buffering=0))
            is_one = launch.stdout == launch.stderr
            self._files = {
                1: output,
                2: output if is_one else files.enter_context(launch.stderr.open("wb", buffering=0)),
            }
            self._close_files = files.pop_all()
        self._pending = bytearray()
        self._left = 0
        self._target = 1
        self._to_send = b""
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._stream.setblocking(False)
        self._selector.register(self._stream, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._first: bytes | None = None
        self._thread = threading.Thread(target=self._carry, name="container-streams", daemon=True)
        self._thread.start()

    def give_input(self, first: bytes) -> None:
        """Start to send `first`, and then the harness's input file, to the container; return at once."""
        self._first = first
        self._wake_write.send(b"i")

    def finish(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds until the container's last output is written to the files."""
        self._thread.join(timeout_s)

    def close(self) -> None:
        """Stop the thread; close the stream to the container and the files of its output. May be called repeatedly."""
        with contextlib.suppress(OSError):
            self._wake_write.send(b"c")
        self._thread.join()
        for end in (self._stream, self._wake_read, self._wake_write):
            end.close()
        self._selector.close()
        self._close_files.close()

    def _carry(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                for key, events in self._selector.select():
                    if key.fileobj is self._wake_read:
                        if self._wake_read.recv(1) == b"c":
                            return
                        self._to_send = self._first or self._stdin.read(_CHUNK_BYTES)
                        self._watch(is_sending=True)
                        continue
                    if events & selectors.EVENT_READ and not self._receive():
                        return
                    if events & selectors.EVENT_WRITE:
                        self._send()

    def _watch(self, *, is_sending: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if is_sending else 0)
        self._selector.modify(self._stream, events)

    def _send(self) -> None:
        try:
            if self._to_send:
                self._to_send = self._to_send[self._stream.send(self._to_send) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # The harness has closed its input; its output is still read.
            self._watch(is_sending=False)
            return
        if not self._to_send:
            self._to_send = self._stdin.read(_CHUNK_BYTES)
            if not self._to_send:
                self._watch(is_sending=False)
                with contextlib.suppress(OSError):
                    self._stream.shutdown(socket.SHUT_WR)

    def _receive(self) -> bool:
        """Read the container's available output and write it to the files; return False at the end of the stream."""
        try:
            data = self._stream.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._pending += data
        while self._pending:
            if self._left == 0:
                if len(self._pending) < _HEADER_BYTES:
                    return True
                self._target = self._pending[0]
                self._left = int.from_bytes(self._pending[4:_HEADER_BYTES], "big")
                del self._pending[:_HEADER_BYTES]
                continue
            part = bytes(self._pending[: self._left])
            self._write(part)
            del self._pending[: len(part)]
            self._left -= len(part)
        return True

    def _write(self, part: bytes) -> None:
        # After a failed write further output is read but dropped, so that a full disk does not block the harness.
        file = self._files.get(self._target)
        while file is not None and part and self.problem is None:
            try:
                part = part[file.write(part) :]
            except OSError as error:
                self.problem = error
