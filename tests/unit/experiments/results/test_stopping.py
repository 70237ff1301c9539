"""The stopping rule: decides variants from the results alone, in the order of the plan."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import RunDamagedError
from relab.experiments.results.aggregates import STOPPING
from relab.experiments.results.compare import compare
from relab.experiments.results.result_tables import document_bytes
from relab.experiments.results.stopping import StoppingMonitor, figure_of, read_stopping
from relab.stats.sequential import MarginFinding
from relab.stats.verdicts import Verdict
from rig.trial_rows import trial_row, write_run
from support.experiments.configs import config

TASKS = 40
ORDER = [(7 * place) % TASKS for place in range(TASKS)]


def experiment(*variants: str, repeats: int = 1, **stopping: Any) -> ExperimentConfig:
    return config(
        baseline__variant_id="base",
        variant_plan=[{"variant_id": name} for name in variants],
        design={
            "shuffle_tasks": True,
            "replications": repeats,
            "policies": {"stopping": {"metric": "success", **stopping}},
        },
    )


def rows_of(better: str = "better", *, repeats: int = 1, tasks: int = TASKS) -> list[dict[str, Any]]:
    """Return rows of a baseline that solves every fourth task and of a variant that solves all tasks."""
    rows = []
    for task in range(tasks):
        for repeat in range(repeats):
            rows.append(trial_row("base", task, repeat, outcome="success" if task % 4 == 0 else "failure"))
            rows.append(trial_row(better, task, repeat))
    return rows


def decided(monitor: StoppingMonitor, rows: Iterable[Mapping[str, Any]]) -> StoppingMonitor:
    for row in rows:
        monitor.note(row)
    return monitor


@given(seed=st.integers(0, 10_000))
def test_decisions_do_not_depend_on_the_order_in_which_trials_end(seed: int) -> None:
    rows = rows_of()
    expected = decided(StoppingMonitor(experiment("better"), ORDER), rows).decisions
    random.Random(seed).shuffle(rows)

    assert decided(StoppingMonitor(experiment("better"), ORDER), rows).decisions == expected
    assert len(expected) == 1
    assert expected[0].finding is MarginFinding.HIGHER
    assert expected[0].better is True
    assert expected[0].positions < TASKS


def test_incomplete_task_delays_decisions_from_later_tasks() -> None:
    monitor = StoppingMonitor(experiment("better"), ORDER)
    rows = rows_of()
    first = [row for row in rows if row["task_index"] == ORDER[0]]

    decided(monitor, (row for row in rows if row["task_index"] != ORDER[0]))
    assert not monitor.decisions
    assert monitor.note(first[0]) == []
    assert [decision.variant for decision in monitor.note(first[1])] == ["better"]


def test_a_decided_variant_needs_no_more_trials_and_the_others_do() -> None:
    monitor = StoppingMonitor(experiment("better", "same"), ORDER)
    same = [trial_row("same", task, outcome="success" if task % 4 == 0 else "failure") for task in range(TASKS)]

    decided(monitor, [*rows_of(), *same])

    assert [monitor.needs(variant) for variant in range(3)] == [True, False, True]
    assert monitor.to_json(is_complete=True)["undecided"] == ["same"]
    assert not monitor.is_over


def test_the_baseline_is_not_needed_once_all_variants_are_decided() -> None:
    monitor = decided(StoppingMonitor(experiment("better"), ORDER), rows_of())

    assert monitor.is_over
    assert not monitor.needs(0)
    assert monitor.to_json(is_complete=True)["stopped_early"] is True


def test_several_variants_share_the_probability_of_a_wrong_decision() -> None:
    one = decided(StoppingMonitor(experiment("better"), ORDER), rows_of()).decisions[0]
    three = decided(StoppingMonitor(experiment("better", "b", "c"), ORDER), rows_of()).decisions[0]

    assert one.interval.level == pytest.approx(0.95)
    assert three.interval.level == pytest.approx(1 - 0.05 / 3)
    assert three.tasks > one.tasks


@pytest.mark.parametrize(("repeats", "complete"), [(2, False), (2, True)])
def test_all_repeats_of_a_task_count_together(repeats: int, complete: bool) -> None:
    rows = rows_of(repeats=repeats)
    monitor = StoppingMonitor(experiment("better", repeats=repeats), ORDER)
    decided(monitor, rows if complete else (row for row in rows if row["repl_idx"] == 0))

    assert bool(monitor.decisions) is complete


def test_too_many_missing_figures_decide_nothing() -> None:
    rows = rows_of()
    for row in rows:
        if row["task_index"] % 2 == 1 and row["variant_id"] == "base":
            row["outcome"] = "missing"

    assert decided(StoppingMonitor(experiment("better"), ORDER), rows).decisions == []


def test_higher_value_of_a_harness_metric_to_minimize_is_worse() -> None:
    rows = [
        trial_row(name, task, metrics={"cost_usd": 1.0 + task % 3 / 10 + extra})
        for task in range(TASKS)
        for name, extra in (("base", 0.0), ("dear", 1.0 + task % 2 / 10))
    ]
    (decision,) = decided(StoppingMonitor(experiment("dear", metric="cost_usd", margin=0.5), ORDER), rows).decisions

    assert (decision.finding, decision.better) == (MarginFinding.HIGHER, False)
    assert "dear: worse: cost_usd differs by +1.0" in decision.sentence
    assert "always-valid 95 % interval" in decision.sentence


def test_figures_are_those_of_the_result_tables() -> None:
    row = trial_row("base", 0, metrics={"score": 2, "flag": True, "text": "x", "huge": float("inf")})

    assert [figure_of(row, name) for name in ("success", "score", "flag", "text", "huge", "none")] == [
        1.0, 2.0, 1.0, None, None, None,
    ]  # fmt: skip
    assert figure_of(row, "latency_ms") == figure_of(row, "duration_ms") == 100.0
    assert figure_of(row | {"primary_metric_name": "loss", "primary_metric_value": 0.5}, "loss") == 0.5


def test_a_comparison_uses_the_tasks_and_the_interval_of_the_decision(tmp_path: Path) -> None:
    monitor = decided(StoppingMonitor(experiment("better"), ORDER), rows_of())
    decision = monitor.decisions[0]
    # Results of later tasks contradict the decision, as those of trials that ran during the stop may.
    used = set(ORDER[: decision.positions])
    rows = [row if row["task_index"] in used else row | {"success": row["variant_id"] == "base"} for row in rows_of()]
    run_dir = write_run(tmp_path / "run", rows)
    (run_dir / STOPPING).write_bytes(document_bytes(monitor.to_json(is_complete=True)))

    found = compare(run_dir, measure_false_passes=False)
    (result,) = found.results

    assert found.verdict is Verdict.PASS
    assert result.judgement.interval == decision.interval
    assert result.judgement.windows == decision.tasks
    assert "always-valid interval" in result.judgement.reason
    assert result.delta is not None
    assert result.delta.is_always_valid
    assert result.delta.unpaired_tasks == 0, "a task after the decision has figures from both variants"
    assert found.stopping is not None
    assert found.stopping["decisions"][0]["reason"] == decision.sentence


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": "stopping_v1"}'])
def test_a_damaged_record_of_the_stop_is_named(tmp_path: Path, text: str) -> None:
    run_dir = write_run(tmp_path / "run", rows_of())
    (run_dir / STOPPING).write_text(text)

    with pytest.raises(RunDamagedError, match=r"stopping\.json"):
        compare(run_dir, measure_false_passes=False)
    if "schema" not in text:
        with pytest.raises(RunDamagedError, match=r"stopping\.json"):
            read_stopping(run_dir)
