"""Checkpoints that a harness has named: find their files in the trial's folder, keep them, and copy them to a fork.

A harness chooses the paths, so they are not trusted. A checkpoint must be a regular file or a folder below the trial's
workspace, state or out; no link may lead to it; and it must not be a document that runner and harness exchange.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pydantic import ValidationError

from relab.core.errors import MalformedBodyError
from relab.core.json import parse_own_json
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import CheckpointInvalidError, CheckpointMissingError, damaged
from relab.experiments.sandbox.protocol import PLACES, Places
from relab.experiments.trial.trial_folder import INPUT, OUTPUT, STDOUT, TrialFolder
from relab.experiments.trial.wire import MAX_OUTPUT_BYTES, Checkpoint, written_document
from relab.experiments.workspace.copier import TreeCopier
from relab.experiments.workspace.manifests import FileManifest
from relab.experiments.workspace.snapshots import Clone
from relab.experiments.workspace.untrusted_files import digest_plain, open_plain, read_plain, status_plain, write_all
from relab.experiments.workspace.untrusted_trees import check_holes, remove_tree

KEPT: Final = "checkpoints"
"""The folder in a trial's folder for the checkpoints of a workspace that is not kept."""
_ROOMS: Final = ("workspace", "state", "out")
_PIECE: Final = 1_048_576


@dataclass(frozen=True)
class CheckpointFile:
    """The file or folder of a checkpoint, in the folder of its trial.

    Attributes:
        place: the path below the trial's folder while the harness ran, such as `state/step-4.json`.
        stored: the path below the trial's folder now: `place`, or `checkpoints/` and `place` if the checkpoint was
            moved there before the workspace was deleted.
        digest: the SHA-256 of the file, or of a folder's list of files, as `sha256:` and hexadecimal digits.
        size: the size in bytes.
        is_folder: whether the checkpoint is a folder.
    """

    place: str
    stored: str
    digest: str
    size: int
    is_folder: bool


@dataclass(frozen=True)
class ForkSource:
    """The parent (the trial that is forked), and the checkpoint that the fork begins from.

    Attributes:
        parent_run_id, parent_trial_id: the ids of the parent.
        parent_dir: the folder of the parent.
        selector: the selector of the checkpoint, as given, such as `step:7`.
        strict: whether the fork must begin from a checkpoint; if False, it may begin from the parent's input instead.
        checkpoint: the checkpoint, as the parent's harness reported it; None to begin from the parent's input.
        file: the file of the checkpoint; None if `checkpoint` is None.
    """

    parent_run_id: str
    parent_trial_id: str
    parent_dir: Path
    selector: str
    strict: bool
    checkpoint: Checkpoint | None
    file: CheckpointFile | None

    @property
    def fallback_mode(self) -> str:
        """`checkpoint` if the fork begins from a checkpoint; `input_only` if it begins from the parent's input."""
        return "input_only" if self.file is None else "checkpoint"

    @property
    def name(self) -> str | None:
        """The name of the checkpoint; None without a checkpoint."""
        return None if self.checkpoint is None else self.checkpoint.name

    @property
    def size(self) -> int:
        """The size of the checkpoint in bytes; 0 without a checkpoint."""
        return 0 if self.file is None else self.file.size

    def ext(self, places: Places) -> dict[str, Any]:
        """Return the JSON object `ext.fork` of the fork's input, which says at which checkpoint the fork begins.

        `places` are the fork's folders inside the sandbox.
        """
        path = None if self.file is None else places.inside(f"/{self.file.place}")
        named = None if self.checkpoint is None else self.checkpoint.model_dump(exclude_none=True) | {"path": path}
        return {
            "parent_run_id": self.parent_run_id,
            "parent_trial_id": self.parent_trial_id,
            "selector": self.selector,
            "source_checkpoint": path,
            "strict": self.strict,
            "fallback_mode": self.fallback_mode,
            "checkpoint": named,
        }


def named_checkpoints(config: ExperimentConfig, folder: TrialFolder) -> list[Checkpoint]:
    """Return the checkpoints that are listed in the outputs of a finished trial, oldest first.

    If the trial was paused, the harness also wrote an output before each pause. Such an earlier output is ignored if it
    is invalid. Of several checkpoints with the same path, only the latest is returned.

    Raises:
        RunDamagedError: the last output cannot be read.
    """
    found: dict[str, Checkpoint] = {}
    for checkpoint in [*_named_before_pauses(config, folder), *_checkpoints_in(folder.root / OUTPUT, folder)]:
        # The harness has overwritten the file of the earlier checkpoint.
        found.pop(checkpoint.path, None)
        found[checkpoint.path] = checkpoint
    return list(found.values())


