"""Replace files atomically: a reader sees the old or the new file, never a part. Synchronize folders to the disk."""

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
    """Write `content` to a new file, then replace the file at `path` with it.

    Several processes may replace the same file at once. The new content is not synchronized to the disk, so a power
    failure may lose it.

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
    """Yield a path where the `with` block must create a new file, which then replaces the file at `path`.

    After an error in the block, the new file is deleted and the old file stays. Several threads and processes may
    replace the same file at once.

    Args:
        path: the file; its folder must exist.
        durable: whether the new file is first synchronized to the disk, to survive a power failure.

    Raises:
        OSError: the block wrote no new file, or the new file cannot replace the old one.
    """
    # Use only the end of the name, because a long name with a prefix could exceed the limit of 255 bytes.
    # The name begins with a dot, because a process that is killed in the block leaves this file.
    fresh = path.with_name(f".{secrets.token_hex(4)}.{path.name[-_KEPT_NAME_CHARS:]}")
    try:
        yield fresh
        if durable:
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def synchronize_tree(folder: Path) -> None:
    """Synchronize a folder with all its files to the disk, so that a power failure after this call loses none of them.

    Raises:
        OSError: a file cannot be read or written to the disk.
    """
    for path, _, names in os.walk(folder):
        for name in names:
            if not (file := Path(path, name)).is_symlink():
                _synchronize(file)
        _synchronize(Path(path))


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: OSError) -> bool:
    """Return whether an operation failed because the disk is full, or because the user's disk quota is used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
