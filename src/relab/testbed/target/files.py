"""Writing to files of the target: whole, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from relab.testbed.target.errors import StorageError


def replace_file(path: Path, content: bytes) -> None:
    """Put a new file in the place of another; readers see the old one or the new one.

    Raises:
        OSError: there is no room, or no right to write; the old file stays.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file that only this process writes; opened anew, since an operator may have removed it.

    Raises:
        StorageError: it cannot be written; the file is as before.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            written = os.write(descriptor, line)
            if written < len(line):
                # The disk took a part of it; the rest would be another line.
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise StorageError(f"{name}: {error.strerror}: {path}") from error
