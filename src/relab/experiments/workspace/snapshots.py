"""Create workspaces: take one snapshot of the project, copy it for each trial, and find the files that trials changed.

The snapshot is in `.lab/cache/` under the digest of its content, so that runs of an unchanged project share it. Files
that a harness may write are never hard links, because a write in place would change the shared snapshot.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from relab.core.atomic_files import is_disk_full
from relab.core.file_locks import file_lock
from relab.experiments.errors import ExperimentInvalidError, RunDiskFullError
from relab.experiments.plan.dataset import WorkspaceFile
from relab.experiments.workspace.copier import FileStamp, TreeCopier, seen_of
from relab.experiments.workspace.manifests import FileEntry, FileManifest
from relab.experiments.workspace.untrusted_trees import check_holes, make_accessible, remove_tree

ALWAYS_IGNORED: Final = ("/.lab", ".git")
"""Patterns, as in .gitignore, of files that are never copied; no pattern of the configuration can include them again."""
_PIECE = 65_536
_ALWAYS = GitIgnoreSpec.from_lines(ALWAYS_IGNORED)


@dataclass(frozen=True)
class ProjectSnapshot:
    """A copy of the project at the start of the run; nothing may change it.

    Attributes:
        root: the folder of the copy.
        manifest: the files in it.
    """

    root: Path
    manifest: FileManifest

    @functools.cached_property
    def copier(self) -> TreeCopier:
        """The copier that copies the snapshot for each trial; it caches small files."""
        return TreeCopier(self.root, self.manifest, remembers=True)


@dataclass
class Clone:
    """The workspace of a trial: a copy of the project or, in a chain of trials, of the previous trial's workspace.

    Attributes:
        root: the folder of the copy.
        manifest: the files in it when the trial began.
    """

    root: Path
    manifest: FileManifest
    _seen: dict[str, FileStamp] = field(default_factory=dict)

    def now(self) -> FileManifest:
        """Return the manifest of the files that are in the copy now; only files that may have changed are read again.

        Raises:
            OSError: a file cannot be read, or the folder was replaced by a file or link.
        """
        if self.root.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "The workspace was replaced by a link", str(self.root))
        try:
            return self._read()
        except PermissionError:
            make_accessible(self.root)
            return self._read()

    def _read(self) -> FileManifest:
        files: dict[str, FileEntry] = {}
        for path, entry in walk_files(self.root, None):
            known = self.manifest.files.get(path)
            status = entry.stat(follow_symlinks=False)
            if known is not None and self._seen.get(path) == seen_of(status):
                files[path] = known
            else:
                files[path] = file_entry(path, Path(entry.path), status)
        return FileManifest(files)


def take_snapshot(root: Path, cache: Path, ignore: Iterable[str] = ()) -> ProjectSnapshot:
    """Return a snapshot of the project in the cache; copy the project if the cache has no snapshot of this content.

    Args:
        root: the folder of the project.
        cache: the folder `.lab/cache`.
        ignore: patterns as in .gitignore, in addition to `.lab` and `.git`.

    Raises:
        ExperimentInvalidError: a pattern is invalid, a file cannot be read, or a file changed during the copying.
        RunDiskFullError: the disk is full.
    """
    manifest = _read_manifest(root, ignore_spec(ignore))
    target = snapshot_folder(cache, manifest.digest)
    if cached_snapshot(cache, manifest.digest) is None:
        # Written under a temporary name and then renamed, so that an incomplete snapshot is never used.
        building = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        try:
            TreeCopier(root, manifest).copy(building)
            for entry in manifest.files.values():
                check_copy(root, building, entry)
            _move(building, cache, manifest.digest)
        except OSError as error:
            raise copy_error(error, root) from error
        finally:
            with contextlib.suppress(OSError):
                remove_tree(building)
    return ProjectSnapshot(target, manifest)


def ignore_spec(patterns: Iterable[str]) -> GitIgnoreSpec:
    """Compile patterns as in .gitignore.

    Raises:
        ExperimentInvalidError: a pattern is invalid.
    """
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise ExperimentInvalidError(f"runtime.workspace.ignore: {error}") from error


def manifest_of(root: Path) -> FileManifest:
    """Return the manifest of all files below a folder.

    Raises:
        ExperimentInvalidError: a file cannot be read.
    """
    return _read_manifest(root, None)


def cached_snapshot(cache: Path, digest: str) -> ProjectSnapshot | None:
    """Return the snapshot with this digest from the cache; None if it is missing or damaged.

    Raises:
        ExperimentInvalidError: a file of the snapshot cannot be read, although it exists.
    """
    root = snapshot_folder(cache, digest)
    try:
        manifest = manifest_of(root)
    except ExperimentInvalidError as error:
        if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            # The snapshot is missing, or another run is replacing a damaged one.
            return None
        raise
    return ProjectSnapshot(root, manifest) if manifest.digest == digest else None


def _move(building: Path, cache: Path, digest: str) -> None:
    """Move a new snapshot into the cache, unless the cache already has a valid snapshot with this digest.

    A damaged snapshot with this digest is replaced.
    """
    target = snapshot_folder(cache, digest)
    with file_lock(cache / "snapshots.lock"):
        # Another run may have just written the same snapshot, and its trials may be copying it now.
        if cached_snapshot(cache, digest) is None:
            remove_tree(target)
            building.rename(target)


def snapshot_folder(cache: Path, digest: str) -> Path:
    """Return the folder of the snapshot with this digest; it may not exist."""
    return cache / "snapshots" / digest.removeprefix("sha256:")


def clone(source: TreeCopier, target: Path, extra: Iterable[WorkspaceFile] = ()) -> Clone:
    """Copy the snapshot of the project, or the workspace of another trial, into a new folder for a trial.

    Args:
        source: the copier of the folder to copy.
        target: the new folder; it must not exist.
        extra: files that the task adds or replaces.

    Raises:
        OSError: the disk is full, or a file cannot be written.
    """
    manifest, seen = source.manifest, source.copy(target)
    extra = tuple(extra)
    if not extra:
        return Clone(target, manifest, _settled(seen))
    files = dict(manifest.files)
    for item in extra:
        path = target / item.path
        for replaced in (item.path, *_make_parents(path, target)):
            files.pop(replaced, None)
            seen.pop(replaced, None)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.write_bytes(item.content)
        path.chmod(0o755 if item.executable else 0o644)
        status = path.lstat()
        files[item.path] = file_entry(item.path, path, status)
        seen[item.path] = seen_of(status)
    return Clone(target, FileManifest(files), _settled(seen))


def _settled(seen: dict[str, FileStamp]) -> dict[str, FileStamp]:
    """Return the entries of `seen`, `{path: stamp}`, whose stamp will show every later change of the file.

    These are the files with a ctime older than the latest ctime in `seen`. A file with the latest ctime can change
    again within the same clock tick, and then keeps its ctime.
    """
    last = max((status.ctime_ns for status in seen.values()), default=0)
    return {path: status for path, status in seen.items() if status.ctime_ns < last}


def _read_manifest(root: Path, spec: GitIgnoreSpec | None) -> FileManifest:
    try:
        return FileManifest(
            {
                path: file_entry(path, Path(entry.path), entry.stat(follow_symlinks=False))
                for path, entry in walk_files(root, spec)
            }
        )
    except OSError as error:
        raise read_error(error) from error


def read_error(error: OSError) -> ExperimentInvalidError:
    """Return the error for a file of the project that cannot be read."""
    return ExperimentInvalidError(
        f"The project's file {error.filename} cannot be read: {error.strerror}.",
        remedy="If no trial needs it, add it to runtime.workspace.ignore.",
    )


def walk_files(root: Path, spec: GitIgnoreSpec | None) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield `(relative path, entry)` of the files and links below a folder; skip sockets, pipes and devices.

    With `spec`, files and folders that match its patterns or `ALWAYS_IGNORED` are skipped as well. If `spec` is None,
    all files and links are yielded.
    """
    stack = [("", root)]
    while stack:
        prefix, folder = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                tried = f"{path}/" if is_folder else path
                if spec is not None and (_ALWAYS.match_file(path) or spec.match_file(tried)):
                    continue
                if is_folder:
                    stack.append((f"{path}/", Path(entry.path)))
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield path, entry


