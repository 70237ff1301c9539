"""The result of one attempt of a trial, and the result row that is made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relab.core.clock import format_time
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.sanitization import violations
from relab.experiments.models import ErrorType, TrialOutcome, TrialResult, TrialRow
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.protocol import Posture
from relab.experiments.trial.agent_run import agent_run_id
from relab.experiments.trial.event_chain import hash_chain
from relab.experiments.trial.events import EventStream
from relab.experiments.trial.evidence import TrialEvidence
from relab.experiments.trial.metrics import guardrails_exceeded, measure
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.trial.watch import AttemptEnd
from relab.experiments.trial.wire import ReadOutput
from relab.experiments.workspace.manifests import Diff, FileManifest

MAX_MESSAGE = 4_000


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """When an attempt began and ended, in microseconds since 1970, and how long its harness ran, in milliseconds."""

    started_us: int
    ended_us: int
    duration_ms: float


@dataclass(frozen=True)
class FinishedAttempt:
    """A finished attempt of a trial, with all data for the row of the trial.

    Attributes:
        end: how the harness ended.
        posture: the isolation that was in effect; None if the attempt never started.
        times: when the attempt began and ended.
        output: the output of the harness, or why it cannot be used.
        events: the events that the harness reported.
        before, after: the files of the workspace before and after the attempt.
        diff: the changes of the workspace.
        evidence: the digests of the stored documents about the workspace; None if none were stored.
    """

    end: AttemptEnd
    posture: Posture | None
    times: AttemptTimes
    output: ReadOutput
    events: EventStream
    before: FileManifest
    after: FileManifest
    diff: Diff
    evidence: TrialEvidence | None
    problem: tuple[str, str] | None
    """`(error type, message)` if the runner counts the attempt as an error, even if its output says otherwise.

    Else None.
    """

    @property
    def outcome(self) -> TrialOutcome:
        """The outcome of the attempt: ERROR if it has a problem or no valid output, else the outcome in its output."""
        if self.problem is not None or self.output.output is None:
            return TrialOutcome.ERROR
        return self.output.output.outcome

    def is_retried(self, retry_on: Sequence[str]) -> bool:
        """Return whether the trial must be attempted again after this attempt, if the number of attempts allows it.

        `retry_on` has the kinds of attempts that are retried: `timeout`, `error` or `failure`.
        """
        if self.end.ended_for is ErrorType.TIMEOUT:
            return "timeout" in retry_on
        if self.outcome is TrialOutcome.ERROR:
            return "error" in retry_on
        return self.outcome is TrialOutcome.FAILURE and "failure" in retry_on

    @property
    def is_reusable(self) -> bool:
        """Whether the result cache may store the attempt.

        The attempt must be a success or a failure. The harness must not have changed lines of its file of events after
        the runner had read them.
        """
        return self.outcome in {TrialOutcome.SUCCESS, TrialOutcome.FAILURE} and not self.end.rewrote_events


def violations_of(config: ExperimentConfig, posture: Posture | None) -> list[str]:
    """Return a sentence for each condition of the experiment's sanitization profile that an attempt violated.

    The profile names conditions that every trial must meet, such as a closed network: full access violates it.
    `posture` is the isolation in effect; None if the attempt never started.
    """
    return violations(
        config.design.sanitization_profile,
        state_policy=config.design.policies.state,
        network_effective=str(posture.network_effective) if posture is not None else "none",
    )


def error_of(attempt: FinishedAttempt) -> tuple[str | None, str | None]:
    """Return `(error type, message)` of an attempt: the runner's error or, without one, the error of the harness.

    Both are None after a success, or if neither the runner nor the harness reported an error.
    """
    if attempt.problem is not None:
        return attempt.problem
    assert attempt.output.output is not None
    error = attempt.output.output.error
    if attempt.outcome is TrialOutcome.SUCCESS or error is None:
        return None, None
    return error.error_type, error.message


def metrics_of(config: ExperimentConfig, folder: TrialFolder, attempt: FinishedAttempt) -> dict[str, Any]:
    """Return the metrics of an attempt by name: values from the harness, and the runner's measurements.

    Args:
        config: the experiment.
        folder: the folder of the trial.
        attempt: the attempt.
    """
    return measure(
        config,
        duration_ms=attempt.times.duration_ms,
        exit_code=attempt.end.exit_code,
        raw_output=attempt.output.raw,
        output=attempt.output.output,
        events=attempt.events,
        diff=attempt.diff,
        workspace=folder.workspace,
    )


def make_row(
    config: ExperimentConfig,
    trial: Trial,
    outcome: TrialOutcome,
    error: tuple[str | None, str | None],
    *,
    attempts: int,
    attempt: FinishedAttempt | None = None,
    metrics: dict[str, Any] | None = None,
) -> TrialRow:
    """Return the result row of a trial.

    Args:
        config: the experiment.
        trial: the trial.
        outcome: the outcome of the trial's last attempt.
        error: `(error type, message)`; both are None if the trial has no error.
        attempts: the number of attempts.
        attempt: the last attempt; None for a trial that was not run.
        metrics: the metrics of the last attempt by name; None if there are none.
    """
    success = outcome is TrialOutcome.SUCCESS
    ids = trial.ids
    row = TrialRow(
        **ids._asdict(),
        baseline_id=config.baseline.variant_id,
        workload_type=config.experiment.workload_type,
        task_index=trial.task_index,
        outcome=outcome,
        success=success,
        error_type=error[0],
        error_message=error[1] and error[1][:MAX_MESSAGE],
        attempts=attempts,
        integration_level=config.runtime.harness.integration_level.value,
        sandbox=config.runtime.sandbox.mode.value,
        container_mode=config.runtime.sandbox.mode.kind.runs_image,
        network_mode_requested=config.runtime.network.mode.value,
        primary_metric_value=float(success),
        primary_metric_direction="maximize",
        cluster=trial.task.cluster(config.analysis.cluster_field),
        trial_dir=f"trials/{ids.trial_id}",
    )
    return row if attempt is None else _with_attempt(row, config, attempt, metrics or {})


def skipped_trial(config: ExperimentConfig, trial: Trial, error_type: ErrorType, message: str) -> TrialResult:
    """Return the result of a trial that is not run: outcome MISSING, no attempts, no agent run.

    `error_type` and `message` say why it is not run.
    """
    row = make_row(config, trial, TrialOutcome.MISSING, (error_type.value, message), attempts=0)
    return TrialResult(row, None, {"row": row.to_json()})


def read_row(document: Mapping[str, Any]) -> TrialRow:
    """Convert a document made by `TrialRow.to_json` back to a row.

    Raises:
        KeyError: the document has no outcome.
        TypeError: the document lacks another field, or has an unknown field.
        ValueError: the outcome in the document is invalid.
    """
    return TrialRow(**{**document, "outcome": TrialOutcome(document["outcome"])})


def _with_attempt(
    row: TrialRow, config: ExperimentConfig, attempt: FinishedAttempt, metrics: dict[str, Any]
) -> TrialRow:
    objective = attempt.output.output.objective if attempt.output.output is not None else None
    posture = attempt.posture
    return replace(
        row,
        started_at=format_time(attempt.times.started_us),
        ended_at=format_time(attempt.times.ended_us),
        duration_ms=attempt.times.duration_ms,
        exit_code=attempt.end.exit_code,
        status_code=ErrorType.SANDBOX.value if attempt.end.exit_code is None else str(attempt.end.exit_code),
        network_mode_effective=str(posture.network_effective) if posture is not None else "none",
        primary_metric_name=objective.name if objective is not None else "success",
        primary_metric_value=objective.value if objective is not None else float(row.success),
        primary_metric_direction=objective.direction if objective is not None else "maximize",
        metrics=metrics,
        hook_events_total=attempt.events.counts.total(),
        has_hook_events=bool(attempt.events.events),
        event_counts=dict(attempt.events.counts),
        hook_events_invalid=attempt.events.problem_count,
        hook_event_problems=attempt.events.problems,
        agent_run_id=agent_run_id(row.run_id, row.trial_id),
        violations=violations_of(config, posture),
        guardrails_exceeded=guardrails_exceeded(config, metrics),
    )


def journal_entry(
    config: ExperimentConfig,
    trial: Trial,
    folder: TrialFolder,
    attempt: FinishedAttempt,
    row: TrialRow,
    documents: Mapping[str, str],
) -> dict[str, Any]:
    """Return the journal's entry for a finished trial, as a JSON object.

    The entry has the trial's row, and the last digest of the hash chain over the trial's events. If `attempt` has
    evidence, the entry also has the record of the documents' digests, and a record of the trial's place in its chain
    of trials. In a chain of trials, each trial continues from the state of the trial before.

    `documents` is `{name of a document that the runner wrote for the trial: reference to it}`.
    """
    entry: dict[str, Any] = {"row": row.to_json()}
    if attempt.evidence is not None:
        policy = config.design.policies.state
        entry["evidence"] = attempt.evidence.record(row, trial.chain_id, policy, documents)
        entry["chain"] = attempt.evidence.chain(row, trial.chain_id, policy)
    entry["head"] = hash_chain(folder.host_path(config.runtime.harness.events.path), below=folder.root)
    return entry
