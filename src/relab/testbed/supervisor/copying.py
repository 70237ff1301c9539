"""Copy folders fast: share blocks if the file system supports it (reflink), else copy in the kernel."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from relab.testbed.supervisor.process import Owner

_FICLONE: Final = 0x40049409
"""Request number of the ioctl that shares blocks between files, from ioctl_ficlone(2)."""
_PIECE: Final = 1 << 26


def copy_tree(source: Path, target: Path, *, owner: Owner | None = None) -> None:
    """Copy a folder with its content and permissions.

    Args:
        source: the folder to copy.
        target: the path of the copy, which must not exist.
        owner: the owner of the copy; None for this process's user.

    Raises:
        OSError: the disk is full, or an entry is neither a file, a folder nor a symbolic link.
    """
    _Copy(owner).folder(source, target)


def remove_tree(path: Path) -> None:
    """Remove a folder with its content, or a file; do not fail if it is already gone.

    If another process removes a part of the folder at the same time, the removal may end early and leave the rest.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


class _Copy:
    """Copies files as clones, which share disk blocks; if the file system cannot clone, the kernel copies the bytes."""

    def __init__(self, owner: Owner | None) -> None:
        self._owner = owner
        self._shares = True

    def folder(self, source: Path, target: Path) -> None:
        target.mkdir(mode=0o700)
        with os.scandir(source) as entries:
            for entry in entries:
                there = target / entry.name
                if entry.is_symlink():
                    there.symlink_to(Path(entry.path).readlink())
                elif entry.is_dir():
                    self.folder(Path(entry.path), there)
                else:
                    self._file(entry, there)
        target.chmod(source.stat().st_mode & 0o7777)
        self._give(target)

    def _file(self, entry: os.DirEntry[str], there: Path) -> None:
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "neither a file, a folder nor a symbolic link", entry.path)
        reading = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            writing = os.open(there, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                if not self._shared(reading, writing):
                    _copy_bytes(reading, writing)
                os.fchmod(writing, status.st_mode & 0o7777)
                if self._owner is not None:
                    os.fchown(writing, self._owner.uid, self._owner.gid)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _shared(self, reading: int, writing: int) -> bool:
        if self._shares:
            try:
                fcntl.ioctl(writing, _FICLONE, reading)
            except OSError:
                self._shares = False
        return self._shares

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)


def _copy_bytes(reading: int, writing: int) -> None:
    try:
        while os.copy_file_range(reading, writing, _PIECE):
            pass
    except OSError:
        # Older kernels reject this across file systems; start the copy of this file again.
        os.lseek(reading, 0, os.SEEK_SET)
        os.lseek(writing, 0, os.SEEK_SET)
        os.ftruncate(writing, 0)
        while os.sendfile(writing, reading, None, _PIECE):
            pass
