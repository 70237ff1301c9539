"""Keep one snapshot of a project up to date: only files that changed since the last snapshot are read and copied again.

A file counts as unchanged if it still has its recorded stamp (size, times, inode), as in git's index. The index is a
file beside the snapshot; it has the stamps of the project's files and of their copies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from relab.experiments.workspace.copier import FileStamp, TreeCopier, seen_of
from relab.experiments.workspace.manifests import FileEntry, FileManifest
from relab.experiments.workspace.snapshots import (
    ProjectSnapshot,
    check_copy,
    copy_error,
    file_entry,
    ignore_spec,
    read_error,
    snapshot_folder,
    walk_files,
)
from relab.experiments.workspace.untrusted_trees import remove_tree

Known: TypeAlias = dict[str, tuple[FileStamp, FileEntry]]
"""`{path: (stamp, entry)}`: a file that still has the stamp still has the content of the entry."""

_INDEX: Final = "snapshot-index.json"
_FORMAT: Final = 1
_TICK_NS: Final = 50_000_000
"""Longer than a tick of the clock of file systems. A file that changes twice within a tick may keep its stamp."""
_COARSE_TICK_NS: Final = 2_100_000_000
"""The same for file systems whose stamps are whole seconds; those of FAT are even seconds."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ROW: Final = (int, int, int, int, str, int, int)
"""The types of a row of the index: the fields of `FileStamp`, then digest, size and mode."""


@dataclass
class _Index:
    digest: str = ""
    project: Known = field(default_factory=dict)
    copies: Known = field(default_factory=dict)


def keep_snapshot(
    root: Path, folder: Path, ignore: Iterable[str] = (), *, now_ns: Callable[[], int] = time.time_ns
) -> ProjectSnapshot:
    """Return a snapshot of the project's current files, which replaces the earlier snapshot in the same folder.

    If a process has changed a file in the earlier snapshot, this file is copied from the project again.

    Args:
        root: the folder of the project.
        folder: the folder for the snapshot and its index; no other process may use it during the call.
        ignore: patterns as in .gitignore, in addition to `.lab` and `.git`.
        now_ns: returns the time of the clock that file systems use for files, in nanoseconds since 1970.

    Raises:
        ExperimentInvalidError: a pattern is invalid, a file cannot be read, or a file changed during the copying.
        RunDiskFullError: the disk is full.
        OSError: the folder cannot be read, or an old file in it cannot be deleted.
    """
    spec = ignore_spec(ignore)
    index = _read_index(folder)
    # If this process is killed below, the next call finds no index, and copies everything anew.
    (folder / _INDEX).unlink(missing_ok=True)
    started_ns = now_ns()
    try:
        project = dict(_entries(walk_files(root, spec), index.project))
    except OSError as error:
        raise read_error(error) from error
    manifest = FileManifest({path: entry for path, (_, entry) in project.items()})
    target = snapshot_folder(folder, manifest.digest)
    building = target.with_name(uuid.uuid4().hex)
    try:
        if index.digest and (old := snapshot_folder(folder, index.digest)).is_dir() and not old.is_symlink():
            old.rename(building)
        copies, checked_ns = _update(root, building, project, index.copies, now_ns)
        remove_tree(target)
        building.rename(target)
    except OSError as error:
        raise copy_error(error, root) from error
    finally:
        for other in target.parent.iterdir() if target.parent.is_dir() else ():
            if other != target:
                remove_tree(other)
    # `started_ns` precedes all reads of the project's files, and `checked_ns` all reads of the new copies.
    _write_index(folder, manifest.digest, _settled(project, started_ns), _settled(copies, checked_ns))
    return ProjectSnapshot(target, manifest)


def _entries(
    found: Iterator[tuple[str, os.DirEntry[str]]], known: Known
) -> Iterator[tuple[str, tuple[FileStamp, FileEntry]]]:
    """Yield the path, stamp and entry of each file; only a file without a known stamp is read."""
    for path, each in found:
        status = each.stat(follow_symlinks=False)
        stamp = seen_of(status)
        earlier = known.get(path)
        if earlier is not None and earlier[0] == stamp:
            yield path, earlier
        else:
            yield path, (stamp, file_entry(path, Path(each.path), status))


