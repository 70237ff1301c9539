"""Create runs from logs of Inspect: samples become tasks, epochs become repeats, and each log becomes a variant.

The folder of an imported run has the same files as that of any other run, so all commands that read runs can read it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pydantic_core

from relab.core.clock import Clock, format_time, parse_time
from relab.core.ids import check_id
from relab.core.json import digest
from relab.experiments.config.models import MAX_REPLICATIONS, ExperimentConfig, Variant
from relab.experiments.config.paths import runs_folder
from relab.experiments.inspect_logs.archive import MAX_ENTRY_BYTES
from relab.experiments.inspect_logs.errors import (
    InspectLogError,
    InspectLogImportedError,
    InspectLogsDifferError,
    refused,
)
from relab.experiments.inspect_logs.logs import InspectLog, InspectSample, clean, open_log, text_of
from relab.experiments.inspect_logs.trials import EMPTY_WORKSPACE, SamplePlace, SampleTrials
from relab.experiments.models import TrialIds, TrialOutcome
from relab.experiments.plan.dataset import index_tasks
from relab.experiments.plan.trials import trial_id_of
from relab.experiments.proof.proving import Signer, prove_run
from relab.experiments.records.file_names import SEAL_FORMAT
from relab.experiments.records.journal import Journal
from relab.experiments.records.journal_lines import FORMAT
from relab.experiments.records.run_folder import RunFolder, begin_run, locked
from relab.experiments.results.finishing import finish_run
from relab.experiments.results.provenance import run_manifest

COMMAND: Final = "inspect import"
"""The command in the manifest of an imported run."""
_MAX_ID: Final = 150

SendRun = Callable[[dict[str, Any] | None], None]
"""Gets the agent run of each trial, as JSON."""


@dataclass(frozen=True)
class ImportOptions:
    """How logs become runs.

    Attributes:
        scorer: the name of the score that decides whether a sample is a success; None for the first log's first scorer.
        success_at: the smallest value of this score that is a success.
        baseline: the id of the variant that the others are compared with; None for the variant of the first log.
        max_entry_bytes: the largest decompressed size of a sample; a log with a larger sample is rejected.
    """

    scorer: str | None = None
    success_at: float = 1.0
    baseline: str | None = None
    max_entry_bytes: int = MAX_ENTRY_BYTES


@dataclass(frozen=True)
class Imported:
    """A run that was created from logs.

    Attributes:
        logs: `{variant id: path of its log}`.
        scorer: the name of the score that decides about success; None if the logs have no scorer.
        outcomes: `{variant id: {outcome: number of trials}}`.
        warnings: sentences for the user, for example about an unfinished log.
    """

    run_id: str
    run_dir: Path
    task: str
    scorer: str | None
    logs: Mapping[str, str]
    outcomes: Mapping[str, Mapping[str, int]]
    warnings: Sequence[str]


@dataclass
class _Plan:
    """The tasks of a run. `names` is `{task id: sample id}`, `digests` `{sample id: digest}`, `epochs` the repeats."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    epochs: int = 1


