"""Copy one folder many times: with reflinks if the file system has them, else with few system calls.

This module uses `os` functions and paths as text, because Python's file and path objects took most of the time of a
copy.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final, NamedTuple

from relab.experiments.workspace.manifests import FileEntry, FileManifest
from relab.experiments.workspace.untrusted_files import write_all

MAX_REMEMBERED_BYTES: Final = 32 * 1_048_576
"""The largest total size of a folder's small files that are cached in memory."""
_SMALL_BYTES: Final = 131_072
"""The largest size of a small file: for these a reflink saves nothing, and their content is cached in memory."""
_FICLONE = 0x40049409
_CHUNK = 1_048_576
_NO_REFLINK = frozenset((errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.ETXTBSY))
# On other systems sendfile writes only to sockets.
_CAN_SENDFILE = os.uname().sysname == "Linux"


class FileStamp(NamedTuple):
    """The fields of a file's status (stat) that are compared to detect a change of the file."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class _Content(NamedTuple):
    data: bytes
    times_ns: tuple[int, int]


def seen_of(status: os.stat_result) -> FileStamp:
    """Return the stamp of a file, from its status (stat): the fields that are compared to detect a change of the file."""
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class TreeCopier:
    """Copies one folder, which must not change while this object is used; thread-safe.

    Args:
        root: the folder.
        manifest: the files in it.
        remembers: whether to cache the content of small files, for many copies.
    """

    def __init__(self, root: Path, manifest: FileManifest, *, remembers: bool = False) -> None:
        self.root = root
        self.manifest = manifest
        self._contents: dict[str, _Content] = {}
        self._room = MAX_REMEMBERED_BYTES if remembers else 0
        self._reflinks = True
        self._folders = _folders_of(manifest)

    def copy(self, target: Path) -> dict[str, FileStamp]:
        """Copy all files of the manifest; return `{path: stamp of the copy}`.

        The stamp has the size, the times and the inode of the copy, which show later changes.

        Args:
            target: the new folder; it must not exist.

        Raises:
            OSError: the disk is full, or a file cannot be read or written.
        """
        seen: dict[str, FileStamp] = {}
        source, top = str(self.root), str(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(top)  # noqa: PTH102 paths are text here, as the module says
        for folder in self._folders:
            os.mkdir(f"{top}/{folder}")  # noqa: PTH102
        for path, entry in self.manifest.files.items():
            new = f"{top}/{path}"
            if entry.mode < 0:
                os.symlink(os.readlink(f"{source}/{path}"), new)  # noqa: PTH115, PTH211
                seen[path] = seen_of(os.lstat(new))
            else:
                seen[path] = seen_of(self._copy_file(f"{source}/{path}", new, entry))
        return seen

    def _copy_file(self, old: str, new: str, entry: FileEntry) -> os.stat_result:
        content = self._contents.get(entry.path)
        if content is None and entry.size <= _SMALL_BYTES:
            content = self._read(old, entry)
        if content is None:
            return self._copy_large(old, new, entry.mode)
        target = _create(new, entry.mode)
        try:
            write_all(target, content.data)
            return _finish(target, entry.mode, content.times_ns)
        finally:
            os.close(target)

    def _read(self, old: str, entry: FileEntry) -> _Content:
        source = os.open(old, os.O_RDONLY)
        try:
            status = os.fstat(source)
            pieces = []
            while piece := os.read(source, _CHUNK):
                pieces.append(piece)
        finally:
            os.close(source)
        content = _Content(b"".join(pieces), (status.st_atime_ns, status.st_mtime_ns))
        if len(content.data) <= self._room:
            self._room -= len(content.data)
            self._contents[entry.path] = content
        return content

    def _copy_large(self, old: str, new: str, mode: int) -> os.stat_result:
        source = os.open(old, os.O_RDONLY)
        try:
            target = _create(new, mode)
            try:
                if not self._reflink(source, target):
                    _copy_bytes(source, target)
                status = os.fstat(source)
                return _finish(target, mode, (status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _reflink(self, source: int, target: int) -> bool:
        if not self._reflinks:
            return False
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in _NO_REFLINK:
                raise
            self._reflinks = False
            return False
        return True


def _folders_of(manifest: FileManifest) -> list[str]:
    """Return the folders that contain the files of a manifest, each after its parent."""
    found: dict[str, None] = {}
    for path in manifest.files:
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            found.setdefault("/".join(parts[:count]))
    return list(found)


def _create(path: str, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o777)


def _finish(target: int, mode: int, times_ns: tuple[int, int]) -> os.stat_result:
    status = os.fstat(target)
    # The umask may have cleared bits of the mode, and only fchmod sets special bits.
    if status.st_mode & 0o7777 != mode:
        os.fchmod(target, mode)
    # Build tools rebuild files with newer times, so the copy keeps the original times.
    os.utime(target, ns=times_ns)
    return os.fstat(target)


def _copy_bytes(source: int, target: int) -> None:
    while os.sendfile(target, source, None, _CHUNK) if _CAN_SENDFILE else _copy_chunk(source, target):
        pass


def _copy_chunk(source: int, target: int) -> int:
    chunk = os.read(source, _CHUNK)
    write_all(target, chunk)
    return len(chunk)