def file_entry(path: str, file: Path, status: os.stat_result) -> FileEntry:
    """Return the entry of a file or a symbolic link for a manifest.

    The digest in the entry is that of the file's content; of a link, it is that of the path to which the link points.

    Args:
        path: the path of the file, relative to the folder of the manifest.
        file: the path at which the file is read.
        status: the status of the file, without following a link (`lstat`).

    Raises:
        OSError: the file cannot be read, was replaced by a link, or has too large holes (ranges without data).
    """
    if stat.S_ISLNK(status.st_mode):
        target = os.fsencode(file.readlink())
        return FileEntry(path, "sha256:" + hashlib.sha256(target).hexdigest(), len(target), -1)
    check_holes(file, status)
    # The owner can read and write every copy, so that it can be copied and deleted again.
    # Copies lose set-user-ID: they belong to the user of this process, and the original may belong to another.
    mode = status.st_mode & 0o777 | stat.S_IRUSR | stat.S_IWUSR
    return FileEntry(path, _digest(file), status.st_size, mode)


def check_copy(root: Path, copy: Path, entry: FileEntry) -> None:
    """Check that the copy of a file has the content recorded in the project's manifest.

    Args:
        root: the folder of the project.
        copy: the folder with the copy.
        entry: the entry of the file in the manifest of the project; links are not checked.

    Raises:
        ExperimentInvalidError: the original changed while it was copied.
        OSError: the copy cannot be read.
    """
    if entry.mode >= 0 and _digest(copy / entry.path) != entry.digest:
        raise ExperimentInvalidError(f"The file {root / entry.path} changed while it was copied; start the run again.")


def _digest(file: Path) -> str:
    # O_NOFOLLOW, because a harness may replace a file by a link that leads out of its workspace.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    digest = hashlib.sha256()
    try:
        while piece := os.read(descriptor, _PIECE):
            digest.update(piece)
    finally:
        os.close(descriptor)
    return f"sha256:{digest.hexdigest()}"


def _make_parents(path: Path, root: Path) -> list[str]:
    """Create the parent folders of `path`, a file that a task adds to the workspace `root`.

    Return the paths of the files and links that were deleted to make room for the folders.
    """
    replaced = []
    for folder in reversed([parent for parent in path.parents if parent.is_relative_to(root) and parent != root]):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            folder.unlink()
            replaced.append(str(folder.relative_to(root)))
        folder.mkdir(exist_ok=True)
    return replaced


def copy_error(error: OSError, root: Path) -> ExperimentInvalidError | RunDiskFullError:
    """Return the error for a project that cannot be copied; `root` is the project's folder."""
    if is_disk_full(error):
        return RunDiskFullError(
            f"The disk has too little free space for a copy of {root}.",
            remedy="Free disk space, or add more files to runtime.workspace.ignore.",
        )
    return ExperimentInvalidError(f"The project {root} cannot be copied: {error}.")