def _update(root: Path, building: Path, project: Known, known: Known, now_ns: Callable[[], int]) -> tuple[Known, int]:
    """Make the folder `building` contain copies of exactly the files of a project.

    Args:
        root: the folder of the project.
        building: the folder to change: the earlier snapshot, or a path that does not exist.
        project: the stamps and entries of the project's files.
        known: the stamps and entries of the files in the earlier snapshot.
        now_ns: returns the time of the clock that file systems use for files, in nanoseconds since 1970.

    Returns:
        `(stamps and entries of the files in building, time)`. The time is in nanoseconds since 1970. The stamps of new
            copies were read before this time, and the contents of new copies were checked after it.
    """
    kept: Known = {}
    for path, found in list(walk_files(building, None)) if building.is_dir() else ():
        stamp = seen_of(found.stat(follow_symlinks=False))
        if path in project and known.get(path) == (stamp, project[path][1]) and _same_time(stamp, project[path]):
            kept[path] = known[path]
        else:
            os.unlink(found.path)  # noqa: PTH108 the entry's path is text
    missing = FileManifest({path: entry for path, (_, entry) in project.items() if path not in kept})
    fresh = building.with_name(uuid.uuid4().hex)
    TreeCopier(root, missing).copy(fresh)
    if not building.is_dir():
        fresh.rename(building)
    else:
        for path in missing.files:
            _move(fresh / path, building / path)
    copied = {path: (seen_of((building / path).lstat()), entry) for path, entry in missing.files.items()}
    # The copies are checked after their stamps were read, because a process of an earlier build may write into them.
    checked_ns = now_ns()
    for entry in missing.files.values():
        check_copy(root, building, entry)
    return {path: kept.get(path) or copied[path] for path in project}, checked_ns


def _same_time(copy: FileStamp, original: tuple[FileStamp, FileEntry]) -> bool:
    """Return whether a copy has the modification time of its original; always True for a link.

    Build tools use this time to decide what to build again.
    """
    stamp, entry = original
    return entry.mode < 0 or copy.mtime_ns == stamp.mtime_ns


def _move(file: Path, target: Path) -> None:
    if target.is_dir():
        # The project no longer has a file in this folder.
        remove_tree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    file.rename(target)


def _read_index(folder: Path) -> _Index:
    """Return the index that the last call of `keep_snapshot` left in `folder`.

    Return an empty index if the file is missing, damaged or of another format.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        stored = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if stored["format"] == _FORMAT and _DIGEST.fullmatch(stored["digest"]):
            return _Index(stored["digest"], _known(stored["project"]), _known(stored["copies"]))
    return _Index()


def _known(rows: Mapping[str, list[Any]]) -> Known:
    """Convert rows of the snapshot index to `{path: (stamp, entry)}`.

    Args:
        rows: `{path: row}`. A row is a list of seven values: the size, the two times and the inode of the file (the
            stamp), then the digest, the size and the mode (the entry). `_ROW` has their types.

    Raises:
        ValueError: a row has another number of values, or a value of another type.
    """
    if any(tuple(map(type, row)) != _ROW for row in rows.values()):
        raise ValueError
    return {path: (FileStamp(*row[:4]), FileEntry(path, *row[4:])) for path, row in rows.items()}


def _settled(known: Known, read_ns: int) -> Known:
    """Return the files of `known` whose stamp will show every later change.

    These are the files whose last change was more than one tick of the file system's clock before they were read. A
    file that changes twice within a tick may keep its stamp (size, times, inode).

    Args:
        known: `{path: (stamp, entry)}`.
        read_ns: a time before the files were read, in nanoseconds since 1970.
    """
    return {path: each for path, each in known.items() if each[0].ctime_ns < read_ns - _tick_ns(each[0])}


def _tick_ns(stamp: FileStamp) -> int:
    return _TICK_NS if stamp.ctime_ns % 1_000_000_000 else _COARSE_TICK_NS


def _write_index(folder: Path, digest: str, project: Known, copies: Known) -> None:
    stored = {"format": _FORMAT, "digest": digest, "project": _rows(project), "copies": _rows(copies)}
    # If the index cannot be written, the next call is slower, but its result is the same.
    with contextlib.suppress(OSError):
        (folder / _INDEX).write_text(json.dumps(stored), encoding="utf-8")


def _rows(known: Known) -> dict[str, list[object]]:
    return {path: [*stamp, entry.digest, entry.size, entry.mode] for path, (stamp, entry) in known.items()}
