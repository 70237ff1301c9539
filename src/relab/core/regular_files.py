"""Open files that a user names: only regular files, so that no read waits for a writer."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes; a symbolic link is followed.

    Opening a named pipe could wait for ever, and a device may have no end.

    Raises:
        OSError: the file does not exist, cannot be read, is a folder, or is not a regular file.
    """
    # Without this flag, opening a named pipe waits until another process opens it for writing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: as `open_regular_file`.
    """
    with open_regular_file(path) as file:
        return file.read()
