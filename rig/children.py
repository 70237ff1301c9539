"""Python processes that a test starts, exchanges lines of text with, and may kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Protocol


class Child(Protocol):
    """A child process with text pipes: the part of `subprocess.Popen[str]` that tests use."""

    args: Any
    pid: int
    stdin: IO[str] | None
    stdout: IO[str] | None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended and return its exit code, negative for a signal."""

    def kill(self) -> None:
        """Kill the process with SIGKILL."""


@contextmanager
def child(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run `python -m module` while the block runs, and kill it at the end; its standard input and output are pipes.

    Args:
        module: the name of the module.
        arguments: of the program.
        environment: variables in addition to those of this process.
    """
    # The child can import all modules that this process can import, however this one was started.
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: Child) -> str:
    """Wait for the next line that the process writes to its standard output, and return it without its line end.

    Raises:
        AssertionError: the process has ended without another line.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the process ended with exit code {process.wait()}: {process.args!r}"
    return line.rstrip("\n")


def send_line(process: Child, line: str = "go") -> None:
    """Write a line to the standard input of the process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
