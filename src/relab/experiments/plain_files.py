"""Files that runner and harness both reach: no link is followed, no pipe waited for, and few system calls are made."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

_PIECE: Final = 1_048_576


def read_plain(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """Return the content of a file; None if it is none, a link, or larger than the limit."""
    try:
        # A link would make a file of this machine the trial's, and a pipe would hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        data = os.read(descriptor, status.st_size + 1)
        if len(data) == status.st_size:
            return data
        # Somebody writes to it, or it is larger than the kernel gives at once.
        pieces = [data]
        while data and sum(map(len, pieces)) <= limit:
            data = os.read(descriptor, limit + 1)
            pieces.append(data)
    finally:
        os.close(descriptor)
    found = b"".join(pieces)
    return found if len(found) <= limit else None


def open_plain(path: str | os.PathLike[str]) -> BinaryIO | None:
    """Return a file to read; None if there is none, or it is a link, a pipe or a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    # A folder can be opened, but not as a file of Python's.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def digest_plain(path: str | os.PathLike[str]) -> str | None:
    """Return the SHA-256 of a file's content, in hex; None if there is none, or it is a link, a pipe or a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        digest = hashlib.sha256()
        while piece := os.read(descriptor, _PIECE):
            digest.update(piece)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def write_new(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that is not there yet.

    Raises:
        FileExistsError: something is there, if only a link.
        OSError: there is no room.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def write_own(path: Path, data: bytes) -> None:
    """Write a file in the place of whatever is there; where a link is there, what it leads to stays as it is.

    Raises:
        OSError: there is no room, or a folder is there.
    """
    try:
        write_new(path, data)
    except FileExistsError:
        path.unlink()
        write_new(path, data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: there is no room.
    """
    done = 0
    while done < len(data):
        done += os.write(descriptor, data[done:] if done else data)
