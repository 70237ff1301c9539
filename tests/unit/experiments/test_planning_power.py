"""What a plan can find out, before it costs anything."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from relab.experiments.planning_power import plan_power

WORST, HALF = "worst_case", "half_of_the_variance_between_tasks"
EFFECT, POWER = "minimum_detectable_effect", "power_for_a_difference_of_0.1"


def test_the_smallest_effect_is_the_textbooks() -> None:
    found = plan_power(tasks=1_000, replications=1, comparisons=1)

    # (z_0.975 + z_0.8) * sqrt(2 * 0.25 / 1000), for so many pairs that t is normal.
    normal = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * (0.5 / 1_000) ** 0.5
    assert found[WORST][EFFECT] == pytest.approx(normal, rel=0.005)
    assert found[HALF][EFFECT] == pytest.approx(normal / 2**0.5, rel=0.005)
    assert (found["pairs"], found["alpha"], found["power"], found["metric"]) == (1_000, 0.05, 0.8, "success")


def test_more_of_anything_finds_out_more() -> None:
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
def test_a_plan_that_can_find_out_nothing_says_so(tasks: int, power: float | None) -> None:
    found = plan_power(tasks=tasks, replications=1, comparisons=1)

    # No difference of success is larger than one.
    assert found[WORST][EFFECT] is None
    assert power is None or found[WORST][POWER] == power


@pytest.mark.parametrize("comparisons", [0, 1, 1_000])
@pytest.mark.parametrize("tasks", [1, 2, 100_000])
@pytest.mark.parametrize("replications", [1, 100_000])
def test_every_plan_has_a_power_that_json_can_say(tasks: int, replications: int, comparisons: int) -> None:
    found = plan_power(tasks=tasks, replications=replications, comparisons=comparisons)

    json.dumps(found, allow_nan=False)
    assert all(0 <= found[case][POWER] <= 1 for case in (WORST, HALF))
