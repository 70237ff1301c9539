"""The folders of a project's builds (snapshots, workspace, cache), and the lock that admits one build at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from relab.builds.errors import BuildFolderError, ProjectBusyError
from relab.builds.monitor.build_file import BuildProject
from relab.experiments.sandbox.protocol import Folders
from relab.experiments.workspace.kept_snapshots import keep_snapshot
from relab.experiments.workspace.snapshots import ProjectSnapshot, clone
from relab.experiments.workspace.untrusted_trees import remove_tree, walk

LOCK: Final = "lock"
"""The name of the file in a project's folder that a process locks while it builds the project.

It contains the name of the host on which the project was first built in this folder."""
_KEY_LENGTH: Final = 16
_LOCK_WAIT_S: Final = 0.5
"""Longer than it takes to move kept files away, so that their removal never makes a build fail."""
_LOCK_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class BuildFolder:
    """The folder on this machine in which relab builds one project.

    Attributes:
        root: the path of the folder.
        key: the name of the folder. The sandboxes of its builds have this key in their names.
    """

    root: Path
    key: str

    @property
    def identity(self) -> str:
        """A digest of the host's name and the path of the folder; each process of this host computes the same.

        The name is that of the first build in the folder, because a host may get another name: a container has a new
        one whenever it is made anew.
        """
        return _digest(_first_host(self.root) or socket.gethostname(), self.root.absolute())

    @property
    def log(self) -> Path:
        """The file with the output of the running build; if no build runs, of the last build."""
        return self.root / "build.log"

    @property
    def snapshots(self) -> Path:
        """The folder that contains the read-only copies (snapshots) of the project's files."""
        return self.root / "cache-of-snapshots"

    def folders(self, snapshot: ProjectSnapshot, *, keeps_cache: bool) -> Folders:
        """Return the paths of the folders that the sandbox of one build uses; no folder is created.

        Each sandbox has a folder `harness` and a folder `dataset`. For a build, both are the snapshot.

        Args:
            snapshot: the read-only copy of the project's files.
            keeps_cache: True: the cache folder is the one that stays between builds. False: it is a temporary folder.
        """
        work = self.root / "attempt"
        cache = self.root / "cache" if keeps_cache else work / "cache"
        return Folders(
            workspace=self.root / "workspace",
            state=cache,
            out=work / "out",
            tmp=work / "tmp",
            home=work / "tmp",
            harness=snapshot.root,
            dataset=snapshot.root,
        )

    def prepare(self, snapshot: ProjectSnapshot, *, keeps_cache: bool, incremental: bool) -> Folders:
        """Create the folders of one build, with the project's current files in the workspace; return the paths.

        Args:
            snapshot: the project's files.
            keeps_cache: True: the cache folder has the content that earlier builds left. False: it is empty.
            incremental: True: the files that the last build created stay in the workspace. False: they are deleted.

        Raises:
            OSError: the disk is full, or a file cannot be written.
        """
        folders = self.folders(snapshot, keeps_cache=keeps_cache)
        remove_tree(self.root / "attempt")
        # A build whose sandbox cannot start writes no log, and must not get that of the last build.
        self.log.unlink(missing_ok=True)
        earlier = self.root / "earlier"
        remove_tree(earlier)
        copied = self._take_copied()
        if folders.workspace.is_dir() and not folders.workspace.is_symlink():
            folders.workspace.rename(earlier)
        else:
            remove_tree(folders.workspace)
        clone(snapshot.copier, folders.workspace)
        if incremental and copied is not None and earlier.is_dir():
            _move_created(earlier, folders.workspace, copied)
        remove_tree(earlier)
        self._copied.write_text(json.dumps(sorted(snapshot.manifest.files)))
        for folder in (folders.state, folders.out, folders.tmp):
            folder.mkdir(parents=True, exist_ok=True)
        return folders

    @property
    def _copied(self) -> Path:
        return self.root / "copied.json"

    def _take_copied(self) -> set[str] | None:
        """Read and delete the file that lists the project files in the workspace; return the paths of these files.

        None if the file with the list is missing or damaged.
        """
        try:
            return set(json.loads(self._copied.read_text()))
        except (FileNotFoundError, ValueError):
            # For example, the process that made the workspace was killed; created files then cannot be told from copied
            # ones.
            return None
        finally:
            self._copied.unlink(missing_ok=True)

    def release(self) -> None:
        """Delete the temporary files of the last build; the workspace, the kept cache and the log stay.

        The lock of the folder is not released.
        """
        remove_tree(self.root / "attempt")