def _named_before_pauses(config: ExperimentConfig, folder: TrialFolder) -> list[Checkpoint]:
    name = PurePosixPath(config.runtime.harness.output_path).name
    segments = folder.root / "segments"
    numbers = (
        sorted(int(path.name) for path in segments.iterdir() if path.name.isdecimal()) if segments.is_dir() else []
    )
    named: list[Checkpoint] = []
    for number in numbers:
        segment = segments / str(number)
        # The harness wrote this output, so it may be invalid; the runner wrote or checked only the last output.
        document = written_document(segment / name, segment / STDOUT, below=folder.root)
        named += [] if document is None else _checkpoints_of(document)
    return named


def _checkpoints_in(path: Path, folder: TrialFolder) -> Iterable[Checkpoint]:
    if status_plain(path, below=folder.root) is None:
        return []
    raw = read_plain(path, MAX_OUTPUT_BYTES, below=folder.root)
    try:
        document: Any = None if raw is None else parse_own_json(raw)
    except MalformedBodyError as error:
        raise damaged(path, f"cannot be read: {error.message}") from error
    if not isinstance(document, dict):
        raise damaged(path, "is not a JSON object")
    return _checkpoints_of(document)


def _checkpoints_of(document: Mapping[str, Any]) -> list[Checkpoint]:
    # After an error of the trial, the runner's own output contains that of the harness.
    ext = document.get("ext")
    written = ext.get("harness_output") if isinstance(ext, dict) and "error" in document else None
    given = (written if isinstance(written, dict) else document).get("checkpoints", [])
    try:
        return [Checkpoint.model_validate(each) for each in given]
    except (ValidationError, TypeError):
        # The output of a harness that was rejected.
        return []


def find_checkpoint(config: ExperimentConfig, folder: TrialFolder, checkpoint: Checkpoint) -> CheckpointFile:
    """Find the file of a checkpoint of a finished trial, and compute its digest.

    Raises:
        CheckpointMissingError: the file does not exist.
        CheckpointInvalidError: the path leads out of the trial's folders, contains a link, or is neither a file nor a
            folder. Or the checkpoint is or contains the harness's input, output, events or control file.
        RunDamagedError: the input of the trial cannot be read.
    """
    place = place_of(folder, checkpoint)
    _check_own(config, place, checkpoint)
    for stored in (place, f"{KEPT}/{place}"):
        path = folder.root / stored
        try:
            status = status_plain(path, below=folder.root)
        except OSError as error:
            raise _invalid(checkpoint, f"cannot be reached: {error.strerror}") from error
        if status is not None:
            return _read(checkpoint, folder, place, stored, status)
    raise CheckpointMissingError(
        f"The checkpoint {checkpoint.path[:200]!r} of {folder.root.name} is gone: {folder.root / place} does not exist.",
        remedy="Restore the file, or choose another checkpoint.",
    )


def _read(
    checkpoint: Checkpoint, folder: TrialFolder, place: str, stored: str, status: os.stat_result
) -> CheckpointFile:
    path = folder.root / stored
    if stat.S_ISDIR(status.st_mode):
        try:
            manifest = _manifest_of(path)
        except OSError as error:
            raise _invalid(checkpoint, f"cannot be read: {error.strerror}") from error
        return CheckpointFile(place, stored, manifest.digest, manifest.total_bytes, is_folder=True)
    try:
        check_holes(path, status)
    except OSError as error:
        raise _invalid(checkpoint, f"cannot be read: {error.strerror}") from error
    digest = digest_plain(path, below=folder.root)
    if digest is None:
        raise _invalid(checkpoint, "is a link, a pipe or a device, or cannot be read")
    return CheckpointFile(place, stored, f"sha256:{digest}", status.st_size, is_folder=False)


def _paths_inside(folder: TrialFolder) -> dict[str, str]:
    """Return the paths of a trial's folders `workspace`, `state` and `out` inside the sandbox, by folder name.

    The paths are read from the trial's stored input.

    Raises:
        RunDamagedError: the input cannot be read.
    """
    path = folder.root / INPUT
    raw = read_plain(path, MAX_OUTPUT_BYTES, below=folder.root)
    try:
        document: Any = parse_own_json(raw or b"")
        return {room: str(document["runtime"]["paths"][room]) for room in _ROOMS}
    except (MalformedBodyError, KeyError, TypeError) as error:
        raise damaged(path, "cannot be read: it has no runtime.paths") from error