def import_logs(
    root: Path, paths: Sequence[Path], options: ImportOptions, clock: Clock, send: SendRun
) -> list[Imported]:
    """Import logs as runs. The logs of one task of Inspect become one run, and each log becomes a variant.

    Args:
        root: the folder of the project.
        paths: the `.eval` files.
        options: how the logs become runs.
        clock: gives the time of the import, for the documents of the runs.
        send: is called with the agent run of each trial.

    Raises:
        InspectLogError: a log cannot be imported. The runs of tasks that were imported before are kept.
        InspectLogsDifferError: logs of one task have different samples or scorers.
        InspectLogImportedError: the project already has a run of these logs.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        groups: dict[str, list[InspectLog]] = {}
        for path in dict.fromkeys(paths):
            log = stack.enter_context(open_log(path, options.max_entry_bytes))
            groups.setdefault(log.task, []).append(log)
        return [_import(root, logs, options, clock, send) for logs in groups.values()]


def _import(root: Path, logs: Sequence[InspectLog], options: ImportOptions, clock: Clock, send: SendRun) -> Imported:
    plan = _plan_of(logs)
    scorer = _scorer_of(logs, options.scorer)
    named = _variants(logs, options.baseline)
    run_id = _run_id(logs, scorer, options)
    run_dir = runs_folder(root) / run_id
    imported = InspectLogImportedError(
        f"These logs are already imported: {run_dir}.", remedy=f"To import them anew, first: lab clean {run_id}"
    )
    if run_dir.exists():
        raise imported
    warnings = [text for log in logs for text in _warnings(log)]
    facts = {
        "warnings": warnings,
        "inspect": {"scorer": scorer, "logs": {name: _origin(log) for name, log in named.items()}},
    }
    try:
        run = _begin(root, run_dir, _config_of(logs[0], plan, named), plan, facts, clock)
    except FileExistsError as error:
        # Another process began the same import after the check, and the folder is its own.
        raise imported from error
    try:
        with locked(run.path):
            outcomes = _write_trials(run, plan, named, SampleTrials(run, scorer, options.success_at), send)
            finish_run(run, is_complete=True)
            run.write_control("completed", clock.now_us())
            # Sealed and not signed: a signature would state that the trials ran here.
            prove_run(run, Signer())
    except BaseException:
        # An incomplete run would look like an interrupted run, but no command could continue it.
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    paths = {name: str(log.path) for name, log in named.items()}
    return Imported(run_id, run_dir, logs[0].task, scorer, paths, outcomes, warnings)


def _plan_of(logs: Sequence[InspectLog]) -> _Plan:
    """Read all samples of some logs; return the tasks that the samples become, and the number of repeats.

    Raises:
        InspectLogsDifferError: the same id names different samples in two logs.
        InspectLogError: the logs have no sample or too many epochs, or two sample ids would become one task id.
    """
    plan = _Plan(epochs=max(log.epochs for log in logs))
    for log in logs:
        for sample in log.samples():
            payload, name = sample.task, task_id_of(sample.sample_id)
            found = digest(payload)
            if plan.digests.setdefault(sample.sample_id, found) != found:
                raise InspectLogsDifferError(
                    f"The sample {sample.sample_id!r} of {log.path} has another input, target or choices than in the other logs.",
                    remedy="Import logs of one data set together, and others apart.",
                )
            if plan.names.setdefault(name, sample.sample_id) != sample.sample_id:
                raise refused(InspectLogError, log.path, f"has two samples whose ids become {name!r}")
            if name not in plan.tasks:
                plan.tasks[name] = _task(name, sample, payload)
            plan.epochs = max(plan.epochs, sample.epoch)
    if not plan.tasks:
        raise InspectLogError(
            f"{', '.join(str(log.path) for log in logs)}: no sample is in the log.",
            remedy="A log has samples if the evaluation was run with --log-samples, which is the default.",
        )
    if plan.epochs > MAX_REPLICATIONS:
        raise InspectLogError(
            f"{logs[0].path} has {plan.epochs:,} epochs; at most {MAX_REPLICATIONS:,} can be imported."
        )
    return plan


def task_id_of(sample_id: str) -> str:
    """Return a task id for a sample's id: the same id if it is valid, else percent-encoded.

    A long encoded id is cut, and a digest of the sample's id is appended.
    """
    try:
        return check_id(sample_id)
    except ValueError:
        encoded = quote(sample_id, safe=" :,;=+()[]{}@!$'*~")
        if encoded in {".", ".."}:
            encoded = encoded.replace(".", "%2E")
        if len(encoded) <= _MAX_ID:
            return encoded
        return f"{encoded[:_MAX_ID]}~{hashlib.sha256(sample_id.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _task(name: str, sample: InspectSample, payload: Mapping[str, Any]) -> dict[str, Any]:
    question = sample.document.get("input")
    return {
        "task_id": name,
        "prompt": clean(prompt_of(question)),
        **{key: value for key, value in payload.items() if key != "input" and value is not None},
        "metadata": clean(sample.section("metadata")),
        "inspect": {"id": clean(sample.document.get("id")), "input": payload["input"]},
    }


def prompt_of(question: Any) -> str:
    """Return the input of a sample as text. The messages of a list are joined with blank lines."""
    if isinstance(question, list):
        return "\n\n".join(text_of(item.get("content")) for item in question if isinstance(item, dict))
    return text_of(question)


def _scorer_of(logs: Sequence[InspectLog], asked: str | None) -> str | None:
    """Return the name of the score that decides about success: `asked` or, if it is None, the first log's first scorer.

    Return None if `asked` is None and the first log has no scorer.

    Raises:
        InspectLogsDifferError: a log has scorers, but not the scorer of this score.
    """
    wanted = asked or next(iter(logs[0].scorers), None)
    for log in logs:
        if (
            wanted is not None
            and log.scorers
            and wanted.partition(".")[0] not in log.scorers
            and wanted not in log.scorers
        ):
            raise InspectLogsDifferError(
                f"{log.path} has no scorer {wanted!r}; it has {', '.join(log.scorers)}.",
                remedy="Choose one with --scorer that all logs have.",
            )
    return wanted


def _variants(logs: Sequence[InspectLog], baseline: str | None) -> dict[str, InspectLog]:
    """Return `{variant id: log}`. The first item is the baseline: the variant `baseline`, or if None, the first log.

    An id is the model (`openai:gpt-4o`). If logs share a model, the solver is added; if ids are still equal, a number.

    Raises:
        InspectLogError: no log becomes the variant `baseline`.
    """
    models = [task_id_of(str(log.spec["model"]).replace("/", ":")) for log in logs]
    found: dict[str, InspectLog] = {}
    for log, model in zip(logs, models, strict=True):
        name = model if models.count(model) == 1 or not log.solver else task_id_of(f"{model} {log.solver}")
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name} #{number}"
        found[unique] = log
    if baseline is not None and baseline not in found:
        raise InspectLogError(f"No log becomes the variant {baseline!r}; the variants are {', '.join(found)}.")
    first = baseline or next(iter(found))
    return {first: found[first]} | found


def _warnings(log: InspectLog) -> Iterator[str]:
    if not log.is_finished:
        yield f"{log.path} is unfinished: Inspect still runs or was killed; only the samples in it are imported"
    elif log.status != "success":
        yield f"{log.path} has the status {log.status!r}; only the samples in it are imported"
    if log.header.get("invalidated"):
        yield f"{log.path} was invalidated in Inspect"
    if not log.scorers:
        yield f"{log.path} has no scorer, so no trial of it is a success or a failure"


def _run_id(logs: Sequence[InspectLog], scorer: str | None, options: ImportOptions) -> str:
    """Return the id of the run that an import of logs creates; the same logs and options always give the same id."""
    created = min(_created(log) for log in logs)
    parts = [[log.spec.get("eval_id"), log.spec.get("run_id"), log.status, digest(clean(log.header))] for log in logs]
    unique = digest([parts, scorer, options.success_at, options.baseline]).removeprefix("sha256:")[:6]
    return f"run_{datetime.fromtimestamp(created / 1_000_000, UTC):%Y%m%d_%H%M%S}_{unique}"


def _created(log: InspectLog) -> int:
    try:
        return parse_time(str(log.spec.get("created")))
    except ValueError:
        return 0


def _config_of(log: InspectLog, plan: _Plan, logs: Mapping[str, InspectLog]) -> ExperimentConfig:
    name = task_id_of(log.task)
    baseline, *others = [{"variant_id": variant, "bindings": log.bindings} for variant, log in logs.items()]
    return ExperimentConfig.model_validate(
        {
            "version": "0.3",
            "experiment": {"id": name, "name": log.task[:500], "tags": ["inspect"]},
            "dataset": {"path": "tasks.jsonl", "suite_id": name},
            "design": {"sanitization_profile": "none", "replications": plan.epochs},
            "baseline": baseline,
            "variant_plan": others,
            "runtime": {
                "harness": {"command": ["inspect", "eval", log.task], "integration_level": "cli_events"},
                "network": {"mode": "full"},
            },
        }
    )


def _begin(
    root: Path, run_dir: Path, config: ExperimentConfig, plan: _Plan, facts: Mapping[str, Any], clock: Clock
) -> RunFolder:
    """Create the folder of the imported run. The plan's tasks become the data set; the manifest contains `facts`."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspect-", dir=run_dir.parent.parent) as folder:
        dataset = Path(folder) / "tasks.jsonl"
        with dataset.open("wb") as file:
            for task in plan.tasks.values():
                file.write(pydantic_core.to_json(task) + b"\n")
        manifest = run_manifest(
            run_id=run_dir.name,
            created_at=format_time(clock.now_us()),
            digest=digest(config.resolved()),
            root=root,
            command=COMMAND,
            overrides=(),
            facts={
                "project_root": str(root),
                "total_trials": len(plan.tasks) * plan.epochs * len(config.variants),
                "dataset_digest": index_tasks(dataset, None).digest,
                "snapshot": EMPTY_WORKSPACE.digest,
                "keep_workspaces": "none",
                "harness_identity": {"entry_command": list(config.runtime.harness.command)},
                "image_digest": None,
                "journal": FORMAT,
                "seal": SEAL_FORMAT,
                **facts,
            },
        )
        return begin_run(run_dir, run_dir.name, config, dataset, manifest)


