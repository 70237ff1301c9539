"""The statistical power of a plan, computed before the run."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from relab.experiments.results.planning_power import plan_power
from relab.stats.verdicts import Gate

WORST, HALF = "worst_case", "half_of_the_variance_between_tasks"
EFFECT, POWER = "minimum_detectable_effect", "power_for_a_difference_of_0.1"


def test_minimum_detectable_effect_is_that_of_the_textbook_formula() -> None:
    found = plan_power(tasks=1_000, replications=1, comparisons=1)

    # (z_0.975 + z_0.8) * sqrt(2 * 0.25 / 1000); with 1,000 pairs, the t distribution is nearly normal.
    normal = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * (0.5 / 1_000) ** 0.5
    assert found[WORST][EFFECT] == pytest.approx(normal, rel=0.005)
    assert found[HALF][EFFECT] == pytest.approx(normal / 2**0.5, rel=0.005)
    assert found["pairs"] == 1_000
    assert found["alpha"] == 0.05
    assert found["power"] == 0.8
    assert found["metric"] == "success"


def test_more_tasks_or_repeats_raise_the_power_and_more_comparisons_lower_it() -> None:
    base = plan_power(tasks=50, replications=1, comparisons=1)[WORST]
    more_tasks = plan_power(tasks=200, replications=1, comparisons=1)[WORST]
    more_repeats = plan_power(tasks=50, replications=4, comparisons=1)[WORST]
    more_questions = plan_power(tasks=50, replications=1, comparisons=5)[WORST]

    assert more_tasks[EFFECT] == pytest.approx(base[EFFECT] / 2, rel=0.03)
    assert more_repeats[EFFECT] == pytest.approx(base[EFFECT] / 2, rel=1e-4)
    assert more_questions[EFFECT] > base[EFFECT]
    assert more_tasks[POWER] > base[POWER] > more_questions[POWER]
    assert plan_power(tasks=50, replications=1, comparisons=5)["alpha"] == pytest.approx(0.01)


@pytest.mark.parametrize(("tasks", "power"), [(1, 0.0), (2, None), (3, None)])
def test_plan_without_power_is_reported(tasks: int, power: float | None) -> None:
    found = plan_power(tasks=tasks, replications=1, comparisons=1)

    # No difference of success is larger than one.
    assert found[WORST][EFFECT] is None
    assert power is None or found[WORST][POWER] == power


@pytest.mark.parametrize("comparisons", [0, 1, 1_000])
@pytest.mark.parametrize("tasks", [1, 2, 100_000])
@pytest.mark.parametrize("replications", [1, 100_000])
def test_power_of_every_plan_is_a_finite_probability(tasks: int, replications: int, comparisons: int) -> None:
    found = plan_power(tasks=tasks, replications=replications, comparisons=comparisons)

    json.dumps(found, allow_nan=False)
    assert all(0 <= found[case][POWER] <= 1 for case in (WORST, HALF))


def test_plan_reports_that_it_cannot_decide_a_narrow_margin() -> None:
    found = plan_power(tasks=30, replications=3, comparisons=1, gates=[Gate.parse("success>=-0.02")])
    (gate,) = found["gates"]

    assert gate["gate"] == "success>=-0.02"
    assert gate["assumed_difference"] == 0.0
    assert 0.03 < gate[WORST]["chance_to_pass"] < gate[HALF]["chance_to_pass"] < 0.18
    # By hand: (1.96 + 0.84)^2 * 2 * 0.25 / 3 / 0.02^2.
    assert gate[WORST]["tasks_at_these_repeats"] == pytest.approx(3_270, rel=0.01)
    line = gate["summary"]
    assert line.startswith("gate success>=-0.02: 30 tasks x 3 repeats pass variants that are equal in 4% to ")
    assert "for 80% it takes about 3,300 tasks x 3 repeats or " in line
    enough = plan_power(
        tasks=gate[WORST]["tasks_at_these_repeats"], replications=3, comparisons=1, gates=[Gate.parse("success>=-0.02")]
    )
    assert enough["gates"][0][WORST]["chance_to_pass"] == pytest.approx(0.8, abs=0.01)
    repeated = plan_power(
        tasks=30,
        replications=gate[WORST]["repeats_at_these_tasks"],
        comparisons=1,
        gates=[Gate.parse("success>=-0.02")],
    )
    assert repeated["gates"][0][WORST]["chance_to_pass"] == pytest.approx(0.8, abs=0.02)


def test_default_gate_is_that_success_is_better() -> None:
    found = plan_power(tasks=40, replications=1, comparisons=2)
    (gate,) = found["gates"]

    # Equal variants pass only by chance, so the plan assumes a difference of ten points.
    assert gate["gate"] == "success is better"
    assert gate["assumed_difference"] == 0.1
    assert gate[WORST]["chance_to_pass"] == pytest.approx(found[WORST][POWER], abs=0.01)
    assert "pass a true difference of +0.1 in" in gate["summary"]


def test_relative_margin_uses_the_assumed_rate_and_other_metrics_have_no_power() -> None:
    gates = [Gate.parse("latency_ms<=5%"), Gate.parse("success>=-10%"), Gate.parse("success<=-0.3")]
    latency, relative, less = plan_power(tasks=40, replications=2, comparisons=3, gates=gates)["gates"]

    assert "not known before a run" in latency["problem"]
    # 10 % of the assumed rate of 50 % is five points.
    five = plan_power(tasks=40, replications=2, comparisons=3, gates=[Gate.parse("success>=-0.05")])["gates"][0]
    assert relative[WORST] == five[WORST]
    assert less["assumed_difference"] == pytest.approx(-0.4)
    lines = [entry["summary"] for entry in plan_power(tasks=1, replications=1, comparisons=3, gates=gates)["gates"]]
    assert len(lines) == 3
    assert "pass variants that are equal in 0% to 0%" in lines[1]
