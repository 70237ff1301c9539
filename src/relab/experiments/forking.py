"""Plan a run of forks: trials that begin at a checkpoint of another run's trials, with changed bindings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.core.ids import MAX_ID_LENGTH
from relab.core.json import canonical_json
from relab.experiments.config.bindings import changed, parse_bindings, unknown
from relab.experiments.config.models import ExperimentConfig, IntegrationLevel, Variant
from relab.experiments.errors import (
    CheckpointChangedError,
    ForkInvalidError,
    RunDamagedError,
    SelectorUnmatchedError,
    TrialNotFoundError,
    TrialStateError,
)
from relab.experiments.models import ForkOptions
from relab.experiments.proof.sealed_paths import changed_since_seal
from relab.experiments.records.forks import Parent, digest_of, parents_jsonl
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.results.integrity import damage_of_trial
from relab.experiments.results.trial_views import events_of
from relab.experiments.trial.checkpoints import find_checkpoint, named_checkpoints
from relab.experiments.trial.fork_points import Selector, choose, parse_selector
from relab.experiments.trial.trial_folder import trial_folder

_HASH_CHARS: Final = 8
_SHOWN: Final = 5


@dataclass(frozen=True)
class PlannedFork:
    """A planned run of forks, whose folder does not exist yet.

    A fork is a trial that begins at a checkpoint of an earlier trial, for example with changed bindings (values that
    the harness gets).

    Attributes:
        parent: the run of the earlier trials.
        config: the experiment of the new run. Its `variant_plan` has the variant of the forks. Its `baseline` is the
            variant of the control forks (forks with unchanged bindings) if control forks are planned, and otherwise the
            variant of the earlier trials.
        parents: the earlier trials that are to be forked.
        parents_jsonl: `parents` as the content of the new run's file `fork/parents.jsonl`.
        facts: the options and the result of the planning as JSON values, for the field `ext.fork` of the manifest.
        warnings: sentences for the user.
    """

    parent: RunFolder
    config: ExperimentConfig
    parents: Sequence[Parent]
    parents_jsonl: bytes
    facts: Mapping[str, Any]
    warnings: Sequence[str]

    @property
    def trials(self) -> int:
        """The number of planned forks (trials that begin at a checkpoint of an earlier trial)."""
        return len(self.parents) * (2 if self.facts["control"] else 1)


def plan_fork(run: RunFolder, options: ForkOptions) -> PlannedFork:
    """Plan a run of forks (new trials that begin at checkpoints of earlier trials); write nothing.

    Args:
        run: the run of the earlier trials.
        options: which trials, from which checkpoint, and with which changed bindings (values that the harness gets).

    Raises:
        ForkInvalidError: the selector of the checkpoint, a binding or the choice of trials in `options` is invalid, or
            control forks (with unchanged bindings) are requested although no binding is changed.
        TrialNotFoundError: a trial does not exist or has no result.
        TrialStateError: trials of the run continue from the state of earlier trials, and no checkpoint contains this
            state. Or `options.strict` is set, and the harness is not of the level `sdk_full`, or a trial has no
            checkpoint.
        SelectorUnmatchedError: the selector matches nothing in a trial that was chosen by its id, or in all trials of
            the chosen variant.
        CheckpointMissingError, CheckpointInvalidError: the file of a checkpoint is missing, or cannot be used.
        CheckpointChangedError: the file of a checkpoint was changed after the end of the run.
        RunDamagedError: a record of the run was changed.
    """
    selector, changes = parse_selector(options.selector), parse_bindings(options.bindings)
    if options.control and not changes:
        raise ForkInvalidError("A control without --set would be the same as the forks.", remedy="Give --set.")
    _check_run(run, options)
    rows, of = _chosen(run, options)
    variant = next(each for each in run.config.variants if each.variant_id == rows[0]["row"]["variant_id"])
    parents, left_out = _parents(run, rows, selector, options)
    drift = _drift(run, parents, options)
    forked = Variant(
        variant_id=_variant_id(variant.variant_id, selector, changes), bindings=changed(variant.bindings, changes)
    )
    base = Variant(variant_id=_variant_id(variant.variant_id, selector, {}), bindings=variant.bindings)
    raw = parents_jsonl(parents)
    modes = Counter("input_only" if parent.file is None else "checkpoint" for parent in parents)
    facts = {
        "parent_run_id": run.run_id,
        "parent_run_dir": str(run.path),
        "parent_variant_id": variant.variant_id,
        "selector": options.selector,
        "point": str(selector),
        "set": changes,
        "strict": options.strict,
        "control": options.control,
        "parents": len(parents),
        "parents_of_variant": of,
        "parents_digest": digest_of(raw),
        "fallback_modes": dict(modes),
        "left_out": dict(left_out),
        "drift": drift,
    }
    return PlannedFork(
        run,
        _config_of(run.config, base if options.control else variant, forked, parents),
        parents,
        raw,
        facts,
        [*_warnings(variant, changes, modes, left_out, len(parents)), *_drift_warnings(drift)],
    )


def _check_run(run: RunFolder, options: ForkOptions) -> None:
    if run.config.design.policies.state.carries_state:
        raise TrialStateError(
            f"{run.run_id} carries state from trial to trial, which a checkpoint does not contain.",
            remedy="Only trials with the state policy isolate_per_trial can be forked.",
        )
    level = run.config.runtime.harness.integration_level
    if options.strict and level is not IntegrationLevel.SDK_FULL:
        raise TrialStateError(
            f"--strict refuses {run.run_id}: its harness has the level {level.value}, not sdk_full.",
            remedy="Fork it without --strict.",
        )


def _chosen(run: RunFolder, options: ForkOptions) -> tuple[list[Mapping[str, Any]], int]:
    """Select the trials to fork (to run again from a checkpoint); all of them must be of the same variant.

    Returns:
        The journal entries of the selected trials, ordered by the trials' numbers; and the number of trials of the
            variant that have a result.

    Raises:
        ForkInvalidError: `options` has both trial ids and a variant, or neither; or the trials are of several variants.
        TrialNotFoundError: a selected trial, or every trial of the selected variant, lacks a result.
    """
    if bool(options.trials) == (options.variant is not None):
        raise ForkInvalidError("Choose the trials in one way: --from-trial (may be repeated) or --variant.")
    wanted, counts = dict.fromkeys(options.trials), Counter[str]()
    found: dict[str, Mapping[str, Any]] = {}
    for entry in read_journal(run.path):
        row = entry["row"]
        counts[row["variant_id"]] += 1
        if row["trial_id"] in wanted or row["variant_id"] == options.variant:
            found[row["trial_id"]] = entry
    missing = [trial_id for trial_id in wanted if trial_id not in found]
    if missing:
        raise TrialNotFoundError(
            f"{run.run_id} has no trial {missing[0][:100]!r} with a result.",
            remedy=f"To see its trials: lab trials {run.run_id}",
        )
    if not found:
        names = ", ".join(variant.variant_id for variant in run.config.variants)
        raise TrialNotFoundError(
            f"{run.run_id} has no trial of the variant {options.variant!r} with a result; its variants are {names}."
        )
    variants = sorted({entry["row"]["variant_id"] for entry in found.values()})
    if len(variants) > 1:
        raise ForkInvalidError(
            f"The trials are of several variants: {', '.join(variants)}.",
            remedy="Fork the trials of one variant at a time.",
        )
    # In the order of their numbers, so that a fork of the same trials has the same plan.
    ordered = sorted(found.values(), key=lambda entry: (len(entry["row"]["trial_id"]), entry["row"]["trial_id"]))
    return ordered, counts[variants[0]]


def _parents(
    run: RunFolder, entries: Sequence[Mapping[str, Any]], selector: Selector, options: ForkOptions
) -> tuple[list[Parent], Counter[str]]:
    """Return the trials to fork with their checkpoints, and `{reason: number of trials that are not forked}`.

    Trials that are chosen by id are all forked. If a trial has no checkpoints, its fork begins from the trial's input.

    If `options.variant` chooses all trials of a variant, trials in which `selector` matches nothing are not forked. Of
    the others, those with a checkpoint are forked. Only if none has a checkpoint, all are forked, from their input.

    Args:
        run: the run of the trials.
        entries: the journal entries of the chosen trials.
        selector: which checkpoint of each trial the fork begins from.
        options: the options of the forks.

    Raises:
        SelectorUnmatchedError: `selector` matches nothing in a trial that was chosen by its id, or in all trials of the
            chosen variant.
        TrialStateError: a trial has no checkpoint, and `options.strict` is set.
        CheckpointMissingError, CheckpointInvalidError: the file of a checkpoint is missing, or cannot be used.
        RunDamagedError: a file of a trial was changed.
    """
    found: list[Parent] = []
    left_out: Counter[str] = Counter()
    first_error: SelectorUnmatchedError | None = None
    for entry in entries:
        for damage in damage_of_trial(run.path, entry):
            raise RunDamagedError(f"{damage}.", remedy="Restore the file from a copy; the trial cannot be forked.")
        try:
            found.append(_parent(run, entry["row"], selector))
        except SelectorUnmatchedError as error:
            if options.variant is None:
                raise
            first_error = first_error or error
            left_out["selector_unmatched"] += 1
    without = [parent for parent in found if parent.file is None]
    if without and options.strict:
        raise TrialStateError(
            f"--strict refuses {without[0].row['trial_id']}: its harness has named no checkpoint.",
            remedy="Fork it without --strict, then it begins from its input only.",
        )
    if options.variant is not None and len(without) < len(found):
        found = [parent for parent in found if parent.file is not None]
        left_out.update({"no_checkpoint": len(without)} if without else {})
    if not found:
        assert first_error is not None
        raise first_error
    return found, left_out


def _parent(run: RunFolder, row: Mapping[str, Any], selector: Selector) -> Parent:
    folder = trial_folder(run.path, row["trial_id"])
    try:
        checkpoint = choose(selector, named_checkpoints(run.config, folder), events_of(run, folder, row))
    except SelectorUnmatchedError as error:
        raise SelectorUnmatchedError(f"{run.run_id}.{row['trial_id']}: {error.message}", remedy=error.remedy) from error
    if checkpoint is None:
        return Parent(row)
    return Parent(row, checkpoint, find_checkpoint(run.config, folder, checkpoint))


def _drift(run: RunFolder, parents: Sequence[Parent], options: ForkOptions) -> list[dict[str, str]]:
    """Return `{path, digest}` of each checkpoint that was changed after the end of the run; `digest` is the new one.

    A change is found by comparison with the seal, the file with the digests of all files at the end of the run; a
    checkpoint that the seal lacks counts as changed. Without a seal, no change is found.

    Raises:
        CheckpointChangedError: a checkpoint was changed, and `options.allow_drift` is not set.
    """
    files = {
        f"trials/{parent.row['trial_id']}/{parent.file.stored}": parent.file
        for parent in parents
        if parent.file is not None
    }
    changed_paths = sorted(changed_since_seal(run.path, files))
    if changed_paths and not options.allow_drift:
        raise CheckpointChangedError(
            f"The checkpoint {run.path / changed_paths[0]} was changed since the run was sealed; its digest is now "
            f"{files[changed_paths[0]].digest}.",
            remedy="Restore it from a copy, choose another checkpoint, or fork from it as it is with --allow-drift, which "
            "records the change.",
        )
    return [{"path": path, "digest": files[path].digest} for path in changed_paths]


def _drift_warnings(drift: Sequence[Mapping[str, str]]) -> list[str]:
    if not drift:
        return []
    return [f"{len(drift):,} checkpoints were changed since their run was sealed; the first: {drift[0]['path']}"]


def _variant_id(parent: str, selector: Selector, changes: Mapping[str, Any]) -> str:
    """Return an id for the variant of forks, such as `control@step:7,temperature=0.7`.

    Args:
        parent: the id of the variant of the parents, the trials at whose checkpoints the forks begin.
        selector: the point from which the forks begin.
        changes: the changed bindings (values that the harness gets), by dotted name.
    """
    said = [f"{name}={value if isinstance(value, str) else canonical_json(value)}" for name, value in changes.items()]
    full = ",".join([f"{parent}@{selector.text}", *said])
    text = "".join(letter if letter.isprintable() and letter != "/" else "_" for letter in full)
    if text == full and len(text) <= MAX_ID_LENGTH:
        return text
    mark = hashlib.sha256(full.encode()).hexdigest()[:_HASH_CHARS]
    return f"{text[: MAX_ID_LENGTH - _HASH_CHARS - 1]}~{mark}"


def _config_of(
    config: ExperimentConfig, baseline: Variant, forked: Variant, parents: Sequence[Parent]
) -> ExperimentConfig:
    repeats = Counter(parent.row["task_index"] for parent in parents)
    # All forks are to be run, so the stopping rule and the ceilings of the parents' experiment do not apply to them.
    policies = config.design.policies.model_copy(update={"stopping": None, "budget": None})
    design = config.design.model_copy(
        update={"replications": max(repeats.values()), "comparison": "paired", "policies": policies}
    )
    return config.model_copy(update={"baseline": baseline, "variant_plan": [forked], "design": design})


def _warnings(
    variant: Variant, changes: Mapping[str, Any], modes: Counter[str], left_out: Counter[str], parents: int
) -> list[str]:
    found = []
    names = unknown(variant.bindings, changes)
    if names:
        found.append(
            f"{', '.join(names[:_SHOWN])} is not among the bindings of {variant.variant_id!r}; the forks get it in addition."
        )
    if modes["input_only"]:
        found.append(
            f"{modes['input_only']:,} of {parents:,} forks begin from their input only, because their parents have"
            " named no checkpoint."
        )
    if left_out:
        found.append(
            f"{left_out.total():,} trials of {variant.variant_id!r} are left out: they have no such checkpoint."
        )
    return found
