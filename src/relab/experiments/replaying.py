"""Replay a trial: run it again from the artifacts of its run, and report how its outcome and its events differ."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydantic_core

from relab.core.clock import Clock
from relab.experiments.config.models import IntegrationLevel
from relab.experiments.config.paths import LAB, REPLAYS
from relab.experiments.errors import RunDamagedError, RunDiskFullError, TrialNotFoundError, TrialStateError
from relab.experiments.executors.protocol import ExecutorOptions
from relab.experiments.executors.registry import make_executor
from relab.experiments.models import LOCAL_EXECUTOR, Keep, StopSwitch
from relab.experiments.plan.dataset import TaskIndex
from relab.experiments.plan.trials import Trial, trial_at
from relab.experiments.records.forks import plan_of_run, sources_of
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder, disk_errors_of
from relab.experiments.records.run_snapshot import check_image, kept_snapshot
from relab.experiments.results.integrity import damage_of_trial
from relab.experiments.results.trial_views import changes_of, document_of, events_of
from relab.experiments.trial.context import RunContext, RunSettings
from relab.experiments.trial.redaction import secrets_of
from relab.experiments.trial.span_usage import ESTIMATED_COST
from relab.experiments.trial.trial_folder import INPUT, OUTPUT, TrialFolder, trial_folder

_ROW: Final = ("outcome", "error_type", "exit_code", "attempts")
_OF_TIME: Final = frozenset(("ts", "timing", "control_version"))
"""Fields of events that differ each time: the control file, whose digest is the version, has the time of its request."""
_CONTEXT_LINES: Final = 2
_MAX_VALUE_CHARS: Final = 300


@dataclass(frozen=True)
class ReplayDifference:
    """A value that differs between the run and the replay.

    Attributes:
        where: the name of the value: the name of a field of the result, or `metric <name>`, `input`, `output`, `events`
            or `file <path>`.
        before: the value in the run.
        after: the value in the replay.
    """

    where: str
    before: str
    after: str


@dataclass(frozen=True)
class Replayed:
    """A replayed trial.

    Attributes:
        trial: the trial, as `<run id>.<trial id>`.
        replay_dir: the folder of the replay's files.
        differences: the values that differ from the run; empty if the replay is identical.
        events: the lines of a unified difference of the events; empty if they are the same.
    """

    trial: str
    replay_dir: Path
    differences: list[ReplayDifference]
    events: list[str]

    @property
    def is_identical(self) -> bool:
        """Whether result, metrics, input, output, events and changed files are the same as in the run.

        Times, durations and estimated costs are not compared.
        """
        return not self.differences


def replay(
    run: RunFolder, trial_id: str, *, strict: bool, clock: Clock, environment: Mapping[str, str], stop: StopSwitch
) -> Replayed:
    """Run a trial again in a new folder, and compare the new result with the old one; the run is not changed.

    Args:
        run: the run.
        trial_id: the id of a trial with a result.
        strict: whether to reject a retried or paused trial, or a harness below the integration level `sdk_full` (the
            highest level).
        clock: the source of the times in documents.
        environment: the runner's environment variables; the harness gets its variables and secrets from them.
        stop: the first press prevents the start of the trial; the second press ends the running trial.

    Raises:
        TrialNotFoundError: the run has no trial with this id, or the trial has no result.
        TrialStateError: trials of the run may continue from the state of other trials, or `strict` rejects the trial.
        RunDamagedError: a document of the trial was changed.
        RunChangedError: the project's snapshot is gone from the cache, or the container image was changed.
        RunDiskFullError: the disk is full.
        ExperimentInvalidError: a secret is not set.
        SandboxUnavailableError: this machine cannot provide the sandbox.
        TrialStopped: `stop` prevented the trial or ended it.
    """
    entry = next((entry for entry in read_journal(run.path) if entry["row"]["trial_id"] == trial_id), None)
    if entry is None:
        raise TrialNotFoundError(
            f"{run.run_id} has no trial {trial_id[:100]!r} with a result.",
            remedy=f"To see its trials: lab trials {run.run_id}",
        )
    before = trial_folder(run.path, trial_id)
    _check(run, entry, before, strict=strict)
    tasks, root = run.tasks(), Path(run.facts["project_root"])
    trial = _trial(run, trial_id, tasks)
    folder = root / LAB / REPLAYS / f"{run.run_id}.{trial_id}.{secrets.token_hex(3)}"
    try:
        with disk_errors_of(folder):
            after = _run(run, trial, tasks, folder, clock, environment, stop)
    except RunDiskFullError as error:
        # A replay is no run that could be continued.
        raise RunDiskFullError(error.message, remedy="Free disk space, then replay the trial again.") from error
    return _compared(run, entry, before, after, folder)


def _check(run: RunFolder, entry: Mapping[str, Any], folder: TrialFolder, *, strict: bool) -> None:
    if run.config.design.policies.state.carries_state:
        raise TrialStateError(
            f"{run.run_id} carries state from trial to trial, and {folder.root.name} may continue from another one.",
            remedy="Only trials with the state policy isolate_per_trial can be replayed.",
        )
    for damage in damage_of_trial(run.path, entry):
        raise RunDamagedError(
            f"{damage}.", remedy="Restore the file from a copy; the trial cannot be replayed from it."
        )
    if not strict:
        return
    level = run.config.runtime.harness.integration_level
    problems = [
        (level is not IntegrationLevel.SDK_FULL, f"its harness has the level {level.value}, not sdk_full"),
        (entry["row"]["attempts"] > 1, "it was retried"),
        ((folder.root / "segments").exists(), "it was paused"),
    ]
    for is_so, why in problems:
        if is_so:
            raise TrialStateError(f"--strict refuses {folder.root.name}: {why}.", remedy="Replay it without --strict.")


def _trial(run: RunFolder, trial_id: str, tasks: TaskIndex) -> Trial:
    number = int(trial_id.removeprefix("trial_"))
    return trial_at(plan_of_run(run, len(tasks)).slot(number - 1), run.config, tasks, run_id=run.run_id)


def _run(
    run: RunFolder,
    trial: Trial,
    tasks: TaskIndex,
    folder: Path,
    clock: Clock,
    environment: Mapping[str, str],
    stop: StopSwitch,
) -> Mapping[str, Any]:
    """Run a trial of a run again in a new folder; return the journal entry of the new execution, as JSON.

    Args:
        run: the run.
        trial: the trial.
        tasks: the index of the run's own copy of the data set.
        folder: the new folder.
        clock: the source of the times in documents.
        environment: the runner's environment variables; the harness gets its variables and secrets from them.
        stop: the switch that prevents the start of the trial or ends it.
    """
    root = Path(run.facts["project_root"])
    snapshot = kept_snapshot(run, root)
    settings = RunSettings(
        config=run.config,
        run_id=run.run_id,
        root=root,
        clock=clock,
        host_environment=environment,
        secrets=secrets_of(run.config, environment),
    )
    executor = make_executor(LOCAL_EXECUTOR, ExecutorOptions(settings=settings, stop=stop, on_spans=_drop))
    try:
        executor.prepare(folder)
        check_image(run, executor.image_digest)
        folder.mkdir(parents=True, mode=0o700)
        executor.open(
            RunContext(
                **vars(settings),
                run_dir=folder,
                snapshot=snapshot,
                dataset=tasks.path.parent,
                harness_identity=run.facts["harness_identity"],
                keep=Keep.ALL,
                forks=sources_of(run),
            )
        )
        return executor.submit(trial).result().entry
    finally:
        executor.close()


def _drop(*_arguments: object) -> None:
    """Do not store an OTLP export of a replayed harness as telemetry; the files in the trial's folder are enough."""


