"""Append complete lines to the target's files: a failure leaves no partial line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from relab.testbed.target.errors import StorageError


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file that only this process writes.

    Args:
        path: the path of the file, which is created if it does not exist.
        line: the line with its line end.

    Raises:
        StorageError: the line cannot be written; the file is unchanged.
    """
    try:
        # Operators may delete the file, so open it anew each time.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            written = os.write(descriptor, line)
            if written < len(line):
                # Only a part was written; remove it, so that it does not become part of the next line.
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise StorageError(f"{name}: {error.strerror}: {path}") from error
