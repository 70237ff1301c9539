"""Encode and read the record of a run of forks: the parents (forked trials) and their checkpoints; plan the forks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiter
import pydantic_core

from relab.experiments.errors import damaged
from relab.experiments.plan.resolve import plan_of
from relab.experiments.plan.trials import ListedPlan, Slot, SlotPlan
from relab.experiments.records.file_names import PARENTS
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.trial.checkpoints import CheckpointFile, ForkSource
from relab.experiments.trial.wire import Checkpoint


@dataclass(frozen=True)
class Parent:
    """A trial that is forked.

    Attributes:
        row: the trial's row in the results, as JSON.
        checkpoint: the checkpoint that the fork begins from, as the trial's harness reported it; None if the fork
            begins from the trial's input.
        file: the stored file of the checkpoint; None if `checkpoint` is None.
    """

    row: Mapping[str, Any]
    checkpoint: Checkpoint | None = None
    file: CheckpointFile | None = None


def parents_jsonl(parents: Sequence[Parent]) -> bytes:
    """Return the content of the file `fork/parents.jsonl`: a line of JSON for each parent (a trial that is forked)."""
    return b"".join(
        pydantic_core.to_json(
            {
                "row": parent.row,
                "checkpoint": None if parent.checkpoint is None else parent.checkpoint.model_dump(),
                "file": None if parent.file is None else asdict(parent.file),
            }
        )
        + b"\n"
        for parent in parents
    )


def digest_of(raw: bytes) -> str:
    """Return the SHA-256 digest of bytes, as `sha256:` and hexadecimal digits."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def is_fork(run: RunFolder) -> bool:
    """Return whether the trials of a run are forks: trials that begin at a checkpoint of another run's trials."""
    return "fork" in run.facts


def parents_of(run: RunFolder) -> list[Parent]:
    """Return the parents (the trials that were forked) of a run of forks, in the order of the run's plan.

    Return an empty list for a run without forks.

    Raises:
        RunDamagedError: the record of the parents is missing, unreadable, or was changed.
    """
    if not is_fork(run):
        return []
    path: Path = run.path / PARENTS
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise damaged(path, f"cannot be read: {error.strerror}") from error
    if digest_of(raw) != run.facts["fork"]["parents_digest"]:
        raise damaged(path, "was changed since the run began")
    return [_parent(line) for line in raw.splitlines()]


def _parent(line: bytes) -> Parent:
    record = jiter.from_json(line)
    checkpoint, file = record["checkpoint"], record["file"]
    return Parent(
        record["row"],
        None if checkpoint is None else Checkpoint.model_validate(checkpoint),
        None if file is None else CheckpointFile(**file),
    )


def slots_of(parents: Sequence[Parent], *, has_control: bool) -> list[Slot]:
    """Return the slots (positions in the plan) of a run whose trials are forks of `parents`.

    Each parent (a trial that is forked) has one fork of variant 1. Variant 1 gives the harness the changed values.
    With `has_control`, each parent has also a fork of variant 0, which changes nothing; its slot comes first.
    """
    arms = (0, 1) if has_control else (1,)
    places = [(parent.row, arm) for parent in parents for arm in arms]
    return [Slot(number, arm, row["task_index"], row["repl_idx"]) for number, (row, arm) in enumerate(places, start=1)]


def plan_of_run(run: RunFolder, tasks: int) -> SlotPlan:
    """Return the plan of a run: its slots, one for each trial, with task, variant and repeat.

    The plan of a run of forks (trials that begin at checkpoints of earlier trials) has the forks of each earlier trial.
    The plan of any other run follows from the configuration of the experiment.

    Args:
        run: the run.
        tasks: the number of tasks in the data set; not used for a run of forks.

    Raises:
        RunDamagedError: the record of the trials that were forked is missing, unreadable, or was changed.
    """
    if not is_fork(run):
        return plan_of(run.config, tasks)
    return ListedPlan(slots_of(parents_of(run), has_control=run.facts["fork"]["control"]))


def sources_of(run: RunFolder) -> dict[str, ForkSource]:
    """Return `{trial id of a fork: source}` for all trials of a run of forks.

    The source has the parent (the trial that was forked) and the checkpoint at which the fork begins. The dictionary is
    empty for a run without forks.

    Raises:
        RunDamagedError: the record of the parents is missing, unreadable, or was changed.
    """
    if not is_fork(run):
        return {}
    facts, parents = run.facts["fork"], parents_of(run)
    arms = 2 if facts["control"] else 1
    return {
        slot.trial_id: ForkSource(
            parent_run_id=facts["parent_run_id"],
            parent_trial_id=parents[index // arms].row["trial_id"],
            parent_dir=Path(facts["parent_run_dir"]) / "trials" / parents[index // arms].row["trial_id"],
            selector=facts["selector"],
            strict=facts["strict"],
            checkpoint=parents[index // arms].checkpoint,
            file=parents[index // arms].file,
        )
        for index, slot in enumerate(slots_of(parents, has_control=facts["control"]))
    }


def compared_rows(run: RunFolder) -> Iterator[Mapping[str, Any]]:
    """Yield the result rows of the parents (the trials that were forked) with which the forks of a run are compared.

    Yield nothing for a run without forks. Yield nothing either for a run with a control (forks without changes),
    because its other forks are compared with the control.

    Raises:
        RunDamagedError: the record of the parents is missing, unreadable, or was changed.
    """
    if is_fork(run) and not run.facts["fork"]["control"]:
        baseline = run.config.baseline.variant_id
        for parent in parents_of(run):
            yield {**parent.row, "baseline_id": baseline}