def place_of(folder: TrialFolder, checkpoint: Checkpoint) -> str:
    """Return the path of a checkpoint below the folder of its trial, such as `state/step-4.json`.

    Raises:
        CheckpointInvalidError: the checkpoint is not in the folder `workspace`, `state` or `out` of the trial.
        RunDamagedError: the input of the trial cannot be read.
    """
    inside, path = _paths_inside(folder), PurePosixPath(checkpoint.path)
    tops = [(room, top) for room in _ROOMS for top in (inside[room], getattr(PLACES, room), f"{folder.root}/{room}")]
    if not path.is_absolute():
        path = PurePosixPath(inside["workspace"]) / path
    for room, top in tops:
        if path.is_relative_to(top):
            rest = path.relative_to(top)
            if ".." not in rest.parts and rest.parts:
                return f"{room}/{rest}"
    raise _invalid(checkpoint, "is not below the trial's workspace, state or out")


def _check_own(config: ExperimentConfig, place: str, checkpoint: Checkpoint) -> None:
    harness = config.runtime.harness
    for document in (harness.input_path, harness.output_path, harness.events.path, harness.control_plane.path):
        if PurePosixPath(document).is_relative_to(f"/{place}"):
            raise _invalid(checkpoint, f"is or contains {document}, which the runner writes itself")


def _invalid(checkpoint: Checkpoint, what: str) -> CheckpointInvalidError:
    return CheckpointInvalidError(
        f"The checkpoint {checkpoint.path[:200]!r} {what}.",
        remedy="A checkpoint is a file or a folder below the trial's workspace, state or out.",
    )


def _manifest_of(folder: Path) -> FileManifest:
    return Clone(folder, FileManifest({})).now()


def begin_fork(source: ForkSource, folder: TrialFolder, copied: Clone) -> Clone:
    """Copy a checkpoint into the folder of a fork, to the path where the parent's harness wrote it.

    Args:
        source: the parent and the checkpoint; without a checkpoint nothing is copied.
        folder: the folder of the fork.
        copied: the fork's workspace, with the list of its files before this call.

    Returns:
        The fork's workspace. If the checkpoint is in the workspace, the list of files is that after the copy.

    Raises:
        CheckpointMissingError: the checkpoint is gone, or was changed since the fork was planned.
        OSError: a file cannot be written, or a link leads out of the fork's folder.
    """
    file = source.file
    if file is None:
        return copied
    target = folder.root / file.place
    # The project may have a link of this name.
    if not target.parent.resolve().is_relative_to(folder.root.resolve()):
        raise OSError(errno.ELOOP, "A link leads out of the trial's folder", str(target.parent))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        remove_tree(target)
    else:
        target.unlink(missing_ok=True)
    origin = source.parent_dir / file.stored
    digest = _copy_folder(origin, target) if file.is_folder else _copy_file(origin, source.parent_dir, target)
    if digest != file.digest:
        raise CheckpointMissingError(
            f"The checkpoint {origin} of {source.parent_run_id} {'is gone' if digest is None else 'was changed'} since"
            " the fork was planned.",
            remedy="Restore it, then continue the run; or fork again.",
        )
    in_workspace = file.place.startswith("workspace/")
    return Clone(folder.workspace, copied.now()) if in_workspace else copied


def _copy_folder(origin: Path, target: Path) -> str | None:
    if origin.is_symlink() or not origin.is_dir():
        return None
    manifest = _manifest_of(origin)
    TreeCopier(origin, manifest).copy(target)
    return manifest.digest


def _copy_file(origin: Path, below: Path, target: Path) -> str | None:
    file = open_plain(origin, below=below) if below.is_dir() else None
    if file is None:
        return None
    digest = hashlib.sha256()
    with file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o777
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode | 0o600)
        try:
            while piece := file.read(_PIECE):
                digest.update(piece)
                write_all(descriptor, piece)
        finally:
            os.close(descriptor)
    return f"sha256:{digest.hexdigest()}"


def keep_checkpoints(config: ExperimentConfig, folder: TrialFolder, output: Mapping[str, Any]) -> None:
    """Move the checkpoints of a finished trial out of its workspace, which is about to be deleted, to `checkpoints/`.

    The checkpoints are those in `output` and, if the trial was paused, those in the outputs that the harness wrote
    before each pause. Missing and invalid checkpoints are not moved.

    Args:
        config: the experiment.
        folder: the folder of the trial.
        output: the last output of the harness as a JSON object, not validated; `{}` if there is no output.

    Raises:
        RunDamagedError: the input of the trial cannot be read.
        OSError: the disk is full, or permission is missing.
    """
    places = set()
    for checkpoint in [*_named_before_pauses(config, folder), *_checkpoints_of(output)]:
        try:
            found = find_checkpoint(config, folder, checkpoint)
        except (CheckpointMissingError, CheckpointInvalidError):
            continue
        if found.stored.startswith("workspace/"):
            places.add(found.place)
    # Sorted, so that a folder comes before the checkpoints in it and is moved together with them.
    for place in sorted(places):
        source = folder.root / place
        if os.path.lexists(source):
            target = folder.root / KEPT / place
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
