"""Replace files atomically: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_KEPT_NAME_CHARS: Final = 60


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `content` to a new file beside the old one, then let it replace the old one.

    Several processes may do so at once. The file survives a crash of the process, but not always a power failure:
    nothing is synchronized to the disk.

    Args:
        path: the path of the file; its folder must exist.
        content: the whole new content.
        mode: permissions of the new file, reduced by the process's umask.

    Raises:
        OSError: the disk is full, or permission is denied; the old file stays.
    """
    with replacing(path) as fresh:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a new file that the `with` block writes; after the block it replaces the file at `path`.

    After an error in the block the new file is deleted, and the old file stays; a process that is killed in the block
    leaves the new file, whose name begins with a dot. Several threads and processes may replace the same file at the
    same time.

    Args:
        path: the file; its folder must exist.
        durable: whether the new file is synchronized to the disk first, so that it also survives a power failure.

    Raises:
        OSError: the new file was not written, or cannot replace the old one.
    """
    # The end of the name, because with the whole one a long name would exceed the limit of 255 bytes.
    fresh = path.with_name(f".{secrets.token_hex(4)}.{path.name[-_KEPT_NAME_CHARS:]}")
    try:
        yield fresh
        if durable:
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def is_disk_full(error: OSError) -> bool:
    """Return whether an operation failed because its disk, or the user's quota of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
