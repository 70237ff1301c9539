"""Comparison of variants by gates: when the verdict is PASS, FAIL, EDGE or INVALID."""

from __future__ import annotations

import fcntl
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relab.experiments.errors import RunChangedError, RunNotFoundError
from relab.experiments.records.file_names import LOCK
from relab.experiments.results.compare import VariantComparison, compare
from relab.experiments.results.decidability import rounded_up
from relab.stats.verdicts import Verdict
from rig.trial_rows import trial_row, write_run

# Measuring the rate of false passes is slow, so only the tests that need it turn it on.
judge = partial(compare, measure_false_passes=False)


def scored(scale: float, count: int = 20, variant: str = "better", **fields: Any) -> list[dict[str, Any]]:
    """Return rows of two variants whose `score` and duration differ by nearly the same factor for every task."""
    rows = []
    for task in range(count):
        level = 10.0 + task + (task * 7 % 3) / 10
        rows.append(trial_row("base", task, metrics={"score": level}, duration_ms=level))
        other = level * scale + (task * 5 % 3) / 10
        rows.append(trial_row(variant, task, metrics={"score": other}, duration_ms=other, **fields))
    return rows


def verdicts(found: VariantComparison) -> list[tuple[str, str, Verdict]]:
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
    # Every task takes 10 % longer, plus 0 to 0.2.
    run_dir = write_run(tmp_path / "run", scored(1.1))

    found = judge(run_dir, gates=["latency_ms<=15%", "latency_ms<=5%", "latency_ms>=9%"])
    assert [verdict for _, _, verdict in verdicts(found)] == [Verdict.PASS, Verdict.FAIL, Verdict.PASS]
    delta = found.results[0].delta
    assert delta is not None
    assert delta.estimate == pytest.approx((delta.variant_mean or 0) - 1.15 * (delta.baseline_mean or 0))


def test_relative_bound_needs_a_positive_baseline(tmp_path: Path) -> None:
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
    assert better.verdict == Verdict.PASS
    assert better.results[0].gate == "score is better"

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


def by_chance(variants: int, tasks: int = 30, repeats: int = 3, seed: int = 3) -> list[dict[str, Any]]:
    """Return rows of a baseline and equally good variants, with a random success rate for each task."""
    random = np.random.default_rng(seed)
    chances = random.beta(1.0, 1.0, size=tasks)
    return [
        trial_row(name, task, repeat, outcome="success" if random.random() < chances[task] else "failure")
        for name in ("base", *(f"v{number}" for number in range(variants)))
        for task in range(tasks)
        for repeat in range(repeats)
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_most_extreme_of_many_equal_variants_neither_passes_nor_fails(tmp_path: Path, sign: int) -> None:
    # Variant `a` differs by 2.4 standard errors over 40 tasks: decisive alone, but likely by chance among six.
    rows = [trial_row(name, task) for name in ("base", *"abcdef") for task in range(40)]
    for number in range(7):
        scores = np.random.default_rng(number).normal(size=40)
        scores = (scores - scores.mean()) / scores.std(ddof=1)
        for task, score in enumerate(scores):
            rows[40 * number + task]["metrics"] = {"score": float(score)}
    values = {(row["variant_id"], row["task_index"]): row["metrics"]["score"] for row in rows}
    differences = [values["a", task] - values["base", task] for task in range(40)]
    lead = sign * 2.4 * float(np.std(differences, ddof=1)) / 40**0.5
    for row in rows:
        if row["variant_id"] == "a":
            row["metrics"]["score"] += lead
    alone = [row for row in rows if row["variant_id"] in {"base", "a"}]
    one = judge(write_run(tmp_path / "one", alone, variants=("a",), primary=["score"]))
    many = judge(write_run(tmp_path / "many", rows, variants=tuple("abcdef"), primary=["score"]))

    assert one.verdict is (Verdict.PASS if sign > 0 else Verdict.FAIL)
    assert [verdict for name, _, verdict in verdicts(many) if name == "a"] == [Verdict.EDGE]
    assert many.joint is not None
    assert many.joint.comparisons == 6
    assert many.joint.level == 0.95
    assert 0.98 < many.joint.each < 1 - 0.05 / 6
    assert "for all 6 comparisons together" in many.results[0].judgement.reason
    document = many.to_json()
    assert document["family"]["comparisons"] == 6
    assert document["results"][0]["interval"]["level"] == many.joint.each


def test_several_gates_on_one_metric_need_no_wider_interval(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), gates=["score>=0", "score>=-1", "score<=4"])

    assert found.joint is not None
    assert found.joint.comparisons == 3
    assert found.joint.each == pytest.approx(0.95, abs=0.003)


