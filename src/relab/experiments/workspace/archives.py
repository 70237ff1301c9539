"""Move file trees between machines: pack a tree that a harness left, and unpack an archive without trusting it.

An archive is a tar stream with folders, regular files and symbolic links. Pipes, sockets and devices are left out: they
have no content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from relab.experiments.errors import ArchiveInvalidError
from relab.experiments.workspace.untrusted_files import open_plain, write_all
from relab.experiments.workspace.untrusted_trees import allow_owner, check_holes, walk

CHUNK_BYTES: Final = 16 * 1_048_576
"""The size of a chunk of an archive: what a sender and a receiver hold in memory."""
MAX_ENTRIES: Final = 1_000_000
_MAX_PATH: Final = 4_095
"""The longest path that the kernel accepts, in bytes."""
_PIECE: Final = 1_048_576
_KINDS: Final = (tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE)


def pack(root: Path, folder: Path, *, left_out: Collection[str] = (), only: str | None = None) -> Iterator[bytes]:
    """Yield the chunks (at least one) of an archive of everything below a folder.

    Args:
        root: the folder to pack. No link in it is followed.
        folder: a folder for temporary files.
        left_out: paths of files below `root` that are not packed.
        only: the path below `root` of the only file or folder to pack; None for everything.

    Raises:
        OSError: a file cannot be read, or the disk is full.
    """
    with SpooledTemporaryFile(max_size=CHUNK_BYTES, dir=str(folder)) as spool:
        # PAX headers keep file names that are not valid UTF-8.
        with tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
            _add_tree(archive, root, left_out, only)
        spool.seek(0)
        yield spool.read(CHUNK_BYTES)
        while chunk := spool.read(CHUNK_BYTES):
            yield chunk


def unpack(chunks: Iterable[bytes], root: Path, *, max_bytes: int, last: str | None = None) -> None:
    """Unpack an archive into a folder; nothing outside of the folder is written, whatever the archive contains.

    Args:
        chunks: the bytes of the archive, in pieces.
        root: the folder, created if missing. No other process may write into its subfolders.
        max_bytes: the largest total size of the files, in bytes. The archive may have 512 MB more, for its headers.
        last: the name of a file in `root` that marks a complete result: it appears after all other files, with its
            whole content. None if no file is a mark.

    Raises:
        ArchiveInvalidError: the archive is damaged, too large, or has an invalid path or entry. A part may have been
            unpacked.
        OSError: the disk is full, or permission is missing.
    """
    most = max_bytes + MAX_ENTRIES * tarfile.BLOCKSIZE
    with SpooledTemporaryFile(max_size=CHUNK_BYTES, dir=str(root.parent)) as spool:
        for chunk in chunks:
            spool.write(chunk)
            if spool.tell() > most:
                raise ArchiveInvalidError(f"The archive has more than {most:,} bytes.")
        spool.seek(0)
        try:
            _unpack(spool, root, max_bytes, last)
        except (tarfile.TarError, UnicodeError, ValueError, OverflowError) as error:
            raise ArchiveInvalidError(f"The archive is damaged: {error}") from error
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}:
                raise ArchiveInvalidError(f"The archive has an invalid path: {error.strerror}") from error
            raise


def remove_changed(workspace: Path, paths: Iterable[str], known: Collection[str]) -> None:
    """Delete some files from a copy of the project, and the folders that are empty afterwards.

    The files are those that an earlier trial changed or deleted. Afterwards, the archive with its changed files can be
    unpacked into the copy; unpacking never replaces a file.

    Args:
        workspace: the copy.
        paths: the files to delete, as paths below the copy.
        known: the paths of all files of the copy.

    Raises:
        ArchiveInvalidError: a path is not in `known`.
        FileNotFoundError: a file is missing, for example because `paths` has it twice.
    """
    for name in paths:
        if name not in known:
            raise ArchiveInvalidError(f"A change of {name[:200]!r} is reported, which is not in the snapshot.")
        path = workspace / name
        path.unlink()
        for parent in path.parents:
            if parent == workspace or any(parent.iterdir()):
                break
            parent.rmdir()


def _add_tree(archive: tarfile.TarFile, root: Path, left_out: Collection[str], only: str | None) -> None:
    top = f"{root}/"
    if only is not None and not (root / only).is_dir():
        with contextlib.suppress(FileNotFoundError):
            _add(archive, root, str(root / only), only, (root / only).lstat())
        return
    for entry in walk(root if only is None else root / only):
        name = entry.path.removeprefix(top)
        if name not in left_out:
            _add(archive, root, entry.path, name, entry.stat(follow_symlinks=False))


def _add(archive: tarfile.TarFile, root: Path, path: str, name: str, status: os.stat_result) -> None:
    member = tarfile.TarInfo(name)
    # No set-user-ID, and the owner can read and delete the copy.
    member.mode = status.st_mode & 0o777 | stat.S_IRUSR | stat.S_IWUSR
    member.mtime, member.uid, member.gid = _tar_time(status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115 paths are text here
        archive.addfile(member)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        check_holes(Path(path), status)
        if status.st_mode & 0o600 != 0o600:
            allow_owner(Path(path))
        _add_file(archive, member, Path(path), root)


def _add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    file = open_plain(path, below=root)
    if file is None:
        return
    with file:
        member.size = os.fstat(file.fileno()).st_size
        archive.addfile(member, file)


def _tar_time(time_ns: int) -> tuple[int, int, int]:
    """Split a time into the fields `(mtime, uid, gid)` of an archive's entry.

    `mtime` gets the seconds, `uid` the microseconds, and `gid` the remaining nanoseconds. `uid` and `gid` are free for
    this, because an archive does not keep the owners of files.
    """
    # Owners are not kept, and a fraction in `mtime` would need a second header, which doubles the time.
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return seconds, *divmod(rest, 1_000)


def _time_ns(member: tarfile.TarInfo) -> int:
    """Return the modification time of an archive's entry in nanoseconds since 1970: the inverse of `_tar_time`."""
    return int(member.mtime) * 1_000_000_000 + member.uid * 1_000 + member.gid


