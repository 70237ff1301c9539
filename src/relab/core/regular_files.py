"""Open files that a user names: regular files and pipes of the shell, so that no command waits for a named pipe."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular_file(path: Path, *, allow_pipe: bool = True) -> BinaryIO:
    """Open a regular file for reading bytes; a symbolic link is followed.

    Opening a named pipe could wait for ever, and a device may have no end.

    Args:
        path: the file.
        allow_pipe: whether an open pipe without a name is read too: `<(command)` of a shell, or `/dev/stdin` after `|`.
            It can be read only once.

    Raises:
        OSError: the file does not exist, cannot be read, is a folder, or is not a regular file.
    """
    # Without this flag, opening a named pipe waits until another process opens it for writing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    if allow_pipe and stat.S_ISFIFO(mode) and str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:"):
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file, or of a pipe of the shell.

    Raises:
        OSError: as `open_regular_file`.
    """
    with open_regular_file(path) as file:
        return file.read()
