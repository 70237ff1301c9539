"""Replace files atomically: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file beside the old one, then put it in its place; several processes may do so at the same time.

    The file survives a crash of the process, but not always a power failure: nothing is synchronized to the disk.

    Args:
        path: of the file; its folder must exist.
        content: the whole new content.
        mode: permissions of the new file, reduced by the process's umask.

    Raises:
        OSError: the disk is full, or permission is denied; the old file stays.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
