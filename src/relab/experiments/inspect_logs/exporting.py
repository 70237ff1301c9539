"""Write a run as logs of Inspect: one `.eval` file for each variant, in the layout of log version 2."""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pydantic_core

from relab import __version__
from relab.core.atomic_files import replacing
from relab.experiments.config.models import Variant
from relab.experiments.inspect_logs.archive import write_archive
from relab.experiments.inspect_logs.errors import InspectExportError
from relab.experiments.inspect_logs.logs import HEADER, SAMPLES, START, SUMMARIES, VERSION, object_of
from relab.experiments.inspect_logs.samples import ExportedTrial
from relab.experiments.inspect_logs.scores import number_of
from relab.experiments.records.journal import read_journal
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.results.trial_views import document_of, events_of
from relab.experiments.trial.trial_folder import OUTPUT, trial_folder

_ID_CHARS: Final = 22


@dataclass(frozen=True)
class Exported:
    """The logs that an export of a run has written; `logs` is `{variant id: path}`."""

    run_id: str
    logs: Mapping[str, Path]


@dataclass
class _Totals:
    """Counts, ids, scores, tokens and times of the samples that were written so far, for the header of the log.

    Attributes:
        sample_ids: the ids, as the keys of a dictionary.
        count: the number of written samples; a sample is written once for each epoch (repeat).
        failed: the number of these samples with an error.
        summaries: the summary of each sample.
        usage: `{model: {kind of tokens: number}}`, summed over the samples.
        times: the starts and ends of the samples, in ISO 8601.
    """

    sample_ids: dict[str | int, None] = field(default_factory=dict)
    count: int = 0
    failed: int = 0
    summaries: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[tuple[str, str, bool], dict[str | int, list[float]]] = field(default_factory=dict)
    """The values of each sample, by `(scorer, name of the score, whether the score is a letter)`."""
    usage: dict[str, dict[str, int]] = field(default_factory=dict)
    times: list[str] = field(default_factory=list)

    def note(self, trial: ExportedTrial) -> None:
        self.sample_ids[trial.sample_id] = None
        self.count += 1
        self.failed += trial.error() is not None
        self.summaries.append(trial.summary())
        self.times += [trial.row["started_at"], trial.row["ended_at"]]
        for scorer, score in trial.scores().items():
            value = object_of(score).get("value")
            for name, part in value.items() if isinstance(value, dict) else ((scorer, value),):
                values = self.scores.setdefault((scorer, name, isinstance(part, str)), {})
                number = number_of(part)
                if number is not None:
                    values.setdefault(trial.sample_id, []).append(number)
        for model, spent in trial.usage().items():
            total = self.usage.setdefault(model, dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0))
            for name, value in spent.items():
                if type(value) is int:
                    total[name] = total.get(name, 0) + value


def export_run(run: RunFolder, folder: Path) -> Exported:
    """Write one log of Inspect AI (`.eval`) for each variant of a run that has started trials; leave out the others.

    A log has only the trials that have started.

    Args:
        run: the run.
        folder: the folder of the logs; created if it is missing.

    Raises:
        RunDamagedError: the journal is damaged.
        InspectExportError: a log exists already, or no trial of the run has started.
        OSError: the disk is full.
    """
    trials = {variant.variant_id: variant for variant in run.config.variants}
    paths = {name: folder / _file_name(run, name) for name in trials}
    for path in paths.values():
        if path.exists():
            raise InspectExportError(
                f"{path} exists already.", remedy="Delete it, or choose another folder with --out."
            )
    has_samples = {entry["row"]["variant_id"] for entry in read_journal(run.path) if entry["row"]["started_at"]}
    if not has_samples:
        raise InspectExportError(f"No trial of {run.run_id} has started, so there is no sample to write.")
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, path in paths.items():
        if name in has_samples:
            with replacing(path) as fresh:
                write_archive(fresh, _entries(run, trials[name]))
            written[name] = path
    return Exported(run.run_id, written)


def _entries(run: RunFolder, variant: Variant) -> Iterator[tuple[str, bytes]]:
    """Yield `(name, content)` of each entry of a variant's log.

    The samples come first, because the header contains sums over all samples.
    """
    totals = _Totals()
    for trial in _trials(run, variant):
        totals.note(trial)
        name = f"{SAMPLES}{trial.sample_id}_epoch_{trial.row['repl_idx'] + 1}.json"
        yield name, pydantic_core.to_json(trial.document())
    spec, plan = _spec(run, variant, totals), _plan(run, variant)
    yield START, pydantic_core.to_json({"version": VERSION, "eval": spec, "plan": plan})
    yield SUMMARIES, pydantic_core.to_json(totals.summaries)
    header = {
        "version": VERSION,
        "status": _status(run, variant),
        "eval": spec,
        "plan": plan,
        "results": _results(totals),
        "stats": {"started_at": min(totals.times), "completed_at": max(totals.times), "model_usage": totals.usage},
    }
    yield HEADER, pydantic_core.to_json(header)