def test_open_verdict_names_the_tasks_and_repeats_that_would_decide_it(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", by_chance(1), variants=("v0",), replications=3)
    (result,) = judge(run_dir, gates=["success>=-0.02"]).results

    assert result.judgement.verdict is Verdict.EDGE
    equal = result.judgement.needed[0]
    assert equal.assumed == "if variant and baseline are equal"
    assert equal.verdict == Verdict.PASS
    assert equal.tasks is not None
    assert equal.repeats is not None
    # By hand: (1.96 + 0.84)^2 times the variance of a task's difference, divided by the square of the margin.
    error = result.delta.standard_error if result.delta is not None else None
    assert error is not None
    assert equal.tasks == pytest.approx((1.96 + 0.8416) ** 2 * error**2 * 30 / 0.02**2, rel=0.01)
    assert (
        f"tasks x 3 repeats give PASS with 80% chance, or {rounded_up(equal.repeats):,} repeats of these 30 tasks"
        in (result.judgement.reason)
    )
    (document,) = judge(run_dir, gates=["success>=-0.02"]).to_json()["results"]
    assert document["needed"][0]["tasks_at_these_repeats"] == equal.tasks


def test_estimated_number_of_tasks_decides_the_verdict(tmp_path: Path) -> None:
    pilot = judge(
        write_run(tmp_path / "pilot", by_chance(1), variants=("v0",), replications=3),
        gates=["success>=-0.05"],
    )
    tasks = pilot.results[0].judgement.needed[0].tasks
    assert tasks is not None
    passed = 0
    for seed in range(6):
        rows = by_chance(1, tasks=tasks, seed=100 + seed)
        run_dir = write_run(tmp_path / str(seed), rows, variants=("v0",), replications=3)
        passed += judge(run_dir, gates=["success>=-0.05"]).verdict is Verdict.PASS
    # At the intended power of 80 %, 2 or fewer of 6 have a probability of 2 %; with far too few tasks, few runs pass.
    assert passed >= 3


def test_estimate_for_a_run_without_repeats_does_not_mention_repeats(tmp_path: Path) -> None:
    rows = [
        trial_row(v, task, outcome="success" if (task + (v == "better")) % 3 else "failure")
        for v in ("base", "better")
        for task in range(20)
    ]
    (result,) = judge(write_run(tmp_path / "run", rows), gates=["success>=-0.02"]).results

    assert [needed.repeats for needed in result.judgement.needed] == [None] * len(result.judgement.needed)
    assert "tasks x 1 repeat give PASS" in result.judgement.reason
    assert "these 20 tasks" not in result.judgement.reason


def test_number_of_tasks_for_variants_that_solve_everything_follows_from_the_margin(tmp_path: Path) -> None:
    rows = [trial_row(v, task, repeat) for v in ("base", "better") for task in range(30) for repeat in range(3)]
    run_dir = write_run(tmp_path / "run", rows, replications=3)
    open_one, default = judge(run_dir, gates=["success>=-0.02"]), judge(run_dir)

    # With 183 tasks, 97.5 % of runs show a difference that exists in 2 % of tasks: 1 - 0.98^183.
    assert [needed.tasks for needed in open_one.results[0].judgement.needed] == [183]
    assert "no number of tasks decides it" in default.results[0].judgement.reason
    enough = [trial_row(v, task) for v in ("base", "better") for task in range(183)]
    assert judge(write_run(tmp_path / "enough", enough), gates=["success>=-0.02"]).verdict is Verdict.PASS
    fewer = [trial_row(v, task) for v in ("base", "better") for task in range(181)]
    assert judge(write_run(tmp_path / "fewer", fewer), gates=["success>=-0.02"]).verdict is Verdict.EDGE


def test_verdict_near_its_bound_is_marked(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", scored(1.1))
    (wide,) = judge(run_dir, gates=["score>=0"]).results
    assert wide.judgement.interval is not None
    low, high = wide.judgement.interval.low, wide.judgement.interval.high
    near, over = (
        judge(run_dir, gates=[f"score>={low - 0.001:.6f}"]),
        judge(run_dir, gates=[f"score>={high + 0.001:.6f}"]),
    )

    assert wide.judgement.verdict == Verdict.PASS
    assert wide.judgement.is_near is False
    assert "near" not in wide.judgement.reason
    for found, verdict in ((near, Verdict.PASS), (over, Verdict.FAIL)):
        judgement = found.results[0].judgement
        assert judgement.verdict == verdict
        assert judgement.is_near is True
        # On the bound, another run falls on either side with equal probability.
        assert judgement.rerun_chance == pytest.approx(0.5, abs=0.03)
        assert f"another run of this size gives {verdict.value} in about 5" in found.reason
        assert found.to_json()["results"][0]["near_bound"] is True


def test_lower_is_better_for_a_metric_to_minimize(tmp_path: Path) -> None:
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
        ([], ["acuracy"], "the direction of 'acuracy' is unknown"),
        ([], ["nonsense_loss"], "no trial has a figure for 'nonsense_loss'"),
    ],
)
def test_an_unknown_metric_is_invalid(tmp_path: Path, gates: list[str], metrics: list[str], reason: str) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), gates=gates, metrics=metrics)

    assert found.verdict is Verdict.INVALID
    assert reason in found.reason