def _compared(
    run: RunFolder, entry: Mapping[str, Any], before: TrialFolder, after: Mapping[str, Any], replay_dir: Path
) -> Replayed:
    folder = trial_folder(replay_dir, before.root.name)
    rows = entry["row"], after["row"]
    found = [_difference(name, rows[0][name], rows[1][name]) for name in _ROW]
    metrics = [{**row["metrics"], "duration_ms": None, ESTIMATED_COST: None} for row in rows]
    found += [
        _difference(f"metric {name}", metrics[0].get(name), metrics[1].get(name))
        for name in sorted({*metrics[0], *metrics[1]})
    ]
    for name, file in (("input", INPUT), ("output", OUTPUT)):
        documents = [_document(each, file) for each in (before, folder)]
        found.append(_difference(name, *documents))
    was_paused = (before.root / "segments").exists()
    events = [_events(run, each, row, was_paused=was_paused) for each, row in zip((before, folder), rows, strict=True)]
    lines = list(difflib.unified_diff(events[0], events[1], "run", "replay", n=_CONTEXT_LINES, lineterm=""))
    if lines:
        place = _first_difference(events[0], events[1]) + 1
        found.append(
            ReplayDifference(
                "events", f"{len(events[0]):,} events", f"{len(events[1]):,}; they differ from the {place}. on"
            )
        )
    files = [changes_of(run_dir, each) for run_dir, each in ((run.path, entry), (replay_dir, after))]
    kept = [
        {item["path"]: f"{how} {item.get('digest', '')}" for how, items in each.items() for item in items}
        for each in files
    ]
    found += [
        _difference(f"file {path}", kept[0].get(path, "unchanged"), kept[1].get(path, "unchanged"))
        for path in sorted({*kept[0], *kept[1]})
    ]
    return Replayed(
        f"{run.run_id}.{before.root.name}", replay_dir, [each for each in found if each.before != each.after], lines
    )


def _difference(where: str, before: object, after: object) -> ReplayDifference:
    texts = [value if isinstance(value, str) else pydantic_core.to_json(value).decode() for value in (before, after)]
    if texts[0] != texts[1]:
        # From a little before the first difference on, so that long values show it.
        start = max(_first_difference(*texts) - _MAX_VALUE_CHARS // 3, 0)
        texts = [("…" if start else "") + text[start : start + _MAX_VALUE_CHARS] for text in texts]
    return ReplayDifference(where, texts[0], texts[1])


def _first_difference(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the index of the first item that differs, or the length of the shorter sequence."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))


def _document(folder: TrialFolder, name: str) -> Any:
    """Return a document of a trial as text, to compare a run with its replay; None if the trial lacks the document.

    In the text, the path of the trial's folder is replaced by `<trial>`. The field `ext.resume`, which only a trial
    that was paused and resumed has, is removed.
    """
    document = document_of(folder, name)
    if document is None:
        return None
    ext = {key: value for key, value in document.get("ext", {}).items() if key != "resume"}
    document = {key: value for key, value in document.items() if key != "ext"} | ({"ext": ext} if ext else {})
    return pydantic_core.to_json(document).decode().replace(str(folder.root), "<trial>")


def _events(run: RunFolder, folder: TrialFolder, row: Mapping[str, Any], *, was_paused: bool) -> list[str]:
    lines = []
    for event in events_of(run, folder, row):
        if was_paused and event["event_type"] == "control_ack":
            continue
        hidden = _OF_TIME | {"ids"} | ({"seq"} if was_paused else frozenset())
        kept = {name: value for name, value in event.items() if name not in hidden}
        lines.append(pydantic_core.to_json(kept).decode().replace(str(folder.root), "<trial>"))
    return lines
