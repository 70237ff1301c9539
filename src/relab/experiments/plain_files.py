"""Files that runner and harness both reach: no link is followed, no pipe waited for, and few system calls are made.

A harness chooses the names and links in its folders, so a reader names the folder `below` which nothing is trusted. Every
folder between it and the file is opened from the one above it and never through a link.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

_PIECE: Final = 1_048_576
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Only to open what is in it, which works without the permission to list it.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def read_plain(path: Path, limit: int, *, below: Path) -> bytes | None:
    """Return the content of a file; None if it is absent, no regular file, behind a link, or larger than the limit."""
    descriptor = _open(path, below)
    if descriptor is None:
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


def open_plain(path: Path, *, below: Path) -> BinaryIO | None:
    """Return a file to read; None if it is absent, behind a link, or a link, a pipe or a folder itself."""
    descriptor = _open(path, below)
    if descriptor is None:
        return None
    # A folder can be opened, but not as a file of Python's.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def digest_plain(path: Path, *, below: Path) -> str | None:
    """Return the SHA-256 of a file's content, in hex; None as `open_plain` does."""
    descriptor = _open(path, below)
    if descriptor is None:
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


def stands(path: Path, *, below: Path) -> bool:
    """Return whether anything, a link included, has this name or takes the place of a folder on the way to it."""
    parts = path.relative_to(below).parts
    try:
        with _folder_of(parts, below) as folder:
            os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


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


def _open(path: Path, below: Path) -> int | None:
    """Open a file to read; None if that is not possible without a link. A pipe is opened without waiting for its writer."""
    # A damaged record may name any path.
    parts = path.relative_to(below).parts if path.is_relative_to(below) else ()
    if not parts:
        return None
    try:
        with _folder_of(parts, below) as folder:
            # A link would make a file of this machine the trial's.
            return os.open(parts[-1], _READ, dir_fd=folder)
    except OSError:
        return None


@contextmanager
def _folder_of(parts: tuple[str, ...], below: Path) -> Iterator[int]:
    """Open the folder that holds the last of these names.

    Raises:
        OSError: a folder on the way is absent, or is a link or a file; or a name leads back (`..`).
    """
    folder = os.open(below, _FOLDER)
    try:
        for part in parts[:-1]:
            if part == "..":
                raise OSError(errno.ELOOP, "The path leads back", str(below.joinpath(*parts)))
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
