"""Synthetic runs of experiments from given rows: a run's folder with configuration and tables, without real trials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.models import TrialOutcome, TrialRow
from relab.experiments.results.result_tables import write_tables

RUN_ID = "run_1"


def trial_row(
    variant: str,
    task: int,
    repeat: int = 0,
    *,
    outcome: str = "success",
    metrics: Mapping[str, Any] | None = None,
    duration_ms: float | None = 100.0,
    workload: str = "agent_harness",
    objective: tuple[str, float | None] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return a synthetic row of a trial, as the journal of a run contains it.

    Args:
        variant: id of the variant.
        task: number of the task; its id is `task_<number>`.
        repeat: number of the repeat, from 0.
        outcome: a value of `TrialOutcome`.
        metrics: further metrics of the trial, by name.
        duration_ms: duration of the trial.
        workload: the workload type.
        objective: name and value of the primary metric; None for `success`.
        fields: further or other fields of the row.
    """
    success = outcome == "success"
    name, value = objective or ("success", float(success))
    row = TrialRow(
        run_id=RUN_ID,
        trial_id=f"trial_{variant}_{task}_{repeat}",
        baseline_id="base",
        workload_type=workload,
        variant_id=variant,
        task_index=task,
        task_id=f"task_{task}",
        repl_idx=repeat,
        outcome=TrialOutcome(outcome),
        success=success,
        started_at="2026-01-01T00:00:00.5Z",
        ended_at="2026-01-01T00:00:01Z",
        duration_ms=duration_ms,
        overhead_ms=5.0,
        exit_code=0,
        status_code="0",
        error_type="harness_process_error" if outcome == "error" else None,
        error_message="it broke" if outcome == "error" else None,
        attempts=1,
        integration_level="cli_basic",
        sandbox="local",
        container_mode=False,
        network_mode_requested="none",
        network_mode_effective="none",
        primary_metric_name=name,
        primary_metric_value=value,
        metrics=dict(metrics or {}),
    )
    return row.to_json() | fields


def write_run(
    run_dir: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    variants: Sequence[str] = ("better",),
    replications: int = 1,
    comparison: str = "paired",
    workload: str = "agent_harness",
    primary: Sequence[str] = ("success",),
    secondary: Sequence[str] = (),
    metrics: Sequence[Mapping[str, Any]] = (),
    status: str | None = "completed",
    name: str = "an experiment",
) -> Path:
    """Create the folder of a finished run with its configuration and tables; return its path.

    Args:
        run_dir: the folder, which must not exist.
        rows: the trials, as `trial_row` returns them.
        variants: ids of the variants beside the baseline, whose id is `base`.
        replications: number of repeats per task and variant.
        comparison: `design.comparison` of the experiment.
        workload: the workload type.
        primary: names of the primary metrics.
        secondary: names of the secondary metrics.
        metrics: declarations of metrics, as in an experiment's configuration.
        status: status of the run; None to write none.
        name: name of the experiment.
    """
    config = ExperimentConfig.model_validate(
        {
            "version": "0.3",
            "experiment": {"id": "exp", "name": name, "workload_type": workload},
            "dataset": {"path": "tasks.jsonl"},
            "design": {"comparison": comparison, "replications": replications},
            "analysis": {"primary_metrics": list(primary), "secondary_metrics": list(secondary)},
            "metrics": [dict(metric) for metric in metrics],
            "baseline": {"variant_id": "base"},
            "variant_plan": [{"variant_id": variant} for variant in variants],
            "runtime": {"harness": {"command": ["harness"]}},
        }
    )
    (run_dir / "runtime").mkdir(parents=True)
    (run_dir / "resolved_experiment.json").write_text(json.dumps(config.resolved()))
    (run_dir / "manifest.json").write_text(json.dumps({"run_id": RUN_ID}))
    if status is not None:
        (run_dir / "runtime" / "run_control.json").write_text(json.dumps({"status": status}))
    write_tables(run_dir, iter(rows))
    return run_dir