def test_an_unknown_baseline_is_invalid(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), baseline="nobody")

    assert found.verdict == Verdict.INVALID
    assert found.results == ()
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
def test_more_than_a_tenth_of_missing_figures_is_invalid(tmp_path: Path, who: str, lost: int, verdict: Verdict) -> None:
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


def test_run_without_a_process_is_interrupted_and_not_running(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", scored(1.1), status="running")
    killed = judge(run_dir).reason
    (run_dir / LOCK).parent.mkdir(exist_ok=True)
    with (run_dir / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        working = judge(run_dir).reason

    assert killed == "the run is not finished: its status is 'interrupted'"
    assert working == "the run is not finished: its status is 'running'"


def test_an_unfinished_run_is_not_judged(tmp_path: Path) -> None:
    cut_short = judge(write_run(tmp_path / "b", scored(1.1)[:-1], status=None))
    assert cut_short.verdict == Verdict.INVALID
    assert cut_short.reason == "the run is not finished: 39 of 40 trials have a result"
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
    assert judgement.interval.method == "Welch t"
    assert judgement.false_pass_rate is None


def test_constant_differences_give_no_interval_and_no_pass(tmp_path: Path) -> None:
    rows = [trial_row(v, task, metrics={"score": 1.0}) for v in ("base", "better") for task in range(9)]
    found = judge(write_run(tmp_path / "run", rows), gates=["score>=-1"])

    assert found.verdict is Verdict.EDGE
    (result,) = json.loads(json.dumps(found.to_json(), allow_nan=False))["results"]
    assert result["interval"]["low"] is None
    assert result["interval"]["high"] is None
    assert result["verdict"] == "EDGE"
    assert result["interval"]["method"] == "none: the differences do not vary"
    assert "score differs by +0 (95% interval unbounded: the differences do not vary, 9 tasks)" in result["reason"]


def test_equal_differences_but_for_rounding_are_decided_by_no_number_of_tasks(tmp_path: Path) -> None:
    """0.1 + 0.2 is not exactly 0.3, so rounding alone gives the equal differences of costs a variance above 0."""
    more = {"base": 0.0, "better": 0.2}
    rows = [trial_row(v, task, metrics={"score": 0.1 * task + more[v]}) for v in more for task in range(9)]
    reason = judge(write_run(tmp_path / "run", rows), gates=["score<=0.5"]).reason

    assert "if the true difference is the one seen (+0.2), no number of tasks decides it" in reason


def test_folder_that_is_not_a_run_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError) as caught:
        judge(tmp_path)
    assert str(tmp_path) in caught.value.message
    run_dir = write_run(tmp_path / "run", scored(1.1))
    (run_dir / "resolved_experiment.json").write_text('{"version": "0.3"}')
    with pytest.raises(RunChangedError) as caught:
        judge(run_dir)
    assert caught.value.code == "run_damaged"
    assert "experiment: Field required" in caught.value.message


def test_measurement_of_false_passes_can_be_turned_off(tmp_path: Path) -> None:
    found = judge(write_run(tmp_path / "run", scored(1.1)), gates=["score>=0"])

    assert found.results[0].judgement.false_pass_rate is None
