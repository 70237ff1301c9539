"""Convert samples of logs to trials of a run: write the folder of each trial, and make its row and agent run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic_core

from relab.core.clock import format_time
from relab.experiments.config.models import Variant
from relab.experiments.inspect_logs.events import answer_of, hook_events, span_of
from relab.experiments.inspect_logs.logs import InspectSample, clean
from relab.experiments.inspect_logs.scores import PREFIX, Judged, judge, scores_of
from relab.experiments.models import TrialIds, TrialOutcome, TrialResult, TrialRow
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.trial.agent_run import MAX_NAME, MAX_TEXT, agent_run_id, agent_run_of
from relab.experiments.trial.event_chain import hash_chain
from relab.experiments.trial.events import EventStream, read_events
from relab.experiments.trial.evidence import EvidenceStore
from relab.experiments.trial.metrics import measure
from relab.experiments.trial.rows import MAX_MESSAGE
from relab.experiments.trial.trial_folder import INPUT, OUTPUT, TrialFolder, trial_folder
from relab.experiments.trial.wire import TrialOutput, write_json
from relab.experiments.workspace.manifests import Diff, FileManifest

EMPTY_WORKSPACE = FileManifest({})


@dataclass(frozen=True)
class SamplePlace:
    """The place of a planned sample in a run: the ids of its trial, the task with its index, and the variant."""

    ids: TrialIds
    task_index: int
    task: Mapping[str, Any]
    variant: Variant


class SampleTrials:
    """Writes samples of logs as trials of a run.

    Args:
        run: the run.
        scorer: the name of the score that decides about success; None if the logs have no scorer.
        success_at: the smallest value of this score that is a success.
    """

    def __init__(self, run: RunFolder, scorer: str | None, success_at: float) -> None:
        self._run = run
        self._scorer = scorer
        self._success_at = success_at
        self._evidence = EvidenceStore(run.path)

    def write(self, sample: InspectSample, place: SamplePlace, created_us: int) -> TrialResult:
        """Convert a sample to a trial: write the folder of the trial, and return the trial's result.

        Args:
            sample: the sample of a log.
            place: the ids, the task and the variant of the trial.
            created_us: when the log was created, in microseconds since 1970. It is used if the sample has no times.

        Raises:
            InspectLogError: the scorer that decides about success gives several values, so one must be chosen.
            OSError: the disk is full.
        """
        judged = judge(sample, self._scorer, self._success_at)
        started_us, ended_us = span_of(sample, created_us)
        started_at, ended_at = format_time(started_us), format_time(ended_us)
        folder = trial_folder(self._run.path, place.ids.trial_id)
        folder.out.mkdir(parents=True)
        document = self._output(sample, place, judged)
        write_json(folder.root / INPUT, self._input(place))
        write_json(folder.root / OUTPUT, document)
        events_path = folder.host_path(self._run.config.runtime.harness.events.path)
        with events_path.open("wb") as file:
            for event in hook_events(sample, place.ids, started_at):
                file.write(pydantic_core.to_json(event) + b"\n")
        events = read_events(events_path, place.ids, below=folder.root)
        metrics = self._metrics(document, events, folder, (ended_us - started_us) / 1_000)
        row = self._row(place, judged, started_at=started_at, ended_at=ended_at, metrics=metrics, events=events)
        evidence = self._evidence.write(folder, EMPTY_WORKSPACE, EMPTY_WORKSPACE, Diff(), ended_at, events_path)
        policy = self._run.config.design.policies.state
        chain = policy.chain_id(place.ids.variant_id, place.ids.task_id, place.ids.repl_idx)
        entry = {
            "row": row.to_json(),
            "evidence": evidence.record(row, chain, policy),
            "chain": evidence.chain(row, chain, policy),
            "head": hash_chain(events_path, below=folder.root),
        }
        return TrialResult(row, self._agent_run(sample, place, row, events), entry)

    def missing(self, place: SamplePlace) -> TrialResult:
        """Return the result for a planned sample that the log lacks: outcome MISSING, no folder, no agent run."""
        judged = Judged(TrialOutcome.MISSING, "not_in_log", "the log has no such sample in this epoch")
        row = self._row(place, judged)
        return TrialResult(row, None, {"row": row.to_json()})

    def _input(self, place: SamplePlace) -> dict[str, Any]:
        """Return the input document (`trial_input_v1`) of an imported trial.

        The paths in it are empty, because relab did not run the trial.
        """
        design = self._run.config.design
        return {
            "schema_version": "trial_input_v1",
            "ids": place.ids.to_json(),
            "task": dict(place.task),
            "workload": {"type": self._run.config.experiment.workload_type},
            "bindings": place.variant.bindings,
            "design": {
                "sanitization_profile": "hermetic_functional_v2",
                "integration_level": self._run.config.runtime.harness.integration_level.value,
            },
            "runtime": {
                "paths": dict.fromkeys(("workspace", "state", "dataset", "out", "tmp"), ""),
                "network": {"mode_requested": self._run.config.runtime.network.mode.value},
                "control_plane": {"mode": "file", "path": self._run.config.runtime.harness.control_plane.path},
            },
            "ext": {"source": "inspect", "sanitization_profile": design.sanitization_profile.value},
        }

    def _output(self, sample: InspectSample, place: SamplePlace, judged: Judged) -> dict[str, Any]:
        document: dict[str, Any] = {
            "schema_version": "trial_output_v1",
            "ids": place.ids.to_json(),
            "outcome": judged.outcome.value,
            "answer": answer_of(sample),
            "metrics": {f"{PREFIX}{name}"[:200]: number for name, number in scores_of(sample).items()},
        }
        if judged.error_type is not None:
            document["error"] = {"error_type": judged.error_type, "message": judged.message or ""}
            stack = sample.section("error").get("traceback")
            if isinstance(stack, str):
                document["error"]["stack"] = clean(stack)
        kept = ("scores", "score", "limit", "model_usage", "total_time", "working_time", "uuid")
        found = {name: clean(sample.document.get(name)) for name in kept}
        return document | {"ext": {"inspect": {name: value for name, value in found.items() if value}}}

    def _metrics(
        self, document: Mapping[str, Any], events: EventStream, folder: TrialFolder, duration_ms: float
    ) -> dict[str, Any]:
        output = TrialOutput.model_validate(document)
        metrics = measure(
            self._run.config,
            duration_ms=duration_ms,
            exit_code=0,
            raw_output=document,
            output=output,
            events=events,
            diff=Diff(),
            workspace=folder.workspace,
        )
        # There was no process of which the runner could know an exit code.
        return {name: value for name, value in metrics.items() if name != "exit_code"}

    def _row(
        self,
        place: SamplePlace,
        judged: Judged,
        *,
        started_at: str | None = None,
        ended_at: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        events: EventStream | None = None,
    ) -> TrialRow:
        config, success = self._run.config, judged.outcome is TrialOutcome.SUCCESS
        stream = events or EventStream()
        return TrialRow(
            **place.ids._asdict(),
            baseline_id=config.baseline.variant_id,
            workload_type=config.experiment.workload_type,
            task_index=place.task_index,
            outcome=judged.outcome,
            success=success,
            started_at=started_at,
            ended_at=ended_at,
            duration_ms=(metrics or {}).get("duration_ms"),
            error_type=judged.error_type,
            error_message=judged.message and judged.message[:MAX_MESSAGE],
            attempts=0 if started_at is None else 1,
            integration_level=config.runtime.harness.integration_level.value,
            sandbox=config.runtime.sandbox.mode.value,
            container_mode=False,
            network_mode_requested=config.runtime.network.mode.value,
            network_mode_effective="full",
            primary_metric_value=float(success),
            primary_metric_direction="maximize",
            metrics=dict(metrics or {}),
            hook_events_total=stream.counts.total(),
            has_hook_events=bool(stream.events),
            event_counts=dict(stream.counts),
            hook_events_invalid=stream.problem_count,
            hook_event_problems=stream.problems,
            agent_run_id=None if started_at is None else agent_run_id(place.ids.run_id, place.ids.trial_id),
            trial_dir=f"trials/{place.ids.trial_id}",
        )

    def _agent_run(
        self, sample: InspectSample, place: SamplePlace, row: TrialRow, events: EventStream
    ) -> dict[str, Any]:
        run = agent_run_of(
            row,
            experiment_id=self._run.config.experiment.id,
            bindings=place.variant.bindings,
            events=events.events,
        )
        answer = answer_of(sample)
        model = place.variant.bindings.get("model")
        added = {
            "model": model[:MAX_NAME] if isinstance(model, str) else None,
            "question": str(place.task["prompt"])[:MAX_TEXT] or None,
            "answer": answer[:MAX_TEXT] or None,
        }
        return run | {name: value for name, value in added.items() if value is not None}
