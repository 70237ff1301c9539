"""The files of an attempt change hands: given to the trial's user before it, taken back and made harmless after it.

A trial chooses the names, links and permissions in its folders. So no path is followed here: a folder is opened from the
folder above it, never through a link, and every other entry is named by its folder's file descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.protocol import Folders, Launch, SandboxError
from relab.experiments.sandbox.trial_user import TrialUser

_PRIVILEGED_BITS: Final = stat.S_ISUID | stat.S_ISGID
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IS_LINUX: Final = hasattr(os, "O_PATH")

Visitor = Callable[[str, int, os.stat_result], None]
"""Gets the name of an entry, the descriptor of the folder that it is in, and its status."""


def written_folders(folders: Folders) -> list[Path]:
    """Return the folders that a trial writes, each once."""
    return list(dict.fromkeys((folders.workspace, folders.state, folders.out, folders.tmp, folders.home)))


def make_mountpoints(launch: Launch) -> None:
    """Make the places below the workspace where further folders and files are mounted.

    Else the Docker Engine makes them, and they are root's.

    Raises:
        SandboxError: a link is on the way, which a harness may have made for the next trial; or there is no room.
    """
    for place, source in launch.mounts.items():
        inside = place.removeprefix("/workspace/")
        if inside == place:
            continue
        path = launch.folders.workspace
        parts = inside.split("/")
        try:
            for index, part in enumerate(parts):
                path /= part
                if part == ".." or path.is_symlink():
                    raise SandboxError(f"{place} cannot be mounted: {path} is a link")
                if index == len(parts) - 1 and not source.is_dir():
                    path.touch()
                else:
                    path.mkdir(exist_ok=True)
        except OSError as error:
            raise SandboxError(f"{place} cannot be mounted: {error.filename}: {error.strerror}") from error


def give(folders: Folders, user: TrialUser) -> None:
    """Give everything in the folders that a trial writes to its user, if that is not the user of this process.

    Raises:
        SandboxError: a file cannot be given.
    """
    if user.is_runner:
        return

    def visit(name: str, parent: int, status: os.stat_result) -> None:
        _own(name, parent, status, user.uid, user.gid)

    _visit_all(written_folders(folders), visit, f"cannot be given to user {user.uid}")


def lend(folder: Path, user: TrialUser) -> None:
    """Give those files of a folder to a trial's user that it could not read otherwise.

    Args:
        folder: a private copy, which the trial sees read-only.
        user: of the trial.

    Raises:
        SandboxError: a file cannot be given.
    """
    if user.is_runner:
        return

    def visit(name: str, parent: int, status: os.stat_result) -> None:
        needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
        if status.st_mode & needed != needed and not stat.S_ISLNK(status.st_mode):
            _own(name, parent, status, user.uid, user.gid)

    _visit_all([folder], visit, f"cannot be made readable for user {user.uid}")


def reclaim(launch: Launch) -> None:
    """Make what an attempt has left the runner's own and harmless; every process of the attempt has ended.

    Set-user-ID and set-group-ID bits go, so do devices, pipes and sockets, and foreign owners. Symbolic links stay:
    they are data, and the runner follows none.

    Raises:
        SandboxError: a file cannot be taken back.
    """
    _visit_all(written_folders(launch.folders), _make_harmless, "cannot be taken back")
    for path in (launch.stdout, launch.stderr):
        # A trial that runs as the runner's own user can change the permissions of its open output files.
        with contextlib.suppress(FileNotFoundError):
            parent = os.open(path.parent, _FOLDER)
            try:
                _make_harmless(path.name, parent, os.stat(path.name, dir_fd=parent, follow_symlinks=False))
            finally:
                os.close(parent)


def _make_harmless(name: str, parent: int, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
        os.unlink(name, dir_fd=parent)
        return
    if kind != stat.S_IFLNK and status.st_mode & _PRIVILEGED_BITS:
        if kind == stat.S_IFREG and status.st_nlink > 1:
            # Without walls the other name may be a program of this machine, which keeps its permissions.
            os.unlink(name, dir_fd=parent)
            return
        # Before the file is ours: a program with our own identity must never exist.
        _set_mode(name, parent, stat.S_IMODE(status.st_mode) & ~_PRIVILEGED_BITS)
    _own(name, parent, status, os.getuid(), os.getgid() if status.st_uid != os.getuid() else status.st_gid)


def _own(name: str, parent: int, status: os.stat_result, uid: int, gid: int) -> None:
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)


def _set_mode(name: str, parent: int, mode: int) -> None:
    """Change the permissions of an entry that is no link, and of nothing that a link in its place leads to."""
    if not _IS_LINUX:
        os.chmod(name, mode, dir_fd=parent, follow_symlinks=False)
        return
    entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISLNK(os.fstat(entry).st_mode):
            os.chmod(f"/proc/self/fd/{entry}", mode)  # noqa: PTH101 Linux changes an entry by descriptor only so
    finally:
        os.close(entry)


def _visit_all(folders: Iterable[Path], visit: Visitor, failure: str) -> None:
    for folder in folders:
        try:
            _visit(folder, visit)
        except OSError as error:
            raise SandboxError(f"{folder}: {error.filename or 'a file'} {failure}: {error.strerror}") from error


def _visit(root: Path, visit: Visitor) -> None:
    """Visit a folder and everything below it; a link in the folder's place, or nothing there, is left alone.

    One folder is open at a time, as trees may be deeper than a process may have open files.
    """
    try:
        parent = os.open(root.parent, _FOLDER)
    except FileNotFoundError:
        return
    try:
        current = _enter(root.name, parent, visit)
    finally:
        os.close(parent)
    if current is None:
        return
    ways_up: list[tuple[int, int]] = []
    waiting: list[list[str]] = []
    try:
        waiting.append(_visit_entries(current, visit))
        while True:
            if waiting[-1]:
                inner = _enter(waiting[-1].pop(), current, visit)
                if inner is None:
                    continue
                status = os.fstat(current)
                ways_up.append((status.st_dev, status.st_ino))
                os.close(current)
                current = inner
                waiting.append(_visit_entries(current, visit))
            else:
                waiting.pop()
                if not waiting:
                    return
                above = os.open("..", _FOLDER, dir_fd=current)
                os.close(current)
                current = above
                status = os.fstat(current)
                if (status.st_dev, status.st_ino) != ways_up.pop():
                    raise OSError(errno.ESTALE, "A folder was moved meanwhile", str(root))
    finally:
        os.close(current)


def _visit_entries(folder: int, visit: Visitor) -> list[str]:
    """Visit the entries of a folder that are not folders; return the names of those that are."""
    inner = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                inner.append(entry.name)
            else:
                visit(entry.name, folder, entry.stat(follow_symlinks=False))
    return inner


def _enter(name: str, parent: int, visit: Visitor) -> int | None:
    """Visit a folder and open it; None if it is no folder any more."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return None
        visit(name, parent, status)
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            # The trial may have taken the permissions of its own folder away.
            _set_mode(name, parent, stat.S_IMODE(status.st_mode) & 0o777 | 0o700)
            return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return None
