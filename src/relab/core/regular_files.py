"""Open files that a user names: regular files, and what the shell gives in place of one, but no named pipes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular_file(path: Path, *, allow_pipe: bool = True) -> BinaryIO:
    """Open a regular file, or the null device as an empty one, for reading bytes; a symbolic link is followed.

    Opening a named pipe could wait for ever, and other devices may have no end.

    Args:
        path: the file.
        allow_pipe: whether input that can be read only once is read too: an open pipe without a name (`<(command)` of a
            shell, or `/dev/stdin` after `|`), or the process's terminal.

    Raises:
        OSError: the file does not exist, cannot be read, is a folder, or is not a regular file.
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
    """Return the content of a regular file, or of a pipe of the shell.

    Raises:
        OSError: as `open_regular_file`.
    """
    with open_regular_file(path) as file:
        return file.read()