def _trials(run: RunFolder, variant: Variant) -> Iterator[ExportedTrial]:
    tasks = run.tasks()
    for entry in read_journal(run.path):
        row = entry["row"]
        if row["variant_id"] != variant.variant_id or row["started_at"] is None:
            continue
        folder = trial_folder(run.path, row["trial_id"])
        events = events_of(run, folder, row)
        output = document_of(folder, OUTPUT) or {}
        yield ExportedTrial(row, tasks.read(row["task_index"]).payload, output, events, _model(variant))


def _model(variant: Variant) -> str:
    found = variant.bindings.get("model")
    return found if isinstance(found, str) and found else variant.variant_id


def _status(run: RunFolder, variant: Variant) -> str:
    kept = object_of(_origin(run, variant)).get("status")
    if kept in {"success", "error", "cancelled"}:
        return str(kept)
    return "success" if run.status() == "completed" and kept is None else "cancelled"


def _origin(run: RunFolder, variant: Variant) -> Mapping[str, Any]:
    """Return the stored data about the log that a variant was imported from; empty if the variant was not imported."""
    logs = object_of(object_of(run.facts.get("inspect")).get("logs"))
    return object_of(logs.get(variant.variant_id))


def _spec(run: RunFolder, variant: Variant, totals: _Totals) -> dict[str, Any]:
    config = run.config
    kept = {name: value for name, value in object_of(_origin(run, variant).get("eval")).items() if value is not None}
    samples = list(totals.sample_ids)
    spec: dict[str, Any] = {
        "eval_id": _id(run.run_id, variant.variant_id),
        "run_id": run.run_id,
        "created": min(totals.times),
        "task": config.experiment.name if kept else config.experiment.id,
        "task_id": _id(config.experiment.id),
        "task_version": 0,
        "dataset": {
            "name": config.dataset.suite_id,
            "samples": len(samples),
            "sample_ids": samples,
            "shuffled": config.design.shuffle_tasks,
        },
        "model": _model(variant),
        "config": {"epochs": config.design.replications},
        "packages": {"relab": __version__},
        "scorers": [{"name": name} for name in dict.fromkeys(scorer for scorer, _, _ in totals.scores)],
        "metadata": {"relab": {"run_id": run.run_id, "variant_id": variant.variant_id, "bindings": variant.bindings}},
    }
    return spec | kept | {"packages": {**object_of(kept.get("packages")), "relab": __version__}}


def _plan(run: RunFolder, variant: Variant) -> dict[str, Any]:
    name = variant.bindings.get("solver") if _origin(run, variant) else None
    command = run.config.runtime.harness.command
    step = {"solver": name or Path(command[0]).name, "params": {} if name else {"command": command, **variant.bindings}}
    return {"name": "plan", "steps": [step], "config": {}}


def _results(totals: _Totals) -> dict[str, Any]:
    scores = [_score(*key, list(values.values()), totals) for key, values in totals.scores.items()]
    return {"total_samples": totals.count, "completed_samples": totals.count - totals.failed, "scores": scores}


def _score(
    scorer: str, name: str, is_letter: bool, values: Sequence[Sequence[float]], totals: _Totals
) -> dict[str, Any]:
    """Return the result of one score for the log's header: the mean over samples, and the standard error of the mean.

    The value of a sample is its mean over the epochs (repeats).

    Args:
        scorer: the name of the scorer.
        name: the name of the score; for a scorer that gives several values, the key of one of them.
        is_letter: whether the score was given as text (C or I); its mean is then named accuracy.
        values: for each sample, the values of its epochs.
        totals: the sums over all samples, for the header of the log.
    """
    means = [statistics.fmean(repeats) for repeats in values]
    metrics = {"accuracy" if is_letter else "mean": statistics.fmean(means)} if means else {}
    if len(means) > 1:
        metrics["stderr"] = statistics.stdev(means) / math.sqrt(len(means))
    scored = sum(map(len, values))
    return {
        "name": name,
        "scorer": scorer,
        "reducer": "mean",
        "scored_samples": scored,
        "unscored_samples": totals.count - scored,
        "params": {},
        "metrics": {key: {"name": key, "value": value, "params": {}} for key, value in metrics.items()},
    }


def _file_name(run: RunFolder, variant: str) -> str:
    """Return the name of a variant's log file in Inspect's form: time, task and id."""
    created = re.sub(r"[^0-9T]+", "-", str(run.manifest["created_at"])[:19])
    task = re.sub(r"[^\w.-]+", "-", run.config.experiment.id)[:60]
    return f"{created}-00-00_{task}_{_id(run.run_id, variant)}.eval"


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_ID_CHARS]
