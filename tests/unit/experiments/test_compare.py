"""Verdicts on runs: what passes, what fails, what is open, and what cannot be judged."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.compare import Comparison, GateInvalidError, compare
from relab.experiments.errors import RunChangedError, RunNotFoundError
from relab.stats.verdicts import Verdict
from support.trial_rows import trial_row, write_run

# How often a gate passes by chance takes long to measure, and is asked for where it matters.
judge = partial(compare, measure_false_passes=False)


def scored(scale: float, count: int = 20, variant: str = "better", **fields: Any) -> list[dict[str, Any]]:
    """Rows of two variants whose `score` and duration differ by a factor, nearly the same for each task."""
    rows = []
    for task in range(count):
        level = 10.0 + task + (task * 7 % 3) / 10
        rows.append(trial_row("base", task, metrics={"score": level}, duration_ms=level))
        other = level * scale + (task * 5 % 3) / 10
        rows.append(trial_row(variant, task, metrics={"score": other}, duration_ms=other, **fields))
    return rows


def verdicts(found: Comparison) -> list[tuple[str, str, Verdict]]:
    return [(result.variant, result.gate, result.judgement.verdict) for result in found.results]


def test_a_gate_passes_only_if_all_of_the_interval_keeps_it(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", scored(1.1))

    found = compare(run_dir, gates=["score>=0", "score<=0", "score>=2", "score<=1.9"])
    assert [verdict for _, _, verdict in verdicts(found)] == [Verdict.PASS, Verdict.FAIL, Verdict.EDGE, Verdict.EDGE]
    assert found.verdict is Verdict.FAIL
    judgement = found.results[0].judgement
    assert judgement.windows == 20
    assert judgement.minimum_detectable_effect is not None
    assert judgement.false_pass_rate is not None
    assert judgement.false_pass_rate < 0.1
    assert judgement.interval is not None
    assert judgement.interval.low < (judgement.estimate or 0) < judgement.interval.high


def test_a_relative_gate_is_judged_against_the_share_of_each_pair(tmp_path: Path) -> None:
    # Every task costs about 10 % more and a tenth, whatever its level.
    run_dir = write_run(tmp_path / "run", scored(1.1))

    found = judge(run_dir, gates=["latency_ms<=15%", "latency_ms<=5%", "latency_ms>=9%"])
    assert [verdict for _, _, verdict in verdicts(found)] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    delta = found.results[0].delta
    assert delta is not None
    assert delta.estimate == pytest.approx((delta.variant_mean or 0) - 1.15 * (delta.baseline_mean or 0))


def test_a_share_of_a_baseline_that_is_not_above_0_is_no_bound(tmp_path: Path) -> None:
    rows = [
        trial_row(variant, task, metrics={"reward": -10.0 - task % 3 - lead})
        for task in range(10)
        for variant, lead in (("base", 0.0), ("better", 0.5 + task % 2 / 10))
    ]
    found = judge(write_run(tmp_path / "run", rows), gates=["reward>=-5%", "reward>=-1"])
    assert [verdict for _, _, verdict in verdicts(found)] == [Verdict.INVALID, Verdict.PASS]
    assert "own unit" in found.results[0].judgement.reason


def test_without_gates_no_primary_metric_may_be_worse(tmp_path: Path) -> None:
    better = judge(write_run(tmp_path / "better", scored(1.1), primary=["score"]))
    assert (better.verdict, better.results[0].gate) == (Verdict.PASS, "score is not worse")

    worse = judge(write_run(tmp_path / "worse", scored(0.9), primary=["score"]))
    assert worse.verdict is Verdict.FAIL
    assert "all of it is worse" in worse.reason

    rows = [
        trial_row(v, task, outcome="success" if task % 2 else "failure")
        for v in ("base", "better")
        for task in range(20)
    ]
    same = judge(write_run(tmp_path / "same", rows))
    assert same.verdict is Verdict.EDGE


def test_less_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    declared = {"id": "score", "source": "output", "json_pointer": "/metrics/score", "direction": "minimize"}

    assert judge(write_run(tmp_path / "a", scored(1.1), primary=["score"], metrics=[declared])).verdict is Verdict.FAIL
    assert judge(write_run(tmp_path / "b", scored(1.1)), metrics=["duration_ms"]).verdict is Verdict.FAIL
    assert judge(write_run(tmp_path / "c", scored(0.9)), metrics=["latency_ms"]).verdict is Verdict.PASS


def test_another_baseline_may_be_chosen(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1), primary=["score"]), baseline="better")

    assert [(result.variant, result.judgement.verdict) for result in found.results] == [("base", Verdict.FAIL)]


def test_the_worst_of_all_variants_decides(tmp_path: Path) -> None:
    rows = [*scored(1.1), *[row for row in scored(0.9, variant="worse") if row["variant_id"] == "worse"]]
    found = judge(write_run(tmp_path / "run", rows, variants=("better", "worse"), primary=["score"]))

    assert [result.judgement.verdict for result in found.results] == [Verdict.PASS, Verdict.FAIL]
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("worse: score differs by -")


@pytest.mark.parametrize(
    ("gates", "metrics", "reason"),
    [
        (["acuracy>=0"], [], "no trial has a figure for 'acuracy'"),
        ([], ["acuracy"], "whether more or less of 'acuracy' is better is not known"),
        ([], ["nonsense_loss"], "no trial has a figure for 'nonsense_loss'"),
    ],
)
def test_an_unknown_metric_is_invalid(tmp_path: Path, gates: list[str], metrics: list[str], reason: str) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), gates=gates, metrics=metrics)

    assert found.verdict is Verdict.INVALID
    assert reason in found.reason


def test_an_unknown_baseline_is_invalid(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), baseline="nobody")

    assert (found.verdict, found.results) == (Verdict.INVALID, ())
    assert found.reason == "there is no variant 'nobody'; the run has base, better"


def test_one_task_is_not_enough(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1, count=1)), gates=["score>=0"])

    assert found.verdict is Verdict.INVALID
    assert "1 task is not enough" in found.reason


def test_one_source_of_many_tasks_is_not_enough(tmp_path: Path) -> None:
    rows = [row | {"cluster": "the only document"} for row in scored(1.1)]
    found = judge(write_run(tmp_path / "run", rows), gates=["score>=0"])

    assert found.verdict is Verdict.INVALID
    assert "1 group of tasks that depend on each other is not enough" in found.reason


@pytest.mark.parametrize(("lost", "verdict"), [(2, Verdict.PASS), (3, Verdict.INVALID)])
@pytest.mark.parametrize("who", ["base", "better"])
def test_beyond_a_tenth_missing_nothing_is_said(tmp_path: Path, who: str, lost: int, verdict: Verdict) -> None:
    rows = scored(1.1)
    for row in rows:
        if row["variant_id"] == who and row["task_index"] < lost:
            row["metrics"] = {}
    found = judge(write_run(tmp_path / "run", rows), gates=["score>=0"])

    assert found.verdict is verdict
    assert (f"{who!r} has 17 figures for 'score' of 20 planned trials" in found.reason) == (verdict is Verdict.INVALID)


def test_trials_that_were_not_run_are_missing_and_no_failures(tmp_path: Path) -> None:
    rows = [trial_row("base", task) for task in range(20)]
    rows += [trial_row("better", task, outcome="missing" if task < 5 else "success") for task in range(20)]
    found = judge(write_run(tmp_path / "run", rows))

    assert found.verdict is Verdict.INVALID
    assert "'better' has 15 figures for 'success' of 20 planned trials" in found.reason


def test_an_unfinished_run_is_not_judged(tmp_path: Path) -> None:
    assert "its status is 'running'" in judge(write_run(tmp_path / "a", scored(1.1), status="running")).reason
    cut_short = judge(write_run(tmp_path / "b", scored(1.1)[:-1], status=None))
    assert (cut_short.verdict, cut_short.reason) == (
        Verdict.INVALID, "the run is not finished: 39 of 40 trials have a result",
    )  # fmt: skip
    run_dir = write_run(tmp_path / "c", scored(1.1))
    (run_dir / "manifest.json").write_text(json.dumps({"ext": {"total_trials": 80}}))
    assert judge(run_dir).reason == "the run is not finished: 40 of 80 trials have a result"
    (run_dir / "analysis" / "tables" / "trials.parquet").unlink()
    assert judge(run_dir).reason == "the run is not finished: it has no tables yet"
    empty = judge(write_run(tmp_path / "d", []))
    assert empty.verdict is Verdict.INVALID


def test_a_design_without_comparison_and_a_lonely_variant_are_invalid(tmp_path: Path) -> None:
    assert "design.comparison is 'none'" in judge(write_run(tmp_path / "a", scored(1.1), comparison="none")).reason
    lonely = write_run(tmp_path / "b", [trial_row("base", 0)], variants=())
    assert "one variant only" in judge(lonely).reason


def test_an_unpaired_design_is_judged_as_two_samples(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(3.0), comparison="unpaired"), gates=["score>=0", "score>=100%"])

    assert [verdict for _, _, verdict in verdicts(found)] == [Verdict.PASS, Verdict.PASS]
    judgement = found.results[0].judgement
    assert judgement.interval is not None
    assert (judgement.interval.method, judgement.false_pass_rate) == ("Welch t", None)


def test_differences_that_do_not_vary_prove_nothing(tmp_path: Path) -> None:
    rows = [trial_row(v, task, metrics={"score": 1.0}) for v in ("base", "better") for task in range(9)]
    found = judge(write_run(tmp_path / "run", rows), gates=["score>=-1"])

    assert found.verdict is Verdict.EDGE
    (result,) = json.loads(json.dumps(found.to_json(), allow_nan=False))["results"]
    assert result["interval"]["low"] is None
    assert result["interval"]["high"] is None
    assert result["verdict"] == "EDGE"


def test_a_gate_that_cannot_be_read_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(GateInvalidError, match="'success > 0' is no gate; write a metric"):
        judge(tmp_path, gates=["success > 0"])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="is no run of an experiment"):
        judge(tmp_path)
    run_dir = write_run(tmp_path / "run", scored(1.1))
    (run_dir / "resolved_experiment.json").write_text('{"version": "0.3"}')
    with pytest.raises(RunChangedError, match="cannot be read: experiment"):
        judge(run_dir)


def test_false_passes_need_not_be_measured(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), gates=["score>=0"])

    assert found.results[0].judgement.false_pass_rate is None