def _unpack(spool: IO[bytes], root: Path, max_bytes: int, last: str | None) -> None:
    root.mkdir(parents=True, exist_ok=True)
    links: list[tuple[str, str]] = []
    held: tuple[str, str] | None = None
    top = str(root)
    folders = {top}
    total = 0
    with tarfile.open(fileobj=spool, mode="r:", errors="surrogateescape") as archive:
        for number, member in enumerate(archive):
            # The entry of a sparse file does not contain the file as it is.
            if number >= MAX_ENTRIES or member.type not in _KINDS or member.issparse():
                raise ArchiveInvalidError("The archive has too many entries, or an entry that is not a file.")
            path = f"{top}/{_checked(member.name)}"
            _make_folder(path.rpartition("/")[0], folders)
            if member.isdir():
                _make_folder(path, folders)
                continue
            if member.issym():
                links.append((path, member.linkname))
                continue
            total += member.size
            if total > max_bytes:
                raise ArchiveInvalidError(f"The files of the archive have more than {max_bytes:,} bytes.")
            if member.name == last:
                held = f"{top}/.{member.name}.new", path
            _write(spool, member, held[0] if member.name == last and held is not None else path)
    for path, target in links:
        os.symlink(target, path)  # noqa: PTH211 paths are text here
    if held is not None:
        os.rename(*held)  # noqa: PTH104 as above


def _checked(name: str) -> str:
    if (
        len(os.fsencode(name)) > _MAX_PATH
        or not name
        or name.startswith("/")
        or "\0" in name
        or any(part in {"", ".", ".."} for part in name.split("/"))
    ):
        raise ArchiveInvalidError(f"The archive has the invalid path {name[:200]!r}.")
    return name


def _make_folder(path: str, folders: set[str]) -> None:
    """Create a folder and its missing parents, and add them to `folders`, the folders that are known to exist.

    Raises:
        FileExistsError: one of the paths is a link or a file.
    """
    missing = []
    while path not in folders:
        missing.append(path)
        path = path.rpartition("/")[0]
    for folder in reversed(missing):
        try:
            os.mkdir(folder)  # noqa: PTH102 as above
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                raise
        folders.add(folder)


def _write(spool: IO[bytes], member: tarfile.TarInfo, path: str) -> None:
    """Create the file `path`, and write the content of an archive's entry to it.

    Args:
        spool: the whole archive.
        member: the entry; its content begins at `offset_data` in the archive.
        path: the path of the new file.

    Raises:
        ArchiveInvalidError: the archive ends within the file.
        OSError: the path exists, or the file cannot be written.
    """
    spool.seek(member.offset_data)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        left = member.size
        while left:
            piece = spool.read(min(left, _PIECE))
            if not piece:
                raise ArchiveInvalidError("The archive is damaged: it ends within a file.")
            write_all(descriptor, piece)
            left -= len(piece)
        os.fchmod(descriptor, member.mode & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
        time_ns = _time_ns(member)
        os.utime(descriptor, ns=(time_ns, time_ns))
    finally:
        os.close(descriptor)
