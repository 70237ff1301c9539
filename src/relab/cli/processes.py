"""Child processes that end with their parent, even if the parent is killed.

Each child holds the read end of a pipe; only the parent holds the write end. When the parent ends, even by kill -9, the
pipe closes and the child stops. This works on Linux and macOS, and needs neither signals nor polling.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from relab.core.logging import get_logger

STOP_GRACE_S = 10
RESTART_PAUSE_S = 1.0
PARENT_PIPE_OPTION = "--parent-pipe"

_log = get_logger(__name__)


class ChildProcesses:
    """Runs `lab` commands as child processes while the `with` block runs; a child process that ends is restarted.

    `commands` has one list for each child process: the arguments of `lab`, such as `["worker"]`.
    """

    def __init__(self, commands: list[list[str]]) -> None:
        self._commands = commands
        self._stopping = threading.Event()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._read_end = -1
        self._write_end = -1
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        for index, command in enumerate(self._commands):
            thread = threading.Thread(
                target=self._keep_alive, args=(index, command), name=f"child-{index}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopping.set()
            children = list(self._children.values())
        os.close(self._write_end)
        for child in children:
            try:
                child.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
        for thread in self._threads:
            thread.join()
        os.close(self._read_end)

    def _keep_alive(self, index: int, command: list[str]) -> None:
        while not self._stopping.is_set():
            try:
                child = self._start(index, command)
            except OSError as error:
                # For example, the machine has no memory for a process at this moment.
                _log.error("child_process_not_started", command=command[0], error=str(error))
            else:
                if child is None:
                    return
                code = child.wait()
                if self._stopping.is_set():
                    return
                _log.error("child_process_died", command=command[0], exit_code=code)
            self._stopping.wait(RESTART_PAUSE_S)

    def _start(self, index: int, command: list[str]) -> subprocess.Popen[bytes] | None:
        """Start the child process number `index`, and return it; None if the `with` block has ended."""
        with self._lock:
            if self._stopping.is_set():
                return None
            child = subprocess.Popen(  # noqa: S603 our own interpreter and command line
                [sys.executable, "-m", "relab", *command, PARENT_PIPE_OPTION, str(self._read_end)],
                pass_fds=[self._read_end],
                stdin=subprocess.DEVNULL,
            )
            self._children[index] = child
            return child


def stop_with_parent(read_end: int, stop: threading.Event) -> None:
    """Start a thread that sets `stop` when the parent process has ended or has closed its end of a pipe.

    `read_end` is the file descriptor of the read end of the pipe. Only the parent process holds the write end, so the
    pipe closes when the parent ends.
    """

    def wait() -> None:
        os.read(read_end, 1)
        stop.set()

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
