"""The shared context of a run's trials, the result of one attempt, and the row made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relab.core.clock import Clock, format_time
from relab.experiments.config.models import ExperimentConfig, SandboxMode
from relab.experiments.config.sanitization import violations
from relab.experiments.models import Keep, TrialIds, TrialOutcome, TrialRow
from relab.experiments.plan.dataset import Task, TaskIndex
from relab.experiments.plan.trials import Slot
from relab.experiments.sandbox.protocol import Listener, Posture, Sandbox
from relab.experiments.trial.agent_run import agent_run_id
from relab.experiments.trial.events import EventStream
from relab.experiments.trial.evidence import TrialEvidence
from relab.experiments.trial.metrics import guardrails_exceeded
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.trial.watch import AttemptEnd
from relab.experiments.trial.wire import ReadOutput
from relab.experiments.workspace.manifests import Diff
from relab.experiments.workspace.snapshots import ProjectSnapshot

MAX_MESSAGE = 4_000


@dataclass(frozen=True)
class Services:
    """The services that the runner offers inside a trial's network.

    Attributes:
        listeners: returns a trial's listeners, and the environment variables with their addresses for the harness.
        trace_ids: returns the ids of the OTLP traces received from a trial so far.
    """

    listeners: Callable[[TrialFolder, TrialIds], tuple[Sequence[Listener], Mapping[str, str]]]
    trace_ids: Callable[[TrialFolder], Sequence[str]]


@dataclass(frozen=True)
class RunContext:
    """The values that all trials of a run share."""

    config: ExperimentConfig
    run_id: str
    run_dir: Path
    root: Path
    snapshot: ProjectSnapshot
    tasks: TaskIndex
    sandbox: Sandbox
    clock: Clock
    host_environment: Mapping[str, str]
    secrets: Mapping[str, str]
    redactor: Redactor
    harness_identity: Mapping[str, Any]
    services: Services
    keep: Keep = Keep.ALL


@dataclass(frozen=True)
class FinishedAttempt:
    """A finished attempt of a trial."""

    watched: AttemptEnd
    posture: Posture | None
    started_us: int
    ended_us: int
    duration_ms: float
    output: ReadOutput
    events: EventStream
    diff: Diff
    evidence: TrialEvidence | None
    problem: tuple[str, str] | None
    """`(error type, message)` if the runner counts the attempt as an error, even if its output says otherwise; else None."""

    @property
    def outcome(self) -> TrialOutcome:
        """The outcome of the attempt: ERROR if it has a problem or no valid output, else the outcome in its output."""
        if self.problem is not None or self.output.output is None:
            return TrialOutcome.ERROR
        return self.output.output.outcome


class Stopped(Exception):  # noqa: N818 not an error: the run was told to stop, and the trial has no result
    """The runner ended a trial because the run was stopped."""


def violations_of(config: ExperimentConfig, posture: Posture | None) -> list[str]:
    """Return the rules of the sanitization profile that an attempt violated."""
    return violations(
        config.design.sanitization_profile,
        state_policy=config.design.policies.state.value,
        network_effective=str(posture.network_effective) if posture is not None else "none",
    )


def error_of(attempt: FinishedAttempt) -> tuple[str | None, str | None]:
    """Return error type and message of an attempt: the runner's or else the harness's; `(None, None)` after a success."""
    if attempt.problem is not None:
        return attempt.problem
    assert attempt.output.output is not None
    error = attempt.output.output.error
    if attempt.outcome is TrialOutcome.SUCCESS or error is None:
        return None, None
    return error.error_type, error.message


def make_row(
    context: RunContext,
    slot: Slot,
    ids: TrialIds,
    task: Task,
    outcome: TrialOutcome,
    error: tuple[str | None, str | None],
    *,
    attempts: int,
    attempt: FinishedAttempt | None = None,
    metrics: dict[str, Any] | None = None,
) -> TrialRow:
    """Return the row of a trial; `attempt` is None for a trial that was not run."""
    config = context.config
    success = outcome is TrialOutcome.SUCCESS
    row = TrialRow(
        **ids._asdict(),
        baseline_id=config.baseline.variant_id,
        workload_type=config.experiment.workload_type,
        task_index=slot.task,
        outcome=outcome,
        success=success,
        error_type=error[0],
        error_message=error[1] and error[1][:MAX_MESSAGE],
        attempts=attempts,
        integration_level=config.runtime.harness.integration_level.value,
        sandbox=context.sandbox.name,
        container_mode=config.runtime.sandbox.mode is SandboxMode.CONTAINER,
        network_mode_requested=config.runtime.network.mode.value,
        primary_metric_value=float(success),
        primary_metric_direction="maximize",
        cluster=task.cluster(config.analysis.cluster_field),
        trial_dir=f"trials/{ids.trial_id}",
    )
    return row if attempt is None else _with_attempt(row, config, attempt, metrics or {})


def read_row(document: Mapping[str, Any]) -> TrialRow:
    """Convert a document made by `TrialRow.to_json` back to a row.

    Raises:
        TypeError: the document has missing or unknown fields.
        ValueError: its outcome is invalid.
    """
    return TrialRow(**{**document, "outcome": TrialOutcome(document["outcome"])})


def _with_attempt(
    row: TrialRow, config: ExperimentConfig, attempt: FinishedAttempt, metrics: dict[str, Any]
) -> TrialRow:
    objective = attempt.output.output.objective if attempt.output.output is not None else None
    posture = attempt.posture
    return replace(
        row,
        started_at=format_time(attempt.started_us),
        ended_at=format_time(attempt.ended_us),
        duration_ms=attempt.duration_ms,
        exit_code=attempt.watched.exit_code,
        status_code=str(attempt.watched.exit_code),
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
