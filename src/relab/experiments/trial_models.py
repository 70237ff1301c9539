"""The ids of a trial, how the trial ended, and its row in the results."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, NamedTuple


class TrialOutcome(StrEnum):
    """How a trial ended: success, failure, missing or error.

    The values are those of the format of AgentLab, an experiment runner whose file formats relab keeps.
    MISSING means that the trial was not run, or gave no answer.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    MISSING = "missing"
    ERROR = "error"


class ErrorType(StrEnum):
    """The types of errors that the runner finds. A row's `error_type` may also be a type from the harness."""

    HARNESS_PROCESS = "harness_process_error"
    TIMEOUT = "trial_timeout"
    BUDGET = "budget_exceeded"
    OUTPUT_LIMIT = "output_limit_exceeded"
    DISK_LIMIT = "disk_limit_exceeded"
    MEMORY_LIMIT = "memory_limit_exceeded"
    PROCESS_LIMIT = "process_limit_exceeded"
    OPEN_FILES_LIMIT = "open_files_limit_exceeded"
    INVALID_OUTPUT = "invalid_trial_output"
    FOREIGN_OUTPUT = "foreign_trial_output"
    SANDBOX = "sandbox_error"
    NODE_LOST = "node_lost"
    EGRESS_OPEN = "egress_open"
    WORKSPACE = "workspace_error"
    PRUNED = "pruned"
    STOPPED = "stopped"
    PAUSED = "paused"


class TrialIds(NamedTuple):
    """The ids of a trial, its run, its variant and its task, as in every document about the trial.

    `repl_idx` is the number of the repeat of this task with this variant, from 0.
    """

    run_id: str
    trial_id: str
    variant_id: str
    task_id: str
    repl_idx: int

    def to_json(self) -> dict[str, Any]:
        """Return the ids as a JSON object, for the field `ids` of a trial's documents."""
        return self._asdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One row of `trials.jsonl`: the last attempt of a trial, with all values that the analysis needs.

    Attributes:
        baseline_id: the id of the variant that the others are compared with.
        task_index: the position of the task in the data set, from 0.
        repl_idx: the number of the repeat, from 0.
        success: whether the outcome is success.
        started_at, ended_at: the times of the attempt, in ISO 8601; None if the trial was not run, or if its files could
            not be created or read.
        duration_ms: the duration of the harness's process.
        overhead_ms: the duration of the whole trial minus `duration_ms`.
        exit_code: the exit code of the harness: `-n` if signal n ended the harness. None if `started_at` is None, or if
            the sandbox failed (`error_type` is then `sandbox_error`).
        status_code: `exit_code` as text; `sandbox_error` if the sandbox failed; empty if `started_at` is None.
        error_type, error_message: the error that the runner found or, if it found none, the error that the harness
            reported; None after a success.
        integration_level: how much the harness reports to the runner, as configured.
        sandbox, container_mode: the configured sandbox, and whether it runs an image.
        network_mode_requested, network_mode_effective: the network access as configured, and as it was in effect.
        metrics: the metrics (numbers, booleans, texts) by name, from the harness and the runner.
        primary_metric_name, primary_metric_value, primary_metric_direction: for a trainer (a harness that trains a
            model), the metric that it optimizes; for any other harness, `success` with the value 1 or 0.
        hook_events_total, event_counts: the number of the harness's events, in total and by type.
        hook_events_invalid, hook_event_problems: the number of the harness's invalid events, and the first problems.
        cluster: the value of `analysis.cluster_field`; tasks with the same value depend on each other.
        agent_run_id: the id of the trial's agent run in telemetry; for a result from the cache, the id of the agent run
            of the earlier trial.
        attempts: the number of attempts; the files of earlier attempts are in `attempts/` of the trial's folder.
        violations: the violated conditions of the sanitization profile (conditions that must be equal for all trials),
            as sentences.
        guardrails_exceeded: the metrics above their guardrail.
        cached_from: the earlier trial, as `<run>.<trial>`, whose cached result this is; times and costs of the row are
            then those of the earlier trial. None if this trial was run.
        metrics_from_spans: the names of the metrics (tokens, cost) that come from the spans of the harness, because
            the harness did not report these metrics.
    """

    run_id: str
    trial_id: str
    baseline_id: str
    workload_type: str
    variant_id: str
    task_index: int
    task_id: str
    repl_idx: int
    outcome: TrialOutcome
    success: bool
    started_at: str | None = None
    ended_at: str | None = None
    duration_ms: float | None = None
    overhead_ms: float | None = None
    exit_code: int | None = None
    status_code: str = ""
    error_type: str | None = None
    error_message: str | None = None
    attempts: int
    integration_level: str
    sandbox: str
    container_mode: bool
    network_mode_requested: str
    network_mode_effective: str = "none"
    primary_metric_name: str = "success"
    primary_metric_value: float | None = None
    primary_metric_direction: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    hook_events_total: int = 0
    has_hook_events: bool = False
    event_counts: dict[str, int] = field(default_factory=dict)
    hook_events_invalid: int = 0
    hook_event_problems: list[str] = field(default_factory=list)
    cluster: str | None = None
    agent_run_id: str | None = None
    violations: list[str] = field(default_factory=list)
    guardrails_exceeded: list[str] = field(default_factory=list)
    trial_dir: str = ""
    cached_from: str | None = None
    metrics_from_spans: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the trial's row in the results as a JSON object."""
        return {name: getattr(self, name) for name in _ROW_FIELDS}

    @property
    def ids(self) -> TrialIds:
        """The ids of the trial."""
        return TrialIds(self.run_id, self.trial_id, self.variant_id, self.task_id, self.repl_idx)


# `dataclasses.asdict` deep-copies every value, which takes longer than writing the row.
_ROW_FIELDS = tuple(field.name for field in fields(TrialRow))
REQUIRED_OF_A_ROW: Final = frozenset(_ROW_FIELDS) - {"cached_from", "metrics_from_spans"}
"""The fields that every row of `trials.jsonl` must have, also one of an earlier version."""
