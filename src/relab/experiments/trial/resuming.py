"""Record the pause of a trial. Later, read this record, and prepare the trial's folder before the trial is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relab.experiments.errors import CheckpointMissingError
from relab.experiments.trial.checkpoints import place_of
from relab.experiments.trial.pausing import PAUSED, PausedTrial, PauseEnd, read_paused, write_paused
from relab.experiments.trial.rows import AttemptTimes
from relab.experiments.trial.trial_folder import INPUT, TrialFolder
from relab.experiments.trial.wire import Checkpoint
from relab.experiments.workspace.manifests import FileManifest
from relab.experiments.workspace.untrusted_files import path_exists
from relab.experiments.workspace.untrusted_trees import remove_tree


def resumable(folder: TrialFolder) -> PausedTrial | None:
    """Return the record of a trial's pause, from which the trial can be resumed.

    Return None if the trial is not paused, or if its harness did not acknowledge the pause. The trial then starts from
    its beginning.

    Raises:
        CheckpointMissingError: the file of the checkpoint is missing.
        CheckpointInvalidError: the checkpoint is outside of the trial's folders.
        RunDamagedError: the record of the pause, or the input of the trial, cannot be read.
    """
    paused = read_paused(folder)
    if paused is None or not paused.acknowledged:
        return None
    if paused.checkpoint is not None:
        path = folder.root / place_of(folder, paused.checkpoint)
        if not path_exists(path, below=folder.root):
            raise CheckpointMissingError(
                f"The checkpoint {paused.checkpoint.path!r} of {folder.root.name} is gone: {path} does not exist.",
                remedy=f"Restore the file; or delete {folder.root / PAUSED}, then the trial starts from its beginning.",
            )
    return paused


def begin_segment(folder: TrialFolder, paused: PausedTrial, output: Path) -> None:
    """Prepare the folder of a paused trial for the next segment (the part of an attempt after a pause).

    The input, the output, the logs and the record of the pause move to `segments/`. Workspace, state and events stay.
    The folder `tmp` is emptied.

    Args:
        folder: the folder of the trial.
        paused: the record of the pause.
        output: the file of the harness's output.

    Raises:
        OSError: the disk is full, or permission is missing.
    """
    own = (folder.root / INPUT, folder.stdout, folder.stderr)
    # Without the record, a trial that crashes from now on starts from its beginning, not from the pause.
    folder.set_segment_aside(paused.segments, folder.root / PAUSED, output, *own)
    remove_tree(folder.root / "tmp")
    (folder.root / "tmp").mkdir()


def record_pause(
    folder: TrialFolder,
    pause: PauseEnd,
    times: AttemptTimes,
    *,
    before: PausedTrial | None,
    attempt: int,
    manifest: FileManifest,
    checkpoints: Sequence[Checkpoint],
    events_seq: int | None,
) -> PausedTrial:
    """Write the record of a pause into the folder of the trial, and return it.

    Args:
        folder: the folder of the trial.
        pause: how the pause ended.
        times: when the attempt began, and how long its harness ran.
        before: the record of the attempt's previous pause; None for the first pause.
        attempt: the number of the attempt, from 1.
        manifest: the files of the workspace when the attempt began.
        checkpoints: the checkpoints that the harness names in its output.
        events_seq: the `seq` of the last event; None if there were no events.

    Raises:
        OSError: the disk is full.
    """
    record = PausedTrial(
        request_id=pause.request.request_id,
        label=pause.request.label,
        acknowledged=pause.acknowledged,
        reason=pause.reason,
        attempt=attempt,
        segments=1 if before is None else before.segments + 1,
        started_us=times.started_us,
        duration_ms=times.duration_ms,
        checkpoint=chosen(checkpoints, pause.request.label),
        events_seq=events_seq,
        earlier_seqs=[] if before is None else before.seqs,
        files=[tuple(entry) for entry in manifest.files.values()],
    )
    write_paused(folder, record)
    return record


def chosen(checkpoints: Sequence[Checkpoint], label: str | None) -> Checkpoint | None:
    """Return the checkpoint to resume from; None if `checkpoints` is empty.

    If checkpoints have the logical name `label`, the result is the last one of them. Else the result is the checkpoint
    with the highest step. A checkpoint without a step is lower than all others; of equal steps, the last one wins.
    """
    labelled = [found for found in checkpoints if label is not None and found.logical_name == label]
    if labelled:
        return labelled[-1]
    steps = [-1 if found.step is None else found.step for found in checkpoints]
    return max(zip(steps, range(len(steps)), checkpoints, strict=True), key=lambda row: row[:2])[2] if steps else None