@contextmanager
def locked_folder(home: Path, project: BuildProject) -> Iterator[BuildFolder]:
    """Create the folder in which a project is built, lock it, and yield it. The lock is released after the block.

    Args:
        home: the folder that contains the folders of all projects.
        project: the project.

    Raises:
        ProjectBusyError: another process builds the project.
        BuildFolderError: the folder cannot be created or locked.
    """
    key = _digest(project.file.name, project.root)[:_KEY_LENGTH]
    root = home / key
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(try_lock(root, wait_s=_LOCK_WAIT_S))
            if is_ours and not _first_host(root):
                (root / LOCK).write_text(socket.gethostname())
        except OSError as error:
            raise BuildFolderError(f"{root} cannot be used: {error.strerror}.", remedy="Check RELAB_HOME.") from error
        if not is_ours:
            raise ProjectBusyError(
                f"Another process builds {project.file.name} in {project.root}.", remedy="Wait until it has ended."
            )
        yield BuildFolder(root, key)


@contextmanager
def try_lock(root: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Try to lock a project's folder; yield whether this call got the lock. The lock is released after the block.

    Args:
        root: the folder.
        wait_s: the longest time to wait for the lock, in seconds.

    Raises:
        OSError: the lock file cannot be opened.
    """
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not (is_ours := _locked(descriptor)) and time.monotonic() < deadline:
            time.sleep(_LOCK_POLL_S)
        yield is_ours
    finally:
        os.close(descriptor)


def _first_host(root: Path) -> str:
    """Return the name of the host on which a project was first built in a folder; empty if it is unknown."""
    try:
        return (root / LOCK).read_text(errors="replace")
    except OSError:
        # The file is missing, or belongs to another user. Without access to it, the folder cannot be locked either.
        return ""


def _digest(name: str, path: Path) -> str:
    # The bytes of the path, because a path need not be valid text.
    return hashlib.sha256(name.encode() + b"\0" + os.fsencode(path)).hexdigest()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def snapshot_of(project: BuildProject, folder: BuildFolder) -> ProjectSnapshot:
    """Return a read-only copy (snapshot) of the project's current files, in the folder of its builds.

    It replaces the snapshot of the last build; only files that have changed since then are copied again.

    Raises:
        ExperimentInvalidError: a pattern in `ignore` of the build file is invalid, a file cannot be read, or a file
            changed during the copying.
        RunDiskFullError: the disk is full.
    """
    return keep_snapshot(project.root, folder.snapshots, project.file.ignore)


def _move_created(earlier: Path, workspace: Path, copied: Collection[str]) -> None:
    """Move the files that the last build created into the workspace of the next build; the files keep their times.

    Symbolic links are moved, never followed. Nothing in the new workspace is replaced.

    Args:
        earlier: the workspace of the last build; it is not trusted.
        workspace: the new workspace, with the project's current files.
        copied: the paths of project files in the earlier workspace; they are not moved.
    """
    top = os.path.realpath(workspace)
    folders = {str(parent) for path in copied for parent in PurePosixPath(path).parents}
    for entry in walk(earlier):
        path = os.path.relpath(entry.path, earlier)
        is_folder = entry.is_dir(follow_symlinks=False)
        # A copied file that the new workspace lacks was deleted from the project.
        if path in copied or (is_folder and path in folders):
            continue
        target = workspace / path
        # A link of the project where the build had made a folder would lead out of the workspace.
        leads_out = os.path.realpath(target.parent) != os.path.normpath(f"{top}/{os.path.dirname(path)}")  # noqa: PTH120
        if leads_out or os.path.lexists(target) or not _make_folder(target if is_folder else target.parent):
            continue
        if not is_folder:
            os.rename(entry.path, target)  # noqa: PTH104 the entry's path is text


def _make_folder(folder: Path) -> bool:
    """Create a folder and its parents, where missing; return False if a file is in the place of one of them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return False
    return True