def _origin(log: InspectLog) -> dict[str, Any]:
    """Return what the run's manifest stores about an imported log; an export writes a part of it into the new log."""
    spec = log.spec
    names = (
        "eval_id", "run_id", "task", "task_id", "task_version", "created", "model", "solver", "scorers", "packages",
    )  # fmt: skip
    return {"path": str(log.path), "status": log.status, "eval": {name: clean(spec.get(name)) for name in names}}


def _write_trials(
    run: RunFolder, plan: _Plan, logs: Mapping[str, InspectLog], trials: SampleTrials, send: SendRun
) -> dict[str, dict[str, int]]:
    """Write a trial per planned sample; it is MISSING if not in the log. Return `{variant id: {outcome: trials}}`."""
    outcomes: dict[str, Counter[str]] = {variant: Counter() for variant in logs}
    indices = {name: index for index, name in enumerate(plan.tasks)}
    journal = Journal(run.path)
    journal.open()
    try:
        for position, variant in enumerate(run.config.variants):
            log = logs[variant.variant_id]

            def place(task_id: str, repeat: int, variant: Variant = variant, position: int = position) -> SamplePlace:
                index = indices[task_id]
                number = (position * plan.epochs + repeat) * len(indices) + index + 1
                ids = TrialIds(run.run_id, trial_id_of(number), variant.variant_id, task_id, repeat)
                return SamplePlace(ids, index, plan.tasks[task_id], variant)

            left = {(task_id, repeat) for task_id in indices for repeat in range(plan.epochs)}
            for sample in log.samples():
                key = (task_id_of(sample.sample_id), sample.epoch - 1)
                if key not in left:
                    raise refused(
                        InspectLogError, log.path, f"has the sample {sample.sample_id!r} twice in epoch {sample.epoch}"
                    )
                left.remove(key)
                result = trials.write(sample, place(*key), _created(log))
                journal.append(result.entry)
                send(result.agent_run)
                outcomes[variant.variant_id][result.row.outcome.value] += 1
            for key in sorted(left, key=lambda key: (key[1], indices[key[0]])):
                journal.append(trials.missing(place(*key)).entry)
                outcomes[variant.variant_id][TrialOutcome.MISSING.value] += 1
    finally:
        journal.close()
    return {variant: dict(counts) for variant, counts in outcomes.items()}
