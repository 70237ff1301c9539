"""Read and write files that a harness can also change: follow no links, do not block on pipes, use few system calls.

The parameter `below` is a folder above the file. Links in the path to this folder are followed. A harness controls the
names and links inside the folder, so each folder between it and the file is opened from its parent with O_NOFOLLOW.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# O_PATH is enough to open entries of a folder, and works without the permission to list it.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def read_plain(path: Path, limit: int, *, below: Path) -> bytes | None:
    """Return the content of a file; None if it cannot be opened, is not a regular file, or exceeds `limit` bytes.

    `below` is a folder above the file. The result is also None if the path contains a link after this folder.
    """
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
        # A process is writing to the file, or it is larger than one read returns.
        pieces = [data]
        while data and sum(map(len, pieces)) <= limit:
            data = os.read(descriptor, limit + 1)
            pieces.append(data)
    finally:
        os.close(descriptor)
    found = b"".join(pieces)
    return found if len(found) <= limit else None


def open_plain(path: Path, *, below: Path) -> BufferedReader | None:
    """Open a file for reading; return None if it is missing, is not a regular file, or cannot be opened.

    `below` is a folder above the file. The result is also None if the path contains a link after this folder.
    """
    descriptor = _open(path, below)
    if descriptor is None:
        return None
    # `os.open` succeeds for a folder, but `os.fdopen` does not.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def digest_plain(path: Path, *, below: Path) -> str | None:
    """Return the SHA-256 of a file, in hexadecimal; None if it cannot be opened or is not a regular file.

    `below` is a folder above the file. The result is also None if the path contains a link after this folder.
    """
    file = open_plain(path, below=below)
    if file is None:
        return None
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_exists(path: Path, *, below: Path) -> bool:
    """Return whether a file, a folder or a link exists at the path; True if this cannot be checked.

    It cannot be checked, for example, if a folder between the folder `below` and the path is a link.
    """
    try:
        return status_plain(path, below=below) is not None
    except OSError:
        return True


def status_plain(path: Path, *, below: Path) -> os.stat_result | None:
    """Return the status (stat) of a file, a folder or a link itself; None if the path does not exist.

    `below` is a folder above the path. Links in the path after this folder are not followed.

    Raises:
        OSError: a folder between `below` and the path is a link or cannot be opened, or the path is invalid.
    """
    parts = path.relative_to(below).parts
    try:
        with _folder_of(parts, below) as folder:
            return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def write_new(path: str | os.PathLike[str], data: bytes) -> None:
    """Create a file and write to it.

    Raises:
        FileExistsError: the path exists, possibly as a link.
        OSError: the file cannot be written, for example on a full disk.
    """
    _write_closing(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), data)


def write_own(path: Path, data: bytes) -> None:
    """Create a file, replacing an existing file or link; the target of a link is not changed.

    Raises:
        OSError: the file cannot be written, for example on a full disk, or the path is a folder.
    """
    try:
        write_new(path, data)
    except FileExistsError:
        path.unlink()
        write_new(path, data)


def replace_plain(path: Path, data: bytes, *, below: Path) -> None:
    """Create or replace a file atomically: a reader sees the old content or the new content, never a part.

    `below` is a folder above the file. Links in the path after this folder are not followed. If the path itself is a
    link, the file replaces it.

    Raises:
        OSError: a parent folder is missing or is a link, or the file cannot be written.
    """
    parts = path.relative_to(below).parts
    fresh = f".{secrets.token_hex(4)}.{parts[-1]}"
    with _folder_of(parts, below) as folder:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            _write_closing(descriptor, data)
            os.rename(fresh, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(fresh, dir_fd=folder)
            raise


def _write_closing(descriptor: int, data: bytes) -> None:
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all data to a file descriptor, with as many system calls as necessary.

    Raises:
        OSError: writing failed, for example on a full disk.
    """
    done = 0
    while done < len(data):
        done += os.write(descriptor, data[done:] if done else data)


def _open(path: Path, below: Path) -> int | None:
    """Open a file for reading; return its descriptor, or None if that fails.

    Links after the folder `below` are not followed. If the file is a pipe, the call does not wait for a writer.
    """
    # A damaged record may contain a path outside of `below`.
    parts = _parts(path, below)
    if not parts:
        return None
    try:
        with _folder_of(parts, below) as folder:
            # Opened with O_NOFOLLOW, because a link could lead to any file of this machine.
            return os.open(parts[-1], _READ, dir_fd=folder)
    except OSError:
        return None


def _parts(path: Path, below: Path) -> tuple[str, ...]:
    """Return the parts of a path after those of the folder `below`; empty if the path is not below the folder."""
    # Text is five times as fast as path objects, and each trial needs it a dozen times.
    whole, top = str(path), f"{below}/"
    if whole.startswith(top):
        return tuple(whole[len(top) :].split("/"))
    return path.relative_to(below).parts if path.is_relative_to(below) else ()


@contextmanager
def _folder_of(parts: tuple[str, ...], below: Path) -> Iterator[int]:
    """Yield a descriptor of the parent folder of a path; `parts` are the path's components below the folder `below`.

    Raises:
        OSError: a parent folder is missing, is a link or a file, or is `..`.
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
