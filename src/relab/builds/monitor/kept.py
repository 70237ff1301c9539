"""Measure and remove the files (caches, workspaces) that builds keep for later builds of the same project.

The total size of these files has a limit.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.builds.models import KeptFiles
from relab.builds.monitor.workspace import LOCK, try_lock
from relab.core.logging import get_logger
from relab.experiments.sandbox.stale_processes import end_stale_processes
from relab.experiments.workspace.untrusted_trees import remove_tree, use_of_disk

_USE: Final = "kept.json"
_REMOVED: Final = ".removed-"
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    root: Path
    size_bytes: int
    used_us: int


class KeptFolders:
    """The folders in which builds keep files (caches, workspaces) for later builds, one folder per project.

    Args:
        home: the folder that contains the folders of all projects.
        limit_bytes: the disk space that all folders together may use.
    """

    def __init__(self, home: Path, limit_bytes: int) -> None:
        self._home = home
        self.limit_bytes = limit_bytes

    def note_use(self, root: Path, now_us: int) -> None:
        """Store the size of a project's folder and the time of its last use, in a file in the folder.

        The caller holds the lock of the folder.

        Args:
            root: the path of the folder.
            now_us: the time of the use, in microseconds since 1970.
        """
        # Measuring all folders after each build would take too long.
        size_bytes, _ = use_of_disk(root)
        with contextlib.suppress(OSError):
            (root / _USE).write_text(json.dumps({"bytes": size_bytes, "used_us": now_us}))

    def total(self, *, unused_since_us: int = 0) -> KeptFiles:
        """Return how many files (caches, workspaces) are kept, and how many of them `enforce` would remove.

        Both are given as a number of projects and a size in bytes. Nothing is removed. The second number also includes
        projects that are being built; `enforce` skips these projects.

        Args:
            unused_since_us: `enforce` would also remove the files of projects whose last use was before this time, in
                microseconds since 1970. With 0, the last use has no effect.
        """
        found = self._folders()
        due = self._take_due(found, unused_since_us)
        return KeptFiles(len(found), _size(found), len(due), _size(due))

    def enforce(self, *, unused_since_us: int = 0) -> KeptFiles:
        """Remove the kept files of projects, the least recently used first, until the rest is within the limit.

        A project that is being built is skipped; the rest may then exceed the limit. Return how many files were removed
        and how many remain, each as a number of projects and a size in bytes.

        Args:
            unused_since_us: also remove the files of projects whose last use was before this time, in microseconds
                since 1970. With 0, the last use has no effect.
        """
        found = self._folders()
        removed = self._take_due(found, unused_since_us, lambda folder: self._remove(folder.root))
        self._delete_removed()
        left = [folder for folder in found if folder not in removed]
        return KeptFiles(len(left), _size(left), len(removed), _size(removed))

    def _take_due(
        self, found: Sequence[_Kept], unused_since_us: int, take: Callable[[_Kept], bool] = lambda _folder: True
    ) -> list[_Kept]:
        """Return the folders to remove, the least recently used first, until the rest is within the limit.

        `take` removes a folder. If it returns False, the folder keeps its space, and the next one is taken as well.
        """
        left, taken = _size(found), []
        for folder in sorted(found, key=lambda each: each.used_us):
            if (folder.used_us < unused_since_us or left > self.limit_bytes) and take(folder):
                taken.append(folder)
                left -= folder.size_bytes
        return taken

    def _folders(self) -> list[_Kept]:
        """Return the folder of each project that has kept files (caches, workspaces).

        A folder that contains only its lock file is left out.
        """
        if not self._home.is_dir():
            return []
        found = []
        for root in sorted(self._home.iterdir()):
            with contextlib.suppress(OSError):
                if (root / LOCK).is_file() and any(each.name != LOCK for each in root.iterdir()):
                    found.append(_read(root))
        return found

    def _remove(self, root: Path) -> bool:
        """Move a project's kept files (caches, workspaces) into a folder for removal; return whether they were moved.

        If a build uses the project's folder, nothing is moved. If an error occurs, it is logged, and the result is
        False.
        """
        try:
            with try_lock(root) as is_ours:
                if not is_ours:
                    return False
                # Processes that a killed build left could still write here.
                end_stale_processes(root)
                removed = self._home / f"{_REMOVED}{uuid.uuid4().hex}"
                removed.mkdir()
                for entry in list(root.iterdir()):
                    if entry.name != LOCK:
                        # The lock is held only for the move; `_delete_removed` deletes the files later, which takes
                        # longer.
                        entry.rename(removed / entry.name)
        except OSError as error:
            _log.warning("kept files of builds cannot be removed", folder=str(root), error=str(error))
            return False
        return True

    def _delete_removed(self) -> None:
        """Delete all kept files that this or an earlier process has moved into folders for removal. Log each error."""
        if not self._home.is_dir():
            return
        for removed in self._home.glob(f"{_REMOVED}*"):
            try:
                remove_tree(removed)
            except OSError as error:
                # Another process may delete the same files at the same time.
                if removed.exists():
                    _log.warning("kept files of builds cannot be removed", folder=str(removed), error=str(error))


def _read(root: Path) -> _Kept:
    """Return a project's folder with its size and the time of its last use.

    Both values are from the file that `note_use` wrote in the folder. Without a readable file, the size is measured,
    and the time is the modification time of the folder.
    """
    try:
        use = json.loads((root / _USE).read_text())
        return _Kept(root, int(use["bytes"]), int(use["used_us"]))
    except (OSError, ValueError, TypeError, KeyError):
        size_bytes, _ = use_of_disk(root)
        return _Kept(root, size_bytes, int(root.stat().st_mtime * 1_000_000))


def _size(folders: Sequence[_Kept]) -> int:
    return sum(folder.size_bytes for folder in folders)
