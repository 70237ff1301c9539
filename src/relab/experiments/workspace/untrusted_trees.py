"""Walk, measure and delete folders that a harness left: of any depth, with any permissions, links and sparse files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

MAX_HOLES: Final = 4 * 1_073_741_824
"""The largest total of the holes in one file, in bytes.

Holes take no disk space, but reading them takes as long as reading data.
"""

_SMALL_HOLES: Final = 65_536
"""Holes up to this size in bytes are ignored: on some file systems compressed and inlined files seem to have holes."""
_LONG_PATH: Final = 3_000
"""The length in bytes above which a path counts as long; the kernel accepts 4,095, and a name has up to 255."""


def walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries below a folder, each folder before its contents; links are not followed.

    The caller may change the contents of a folder during the iteration. Unreadable folders are made readable.

    Raises:
        OSError: a folder still cannot be read, for example because its path is too long.
    """
    stack = [str(root)]
    while stack:
        for entry in _listed(stack.pop()):
            # Checked before the yield, because the caller may rename the entry.
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            yield entry


def make_accessible(root: Path) -> None:
    """Give the owner read and write permission for all files below a folder, and full permission for the folders.

    Raises:
        OSError: an entry lacks permission, and belongs to another user.
    """
    for entry in walk(root):
        if entry.is_file(follow_symlinks=False):
            allow_owner(Path(entry.path))


def allow_owner(path: Path) -> None:
    """Give the owner of a file read and write permission.

    Raises:
        OSError: the file lacks permission, and belongs to another user.
    """
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & 0o600 != 0o600:
        path.chmod(mode | 0o600)


def check_holes(path: Path, status: os.stat_result) -> None:
    """Check that a sparse file has at most `MAX_HOLES` bytes of holes (ranges without stored data, read as zeros).

    `status` is the file's status (stat).

    Raises:
        OSError: the file has more holes, so reading it would take too long.
    """
    if status.st_size - status.st_blocks * 512 > MAX_HOLES:
        raise OSError(errno.EFBIG, "The file has more holes than can be read", str(path))


def remove_tree(root: Path) -> None:
    """Delete a folder of any depth and with any permissions; do nothing if the folder does not exist.

    If the path is a link or a file, only the link or the file is deleted, not the target of the link.

    Raises:
        OSError: an entry cannot be deleted.
    """
    try:
        mode = root.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        root.unlink()
        return
    folders = []
    stack = [str(root)]
    while stack:
        folder = stack.pop()
        if len(os.fsencode(folder)) > _LONG_PATH:
            # Move the folder up, because the paths below it would be too long for the kernel.
            higher = str(root / uuid.uuid4().hex)
            os.rename(folder, higher)  # noqa: PTH104 paths are text here: there may be very many
            folder = higher
        folders.append(folder)
        for entry in _listed(folder):
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108 as above
    for folder in reversed(folders):
        os.rmdir(folder)  # noqa: PTH106 as above


def use_of_disk(*roots: Path) -> tuple[int, int]:
    """Return `(bytes that all files below these folders use on the disk, size of the largest file)`.

    Files that are deleted during the call, and folders that cannot be read, are not counted.
    """
    used = _used(*roots)
    return used.on_disk, used.largest


def size_of_copy(*roots: Path) -> tuple[int, int]:
    """Return `(bytes that a copy of these folders needs at most, size of the largest file)`.

    The copy may store the holes of sparse files as zeros. Files that are deleted during the call, and folders
    that cannot be read, are not counted.
    """
    used = _used(*roots)
    return used.copied, used.largest


def remove_hollow_files(*roots: Path) -> int:
    """Delete files that consist mostly of holes (ranges without disk space); return the number of deleted files.

    A file is deleted if its holes take more bytes than its data. Up to `_SMALL_HOLES` bytes of holes are ignored.

    Raises:
        OSError: a file cannot be deleted.
    """
    count = 0
    for root in roots:
        if not root.is_dir() or root.is_symlink():
            continue
        for entry in walk(root):
            if entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if status.st_size - status.st_blocks * 512 > max(status.st_blocks * 512, _SMALL_HOLES):
                    os.unlink(entry.path)  # noqa: PTH108 paths are text here
                    count += 1
    return count


class _Used(NamedTuple):
    on_disk: int
    copied: int
    largest: int


def _used(*roots: Path) -> _Used:
    total = copied = largest = 0
    for root in roots:
        stack = [str(root)]
        while stack:
            with contextlib.suppress(OSError), os.scandir(stack.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                        else:
                            status = entry.stat(follow_symlinks=False)
                            total += status.st_blocks * 512
                            copied += max(status.st_blocks * 512, status.st_size)
                            largest = max(largest, status.st_size)
    return _Used(total, copied, largest)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    mode = os.lstat(folder).st_mode
    if mode & 0o700 != 0o700 and stat.S_ISDIR(mode):
        with contextlib.suppress(PermissionError):
            os.chmod(folder, stat.S_IMODE(mode) | 0o700)  # noqa: PTH101 paths are text here
    with os.scandir(folder) as entries:
        return list(entries)
