"""Check the standard streams of a command, and replace those that are missing or closed."""

from __future__ import annotations

import fcntl
import os
import select
import sys


def replace_missing_streams() -> None:
    """Open the null device for each standard stream that the command was started without (`lab … <&- >&- 2>&-`).

    Otherwise the next file or socket that the process opens would get the file descriptor of the missing stream.

    - stdin is then empty.
    - Text that is written to stderr is lost.
    - Writing to stdout fails with EBADF, so that a command cannot succeed although its result is lost.
    """
    for name, access in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode, encoding="utf-8"))


def is_stdout_readonly() -> bool:
    """Return whether stdout is open for reading only, so that writing fails.

    `replace_missing_streams` opens stdout in this way if the command was started without it (`>&-`).
    """
    try:
        return fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except (OSError, ValueError):
        return False


def discard_stdout() -> None:
    """Redirect stdout to the null device after a failed write; otherwise Python fails again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_stdout_closed() -> bool:
    """Return whether stdout is a pipe whose reader has closed it."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
