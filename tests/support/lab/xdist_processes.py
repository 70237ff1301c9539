"""The processes of pytest-xdist as forks of the one process that has loaded the libraries (`preloaded.py`).

pytest-xdist starts a Python interpreter for each of them. Here that is a small program, which requests the fork, gives it its
own standard streams and stays until it ends: pytest-xdist sees the process that it expects.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from support.lab.preloaded import Command, share, start_server

_PROGRAM = "import sys; sys.path.insert(0, {tests!r}); from support.lab.xdist_processes import main; main()"


def fork_processes(specs: list[Any]) -> str:
    """Have pytest-xdist start these processes as forks of a new process; return the path of that one's socket."""
    path = start_server()
    program = _PROGRAM.format(tests=str(Path(__file__).parents[2]))
    for spec in specs:
        if spec.popen and not spec.python:
            spec.python = shlex.join([sys.executable, "-c", program, path])
    return path


def main() -> None:
    """Run the code that is the last argument in a forked process with the standard streams of this one."""
    # An interrupt from the keyboard reaches the forked process too, which is in the same group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share(sys.argv[1])
    command = Command(
        sys.argv[2:],
        environment=os.environ,
        cwd=Path.cwd(),
        streams=(sys.stdin, sys.stdout, sys.stderr),
        module="-c",
        strict=False,
        group=os.getpgrp(),
    )
    code = command.wait(within_s=None)
    sys.exit(code if code >= 0 else 128 - code)
