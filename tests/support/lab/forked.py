"""Child processes that share one loading of the libraries: `rig.children.child` without the start of an interpreter."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rig.children import Child
from support.lab.preloaded import Command

_STOP_TIMEOUT_S = 60.0


class ForkedChild:
    """A module that runs in a forked process; its standard input and output are pipes."""

    def __init__(self, command: Command, stdin: IO[str], stdout: IO[str]) -> None:
        self.stdin, self.stdout = stdin, stdout
        self.args, self.pid = command.args, command.pid
        self.poll, self.kill, self.send_signal = command.poll, command.kill, command.send_signal
        self._command = command

    def terminate(self) -> None:
        """Send SIGTERM, unless the process has ended."""
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process ends and return its exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: the process has not ended within `timeout` seconds, by default 60.
        """
        return self._command.wait(_STOP_TIMEOUT_S if timeout is None else timeout)


@contextmanager
def forked(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run `python -m module` in a forked process while the block runs, then kill it."""
    their_input, ours_to_write = os.pipe()
    ours_to_read, their_output = os.pipe()
    with ExitStack() as ours:
        stdin = ours.enter_context(os.fdopen(ours_to_write, "w", encoding="utf-8"))
        stdout = ours.enter_context(os.fdopen(ours_to_read, encoding="utf-8"))
        with (
            os.fdopen(their_input, "rb") as source,
            os.fdopen(their_output, "wb") as out,
            os.fdopen(os.dup(2), "wb") as err,
        ):
            command = Command(
                arguments,
                environment={**os.environ, **(environment or {})},
                cwd=Path.cwd(),
                streams=(source, out, err),
                module=module,
                strict=False,
            )
        try:
            yield ForkedChild(command, stdin, stdout)
        finally:
            command.kill()
            command.wait(_STOP_TIMEOUT_S)
