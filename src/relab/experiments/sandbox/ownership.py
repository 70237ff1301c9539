"""Change the owner of an attempt's files: before the attempt to the trial's user, afterwards back to the runner's user.

A trial chooses the names, links and permissions in its folders. So this module follows no links: it opens each folder
from its parent with O_NOFOLLOW, and addresses every other entry by its name and the file descriptor of its folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.protocol import Folders, Launch, SandboxError
from relab.experiments.sandbox.trial_user import TrialUser

_PRIVILEGED_BITS: Final = stat.S_ISUID | stat.S_ISGID
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IS_LINUX: Final = hasattr(os, "O_PATH")

Visitor = Callable[[str, int, os.stat_result], None]
"""Is called with the name of an entry, the file descriptor of its folder, and its status."""


def written_folders(folders: Folders) -> list[Path]:
    """Return the folders that a trial writes, without duplicates."""
    return list(dict.fromkeys((folders.workspace, folders.state, folders.out, folders.tmp, folders.home)))


def make_mountpoints(launch: Launch) -> None:
    """Create the mount points in the workspace for the folders and files that `launch.mounts` lists.

    Raises:
        SandboxError: a mount point cannot be created, or a part of its path is a link.
    """
    # The Docker Engine would create missing mount points itself, owned by root. Links may be from an earlier trial.
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
    """Change the owner of the folders that a trial writes, and of everything in them, to the trial's user.

    Nothing is done if the trial's user is the user of this process.

    Raises:
        SandboxError: the owner of a file cannot be changed.
    """
    if user.is_runner:
        return

    def visit(name: str, parent: int, status: os.stat_result) -> None:
        _own(name, parent, status, user.uid, user.gid)

    _visit_all(written_folders(folders), visit, f"cannot be given to user {user.uid}")


class SharedFolders:
    """Prepares the folders of attempts for the user that trials run as. Thread-safe.

    All trials of a run share some folders, which each trial must be able to read. These are changed only once, with
    `lend`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lent: set[Path] = set()

    def prepare(self, launch: Launch, user: TrialUser) -> None:
        """Let the trials' user read the shared folders and own the folders that it writes; create the mount points.

        The shared folders are the project's snapshot and the folder of the data set.

        Raises:
            SandboxError: the owner of a file cannot be changed, or a mount point cannot be created.
        """
        folders = launch.folders
        with self._lock:
            for folder in {folders.harness, folders.dataset} - self._lent:
                lend(folder, user)
                self._lent.add(folder)
        make_mountpoints(launch)
        give(folders, user)


def lend(folder: Path, user: TrialUser) -> None:
    """Let the trial's user read a folder and everything below it.

    The user becomes the owner of the files and folders that not every user may read. The others are not changed.

    Args:
        folder: a copy that belongs to the run, and that the sandbox mounts read-only for the trial.
        user: the trial's user. If it is the user of this process, nothing is changed.

    Raises:
        SandboxError: the owner of a file cannot be changed.
    """
    if user.is_runner:
        return

    def visit(name: str, parent: int, status: os.stat_result) -> None:
        needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
        if status.st_mode & needed != needed and not stat.S_ISLNK(status.st_mode):
            _own(name, parent, status, user.uid, user.gid)

    _visit_all([folder], visit, f"cannot be made readable for user {user.uid}")


def reclaim(launch: Launch) -> None:
    """Change the owner of an attempt's files back to the runner's user. All processes of the attempt must have ended.

    Set-user-ID and set-group-ID bits are cleared; a file with these bits and several hard links is deleted. Devices,
    pipes and sockets are deleted, too. Symbolic links stay.

    Raises:
        SandboxError: a file in a folder cannot be changed.
        OSError: a file with the harness's output (stdout, stderr) cannot be changed.
    """
    _visit_all(written_folders(launch.folders), _make_harmless, "cannot be taken back")
    for path in (launch.stdout, launch.stderr):
        # A trial that runs as the runner's user can change the permissions of its open output files.
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
            # In a sandbox without isolation the other hard link may be a program of this machine, which must keep its mode.
            os.unlink(name, dir_fd=parent)
            return
        # Clear the bits before the change of owner, so that no set-user-ID program of the runner's user ever exists.
        _set_mode(name, parent, stat.S_IMODE(status.st_mode) & ~_PRIVILEGED_BITS)
    _own(name, parent, status, os.getuid(), os.getgid() if status.st_uid != os.getuid() else status.st_gid)


def _own(name: str, parent: int, status: os.stat_result, uid: int, gid: int) -> None:
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)


def _set_mode(name: str, parent: int, mode: int) -> None:
    """Set the permissions of the file or folder `name` in the open folder `parent` to `mode`; do nothing for a link."""
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
    """Call `visit` for a folder and everything below it; do nothing if the folder is missing or a link.

    Raises:
        OSError: an entry cannot be read, or a folder was moved during the call.
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
    # Only one folder is open at a time, because a tree may be deeper than the limit of open files.
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
    """Call `visit` for each entry of a folder except its subfolders; return the names of the subfolders.

    `folder` is the folder's file descriptor.
    """
    inner = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                inner.append(entry.name)
            else:
                visit(entry.name, folder, entry.stat(follow_symlinks=False))
    return inner


def _enter(name: str, parent: int, visit: Visitor) -> int | None:
    """Call `visit` for a folder, and open the folder; return its descriptor.

    Return None if the folder does not exist, or is a link or a file. `name` is its name, and `parent` the descriptor of
    the folder that contains it.
    """
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return None
        visit(name, parent, status)
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            # The trial may have removed the permissions of its own folder.
            _set_mode(name, parent, stat.S_IMODE(status.st_mode) & 0o777 | 0o700)
            return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return None
