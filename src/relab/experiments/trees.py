"""Trees of files that a harness has left: as deep as it liked, with any permissions, perhaps with links and holes."""

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
"""Of one file, in bytes. Holes take no room on the disk, but reading them takes as long as reading what is there."""

_SMALL_HOLES: Final = 65_536
"""In bytes: compressed and inlined files of some file systems look as if they had holes."""
_LONG_PATH: Final = 3_000
"""In bytes; the kernel takes 4,095, and a name has up to 255."""


def walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what is below a folder, each folder before what is in it; links are not followed.

    A folder is listed whole before anything of it is yielded, so that what is in it may be changed meanwhile. A
    folder that its owner may not read is made readable.

    Raises:
        OSError: a folder cannot be read all the same; its path may be too long.
    """
    stack = [str(root)]
    while stack:
        for entry in _listed(stack.pop()):
            # Before it is yielded: it may get another name then.
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)
            yield entry


def make_accessible(root: Path) -> None:
    """Let the owner read and write everything below a folder, and the folder.

    Raises:
        OSError: something is another user's.
    """
    for entry in walk(root):
        if entry.is_file(follow_symlinks=False):
            allow_owner(Path(entry.path))


def allow_owner(path: Path) -> None:
    """Let the owner of a file read and write it.

    Raises:
        OSError: it is another user's.
    """
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & 0o600 != 0o600:
        path.chmod(mode | 0o600)


def check_holes(path: Path, status: os.stat_result) -> None:
    """Return if a file can be read in a time that goes with the room it takes.

    Raises:
        OSError: it is almost nothing but holes.
    """
    if status.st_size - status.st_blocks * 512 > MAX_HOLES:
        raise OSError(errno.EFBIG, "The file has more holes than can be read", str(path))


def remove_tree(root: Path) -> None:
    """Delete a folder, whatever a harness has made of its permissions and however deep it is.

    A link in its place is deleted, and nothing of what it leads to.

    Raises:
        OSError: something in it cannot be deleted.
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
            # What lies deeper has no path that the kernel would take.
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
    """Return the bytes that files below these folders take on the disk, and the size of the largest file.

    What vanishes meanwhile is not counted.
    """
    used = _used(*roots)
    return used.on_disk, used.largest


def size_of_copy(*roots: Path) -> tuple[int, int]:
    """Return the bytes that a copy of these folders may take, and the size of the largest file.

    A file counts with its size, holes included, or with what it takes on the disk if that is more. What vanishes
    meanwhile is not counted.
    """
    used = _used(*roots)
    return used.copied, used.largest


def remove_hollow_files(*roots: Path) -> int:
    """Delete the files below these folders that have more holes than data; return how many there were.

    Raises:
        OSError: one cannot be deleted.
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
