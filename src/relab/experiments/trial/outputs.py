"""Write the output and the state document of a trial, and keep artifacts and checkpoints of its workspace."""

from __future__ import annotations

import hashlib
import shutil
import stat

from relab.core.clock import format_time
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.models import Keep, TrialOutcome, TrialRow
from relab.experiments.plan.trials import Trial
from relab.experiments.trial import wire
from relab.experiments.trial.checkpoints import keep_checkpoints
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.metrics import collect
from relab.experiments.trial.rows import FinishedAttempt
from relab.experiments.trial.trial_folder import OUTPUT, STATE, TrialFolder, link_or_copy, mode_of
from relab.experiments.workspace.untrusted_files import write_own
from relab.experiments.workspace.untrusted_trees import remove_tree


def write_output(config: ExperimentConfig, folder: TrialFolder, trial: Trial, attempt: FinishedAttempt) -> None:
    """Write the output document of a trial into its folder.

    If the last attempt has no `problem`, the document is the output of the harness. Otherwise the runner makes the
    document: it states the problem and, if the harness wrote an output, contains this output.

    Args:
        config: the experiment.
        folder: the folder of the trial.
        trial: the trial.
        attempt: the last attempt of the trial.

    Raises:
        OSError: the document cannot be written, for example on a full disk.
    """
    written = folder.host_path(config.runtime.harness.output_path)
    if attempt.problem is None and stat.S_ISREG(mode_of(written)):
        link_or_copy(written, folder.root / OUTPUT)
        return
    document = attempt.output.raw
    if attempt.problem is not None:
        error_type, message = attempt.problem
        document = wire.error_output(trial.ids, TrialOutcome.ERROR, error_type, message)
        if attempt.output.raw:
            document["ext"] = {"harness_output": attempt.output.raw}
    # Not indented, because indentation would multiply the size of a deeply nested output of the harness.
    indent = None if attempt.output.raw else 2
    write_own(folder.root / OUTPUT, wire.to_json_bytes(document, indent=indent))


def keep_files(context: RunContext, folder: TrialFolder, attempt: FinishedAttempt, row: TrialRow) -> None:
    """Copy the artifacts of a trial out of its workspace; then move the checkpoints out and delete the workspace.

    The workspace is not deleted if `context.keep` says so, or if later trials continue from the state of earlier ones.
    The checkpoints then stay in the workspace.

    Args:
        context: the values that all trials share.
        folder: the folder of the trial.
        attempt: the last attempt of the trial.
        row: the trial's row in the results; `Keep.FAILED` keeps the workspace unless the row says success.

    Raises:
        RunDamagedError: the input of the trial cannot be read.
        OSError: a file cannot be copied, moved or deleted.
    """
    changed = [entry.path for entry in [*attempt.diff.added, *[new for _, new in attempt.diff.modified]]]
    wanted = context.config.artifacts
    for path in collect(folder.workspace, wanted.collect, wanted.base_dir, changed):
        target = folder.root / "artifacts" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.workspace / path, target)
    needed_later = context.config.design.policies.state.carries_state
    keeps = context.keep is Keep.ALL or (context.keep is Keep.FAILED and not row.success)
    if not keeps and not needed_later:
        keep_checkpoints(context.config, folder, attempt.output.raw)
        remove_tree(folder.workspace)


def write_state(
    context: RunContext,
    folder: TrialFolder,
    status: str,
    exit_reason: str | None,
    *,
    label: str | None = None,
    checkpoint: str | None = None,
) -> str:
    """Write the state document of a trial (`trial_state_v1`); return its SHA-256 in hexadecimal.

    Args:
        context: the values that all trials share.
        folder: the folder of the trial.
        status: `completed`, `failed` or `paused`.
        exit_reason: why the trial ended with this status, such as an error type; None if there is no reason.
        label: the label of the pause, for the status `paused`; None for no label.
        checkpoint: the name of a checkpoint; None for no checkpoint. A paused trial will be resumed from it. A fork
            that has ended began from it.

    Raises:
        OSError: the document cannot be written, for example on a full disk.
    """
    document = {
        "schema_version": "trial_state_v1",
        "trial_id": folder.root.name,
        "status": status,
        "pause_label": label,
        "checkpoint_selected": checkpoint,
        "exit_reason": exit_reason,
        "updated_at": format_time(context.clock.now_us()),
    }
    raw = wire.to_json_bytes(document)
    write_own(folder.root / STATE, raw)
    return hashlib.sha256(raw).hexdigest()
