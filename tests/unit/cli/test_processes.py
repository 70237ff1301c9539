"""Child processes of a command: they are restarted, also after a start that failed."""

from __future__ import annotations

import errno
import subprocess
import threading
from typing import Any

import pytest

from relab.cli import processes
from relab.cli.processes import ChildProcesses


def test_start_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may have no memory for a process at the moment when a child is restarted."""
    starts: list[list[str]] = []
    is_running = threading.Event()

    class Child:
        """A process that runs until its parent stops."""

        def __init__(self, command: list[str], **_options: Any) -> None:
            starts.append(command)
            if len(starts) == 1:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            is_running.set()
            self._ended = threading.Event()

        def wait(self, timeout_s: float | None = None) -> int:
            if timeout_s is None:
                self._ended.wait()
            self._ended.set()
            return 0

    monkeypatch.setattr(subprocess, "Popen", Child)
    monkeypatch.setattr(processes, "RESTART_PAUSE_S", 0.0)

    with ChildProcesses([["worker"]]):
        assert is_running.wait(10)

    assert len(starts) == 2
