"""The analysis of a run, on runs small enough to compute by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from relab.experiments.results.aggregates import open_trial_data
from relab.experiments.results.analysis import analyze, analyze_run, direction_of, primary_metrics
from relab.experiments.results.result_tables import table_source
from relab.experiments.results.run_metadata import read_facts
from relab.stats.clustered_rate import clustered_rate
from relab.stats.multiplicity import holm
from relab.stats.paired import cluster, mcnemar_exact, paired_delta
from rig.trial_rows import RUN_ID, trial_row, write_run


def comparisons(run_dir: Path) -> list[dict[str, Any]]:
    document = json.loads((run_dir / "analysis" / "comparisons.json").read_text())
    assert document["schema_version"] == "analysis_comparisons_v1"
    return document["comparisons"]


def metric_of(run_dir: Path, variant: str, metric: str) -> dict[str, Any]:
    (found,) = [entry for entry in comparisons(run_dir) if entry["variant"] == variant]
    (figures,) = [figures for figures in found["metrics"] if figures["metric"] == metric]
    return figures


def outcomes(variant: str, text: str, repeat: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """Return rows of one variant, one letter per task: s(uccess), f(ailure), e(rror), m(issing)."""
    words = {"s": "success", "f": "failure", "e": "error", "m": "missing"}
    return [trial_row(variant, task, repeat, outcome=words[letter], **fields) for task, letter in enumerate(text)]


def test_rates_are_given_with_errors_as_failures_and_with_errors_dropped(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [*outcomes("base", "sssffem"), *outcomes("better", "sssssss")])
    summary = analyze_run(run_dir)

    assert json.loads((run_dir / "analysis" / "summary.json").read_text()) == summary
    assert summary["schema_version"] == "analysis_summary_v1"
    assert summary["run_id"] == RUN_ID
    assert summary["baseline_id"] == "base"
    base = summary["variants"]["base"]
    assert base["outcomes"] == {"success": 3, "failure": 2, "error": 1, "missing": 1}
    assert base["total"] == 7
    assert base["success_rate"] == pytest.approx(3 / 7)
    expected = clustered_rate(cluster([1, 1, 1, 0, 0, 0, 0]), 7)
    assert base["success_rate_interval"]["low"] == pytest.approx(expected.low)
    assert base["success_rate_interval"]["high"] == pytest.approx(expected.high)
    assert base["errors_dropped"]["total"] == 5
    assert base["errors_dropped"]["success_rate"] == pytest.approx(3 / 5)
    assert base["errors_dropped"]["success_rate_interval"]["high"] == pytest.approx(
        clustered_rate(cluster([1, 1, 1, 0, 0]), 5).high
    )
    assert base["error_types"] == {"harness_process_error": 1}
    assert base["primary_metric_name"] == "success"
    assert base["primary_metric_mean"] == pytest.approx(3 / 7)


@pytest.mark.parametrize("by_source", [pytest.param(False, marks=pytest.mark.full), True])
def test_interval_of_success_contains_the_true_rate_at_its_nominal_level(tmp_path: Path, by_source: bool) -> None:
    # Each variant stands for a separate run of 30 tasks x 3; most tasks are solved nearly always or nearly never.
    random, variants, rate = np.random.default_rng(7), [f"v{number:02d}" for number in range(80)], 0.7
    rows = []
    for variant in variants:
        chances = random.beta(rate * 0.5, (1 - rate) * 0.5, size=10 if by_source else 30)
        for task in range(30):
            chance = chances[task // 3 if by_source else task]
            letters = random.random(3) < chance
            rows += [
                trial_row(
                    variant,
                    task,
                    repeat,
                    outcome="success" if solved else "failure",
                    cluster=f"document {task // 3}" if by_source else None,
                )
                for repeat, solved in enumerate(letters)
            ]
    run_dir = write_run(tmp_path / "run", rows, variants=variants[1:], replications=3)
    summary = analyze(run_dir, baseline="v00", variants=variants, primary_metrics=[], comparison="none", replications=3)

    ends = [figures["success_rate_interval"] for figures in summary["variants"].values()]
    held = sum(interval["low"] <= rate <= interval["high"] for interval in ends)
    # At the nominal 95 %, 71 or fewer of 80 have a probability of 2 %.
    assert held >= 72
    for figures in summary["variants"].values():
        mean = figures["metrics"]["success"]["interval"]
        assert mean["low"] == pytest.approx(figures["success_rate_interval"]["low"])


def test_one_repeat_is_paired_by_task(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [*outcomes("base", "ssfffffffe"), *outcomes("better", "sfssssssss")])
    analyze_run(run_dir)

    figures = metric_of(run_dir, "better", "success")
    assert figures["delta"] == pytest.approx((9 - 2) / 10)
    assert figures["test"]["name"] == "McNemar (exact)"
    assert figures["test"]["p_value"] == pytest.approx(mcnemar_exact(8, 1).p_value)
    expected = paired_delta([0, -1] + [1] * 8, bounds=(-1, 1))
    assert figures["interval"]["low"] == pytest.approx(expected.interval.low)
    assert figures["interval"]["high"] == pytest.approx(expected.interval.high)
    assert figures["tasks"] == 10
    assert figures["clusters"] == 10
    assert figures["is_primary"] is True
    assert figures["minimum_detectable_effect"] > 0
    # Without the errors the last task has no pair.
    dropped = figures["errors_dropped"]
    assert dropped["tasks"] == 9
    assert dropped["unpaired_tasks"] == 1
    assert dropped["delta"] == pytest.approx((8 - 2) / 9)


def test_repeats_are_averaged_before_tasks_are_paired(tmp_path: Path) -> None:
    # Task 0 has ten repeats with the baseline and two with the variant; it still counts once.
    rows = [trial_row("base", 0, repeat, metrics={"score": 1.0}) for repeat in range(10)]
    rows += [trial_row("better", 0, repeat, metrics={"score": 3.0 + repeat}) for repeat in range(2)]
    rows += [trial_row("base", 1, metrics={"score": 5.0}), trial_row("better", 1, metrics={"score": 5.0})]
    run_dir = write_run(tmp_path / "run", rows, primary=["score"], replications=10)
    summary = analyze_run(run_dir)

    figures = metric_of(run_dir, "better", "score")
    assert figures["delta"] == pytest.approx((3.5 - 1.0 + 0.0) / 2)
    assert figures["baseline_mean"] == 3.0
    assert figures["variant_mean"] == 4.25
    assert summary["variants"]["base"]["metrics"]["score"]["trials"] == 11
    assert summary["variants"]["base"]["metrics"]["score"]["mean"] == pytest.approx(3.0)


def test_tasks_of_one_source_are_one_cluster(tmp_path: Path) -> None:
    rows = [
        trial_row(variant, task, metrics={"score": float(task // 2) * scale}, cluster=f"document {task // 2}")
        for variant, scale in (("base", 1.0), ("better", 2.0))
        for task in range(8)
    ]
    run_dir = write_run(tmp_path / "run", rows, primary=["score"])
    analyze_run(run_dir)

    figures = metric_of(run_dir, "better", "score")
    expected = paired_delta([0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 1, 1, 2, 2, 3, 3])
    assert figures["tasks"] == 8
    assert figures["clusters"] == 4
    assert figures["standard_error"] == pytest.approx(expected.standard_error)
    assert figures["test"]["p_value"] == pytest.approx(expected.test.p_value)


def test_tasks_without_a_source_stand_alone_beside_those_with_one(tmp_path: Path) -> None:
    sources = ["a", "a", "a", None, None]
    rows = [
        trial_row(variant, task, metrics={"score": float(task)}, cluster=source)
        for variant in ("base", "better")
        for task, source in enumerate(sources)
    ]
    run_dir = write_run(tmp_path / "run", rows, primary=["score"])
    analyze_run(run_dir)

    assert metric_of(run_dir, "better", "score")["clusters"] == 3


def test_holm_is_over_variants_and_primary_metrics(tmp_path: Path) -> None:
    rows = [
        trial_row(variant, task, metrics={"score": task * scale + (task % 3), "other": float(task * scale)})
        for variant, scale in (("base", 1.0), ("a", 1.2), ("b", 0.9))
        for task in range(6)
    ]
    run_dir = write_run(tmp_path / "run", rows, variants=("a", "b"), primary=["success", "score"], secondary=["other"])
    analyze_run(run_dir)

    family = [metric_of(run_dir, variant, metric) for variant in ("a", "b") for metric in ("success", "score")]
    assert [figures["p_holm"] for figures in family] == pytest.approx(
        list(holm([figures["test"]["p_value"] for figures in family]))
    )
    assert metric_of(run_dir, "a", "other")["p_holm"] is None
    assert metric_of(run_dir, "a", "other")["is_primary"] is False


def test_constant_metric_has_no_interval_and_no_minimum_detectable_effect(tmp_path: Path) -> None:
    rows = [trial_row(variant, task, metrics={"score": 1.0}) for variant in ("base", "same") for task in range(5)]
    run_dir = write_run(tmp_path / "run", rows, variants=("same",), primary=["success", "score"])
    analyze_run(run_dir)

    success, score = metric_of(run_dir, "same", "success"), metric_of(run_dir, "same", "score")
    assert -1 < success["interval"]["low"] < 0 < success["interval"]["high"] < 1
    assert score["interval"]["low"] is None
    assert score["interval"]["high"] is None
    assert score["delta"] == 0
    assert score["minimum_detectable_effect"] is None


def test_unpaired_samples_use_newcombe_and_fisher(tmp_path: Path) -> None:
    rows = [*outcomes("base", "sssfffffff"), *outcomes("better", "sssssssssf")]
    run_dir = write_run(tmp_path / "run", rows, comparison="unpaired", secondary=["duration_ms"])
    analyze_run(run_dir)

    figures = metric_of(run_dir, "better", "success")
    assert figures["delta"] == pytest.approx(0.6)
    assert figures["interval"]["method"] == "Newcombe (score)"
    assert figures["test"]["name"] == "Fisher exact (two-sided)"


def test_a_design_that_compares_nothing_has_no_deltas(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [*outcomes("base", "sf"), *outcomes("better", "ss")], comparison="none")
    summary = analyze_run(run_dir)

    assert comparisons(run_dir) == []
    assert summary["variants"]["better"]["success_rate"] == 1


def test_pass_at_k_and_pass_hat_k_are_means_over_tasks(tmp_path: Path) -> None:
    # Task 0 is solved in 2 of 4, task 1 in 4 of 4, task 2 in none of 2.
    solved = {0: "ssff", 1: "ssss", 2: "ff"}
    rows = [
        trial_row("base", task, repeat, outcome="success" if letter == "s" else "failure")
        for task, letters in solved.items()
        for repeat, letter in enumerate(letters)
    ]
    run_dir = write_run(tmp_path / "run", rows, replications=4)
    found = {row["k"]: row for row in analyze_run(run_dir)["variants"]["base"]["pass_k"]}

    assert sorted(found) == [1, 2, 3, 4]
    assert found[1]["pass_at_k"] == found[1]["pass_hat_k"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found[2]["pass_at_k"] == pytest.approx((5 / 6 + 1 + 0) / 3)
    assert found[2]["pass_hat_k"] == pytest.approx((1 / 6 + 1 + 0) / 3)
    # A task with two repeats has no figures for three tries.
    assert found[3]["tasks"] == 2
    assert found[3]["pass_at_k"] == 1.0
    assert found[3]["pass_hat_k"] == pytest.approx(0.5)


def test_latency_is_the_runners_unless_the_harness_reports_it(tmp_path: Path) -> None:
    plain = [trial_row(v, task, duration_ms=float(task)) for v in ("base", "better") for task in range(5)]
    run_dir = write_run(tmp_path / "plain", plain, secondary=["latency_ms"])
    summary = analyze_run(run_dir)
    figures = metric_of(run_dir, "better", "latency_ms")
    assert figures["source_name"] == "duration_ms"
    assert figures["baseline_mean"] == 2.0
    assert summary["variants"]["base"]["quantiles"]["latency_ms"]["p50"] == 2.0

    own = [trial_row(v, task, metrics={"latency_ms": 7.0}) for v in ("base", "better") for task in range(5)]
    run_dir = write_run(tmp_path / "own", own, secondary=["latency_ms"])
    analyze_run(run_dir)
    figures = metric_of(run_dir, "better", "latency_ms")
    assert figures["source_name"] == "latency_ms"
    assert figures["baseline_mean"] == 7.0


def test_quantiles_and_total_cost_are_computed(tmp_path: Path) -> None:
    rows = [trial_row("base", task, duration_ms=float(task), metrics={"cost_usd": 0.5}) for task in range(101)]
    figures = analyze_run(write_run(tmp_path / "run", rows))["variants"]["base"]

    assert figures["quantiles"]["duration_ms"] == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
    assert figures["cost_usd_total"] == pytest.approx(50.5)
    assert figures["metrics"]["cost_usd"]["mean"] == pytest.approx(0.5)


def test_unreported_metric_is_a_problem(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [*outcomes("base", "ss"), *outcomes("better", "ss")], primary=["acuracy"])
    analyze_run(run_dir)

    figures = metric_of(run_dir, "better", "acuracy")
    assert figures["delta"] is None
    assert figures["interval"] is None
    assert figures["p_holm"] is None
    assert "no trial has a figure for 'acuracy'" in figures["problem"]


def test_the_objective_of_a_trainer_is_the_primary_metric(tmp_path: Path) -> None:
    rows = [
        trial_row(v, task, workload="trainer", objective=("val_fit", task * scale), metrics={"val_fit": 99.0})
        for v, scale in (("base", 1.0), ("better", 2.0))
        for task in range(6)
    ]
    # The declared direction contradicts the one that the name suggests.
    rows[0]["primary_metric_direction"] = "minimize"
    run_dir = write_run(tmp_path / "run", rows, workload="trainer")
    summary = analyze_run(run_dir)

    assert summary["primary_metrics"] == ["val_fit"]
    assert summary["directions"] == {"val_fit": "minimize"}
    # The objective that the harness reports takes precedence over a metric of the same name.
    assert summary["variants"]["base"]["primary_metric_mean"] == pytest.approx(2.5)
    assert metric_of(run_dir, "better", "val_fit")["direction"] == "minimize"
    assert metric_of(run_dir, "better", "val_fit")["is_primary"] is True


def test_objective_of_a_trainer_without_data_is_an_error(tmp_path: Path) -> None:
    facts = read_facts(write_run(tmp_path / "run", [trial_row("base", 0, workload="trainer")], workload="trainer"))

    with pytest.raises(ValueError, match=RUN_ID):
        primary_metrics(facts, None)


def test_a_direction_is_declared_or_known_by_name(tmp_path: Path) -> None:
    declared = {"id": "score", "source": "output", "json_pointer": "/metrics/score", "direction": "minimize"}
    run_dir = write_run(tmp_path / "run", [trial_row("base", 0)], metrics=[declared])
    facts = read_facts(run_dir)
    with open_trial_data(run_dir) as data:
        assert direction_of(facts, data, "score") == "minimize"
        assert direction_of(facts, data, "success") == "maximize"


def test_events_are_summed_by_variant(tmp_path: Path) -> None:
    rows = [trial_row("base", task, event_counts={"error": 2}) for task in range(3)]

    assert analyze_run(write_run(tmp_path / "run", rows))["variants"]["base"]["event_counts"] == {"error": 6}


def test_variant_summary_table_is_written(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [*outcomes("base", "sf"), *outcomes("better", "ss")])
    analyze_run(run_dir)

    source = table_source(run_dir, "variant_summary")
    query = f"SELECT variant_id, is_baseline, total, successes, success_rate, duration_ms_p50 FROM {source} ORDER BY 1"
    assert duckdb.sql(query).fetchall() == [("base", True, 2, 1, 0.5, 100.0), ("better", False, 2, 2, 1.0, 100.0)]


def test_a_run_without_trials_has_a_summary(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", [], primary=["success", "accuracy"])
    summary = analyze_run(run_dir)

    assert summary["variants"]["base"]["success_rate"] is None
    assert metric_of(run_dir, "better", "success")["problem"] == "'base' has no figure for 'success'"


def test_the_same_run_gives_the_same_figures(tmp_path: Path) -> None:
    rows = [
        trial_row(v, task, metrics={"score": (task * 7) % 5 + len(v)}) for v in ("base", "better") for task in range(40)
    ]
    run_dir = write_run(tmp_path / "run", rows)

    def once() -> bytes:
        analyze(
            run_dir, baseline="base", variants=["better"], primary_metrics=["success", "score"], secondary_metrics=["duration_ms"]
        )  # fmt: skip
        return b"".join((run_dir / "analysis" / name).read_bytes() for name in ("summary.json", "comparisons.json"))

    assert once() == once()


def test_metrics_over_the_limit_are_omitted_but_primary_ones_are_kept(tmp_path: Path) -> None:
    rows = [
        trial_row(v, task, metrics={f"m{i:03}": i for i in range(250)}) for v in ("base", "better") for task in range(2)
    ]
    run_dir = write_run(tmp_path / "run", rows, primary=["m249"])
    summary = analyze_run(run_dir)

    assert summary["metrics_omitted"] == 52
    assert summary["variants"]["base"]["primary_metric_mean"] == 249


@pytest.mark.parametrize("comparison", ["paired", "unpaired"])
def test_figures_that_overflow_are_a_problem_of_their_metric_alone(tmp_path: Path, comparison: str) -> None:
    figures = {"base": 0.5, "better": 1.7e308}
    rows = [
        trial_row(variant, task, repeat, metrics={"loss": value, "cost_usd": value})
        for variant, value in figures.items()
        for task in range(4)
        for repeat in range(2)
    ]
    run_dir = write_run(tmp_path / "run", rows, primary=["success", "loss"])
    analyze(
        run_dir,
        baseline="base",
        variants=["better"],
        primary_metrics=["success", "loss"],
        secondary_metrics=["cost_usd"],
        comparison=comparison,
    )

    loss = metric_of(run_dir, "better", "loss")
    assert (loss["delta"], loss["interval"]) == (None, None)
    assert loss["problem"] == "'better' has a figure for 'loss' over 1e+290"
    assert metric_of(run_dir, "better", "success")["interval"] is not None
    summary = json.loads((run_dir / "analysis" / "summary.json").read_text())
    assert summary["variants"]["better"]["cost_usd_total"] is None
