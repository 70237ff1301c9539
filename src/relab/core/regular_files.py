"""Open files whose path a user gives. Named pipes and devices without an end are rejected."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular_file(path: Path, *, allow_pipe: bool = True) -> BinaryIO:
    """Open a regular file for reading bytes. Symbolic links are followed.

    The null device is accepted as an empty file. Other devices are rejected, because their data may have no end. Named
    pipes are rejected, because opening one may wait for ever.

    Args:
        path: the path of the file.
        allow_pipe: whether to accept a terminal, too, and an unnamed pipe of a shell (`<(command)`, or `/dev/stdin`
            after `|`). Such input can be read only once.

    Raises:
        OSError: the file does not exist, cannot be read, or is of a kind that is not accepted, such as a folder.
    """
    # Without this flag, opening a named pipe waits until another process opens it for writing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    mode = status.st_mode
    if stat.S_ISREG(mode) or _is_null_device(status):
        return os.fdopen(descriptor, "rb")
    if allow_pipe and (os.isatty(descriptor) or _is_unnamed_pipe(descriptor, mode)):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _is_null_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev


def _is_unnamed_pipe(descriptor: int, mode: int) -> bool:
    return stat.S_ISFIFO(mode) and str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:")


def read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file, or of a pipe or terminal that `open_regular_file` accepts.

    Raises:
        OSError: the file does not exist, cannot be read, or is of a kind that is not accepted, such as a folder.
    """
    with open_regular_file(path) as file:
        return file.read()
