"""Verdicts about windows without a figure, and about figures that never change."""

from __future__ import annotations

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.models import Arm
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import altered, plan_of, rollout

PLAN = plan_of(8)


@pytest.mark.parametrize("absent", [Arm.A, Arm.B])
def test_windows_that_were_not_measured_count_neither_as_windows_nor_as_an_imbalance(absent: Arm) -> None:
    windows = rollout(PLAN, 3, -30)
    place = next(place for place in (4, 5) if windows[place].arm is absent)
    windows[place] = windows[place].model_copy(
        update={"duration_s": 0.0, "completed": 0, "metric": None, "p95_ms": None, "problems": ("Redis was down.",)}
    )

    found = judge(windows, PLAN)

    assert found.windows == {arm: 3 - (arm is absent) for arm in (Arm.A, Arm.B)}
    assert found.ab_imbalance_pct == 0
    assert not any("numbers of requests differ" in warning for warning in found.warnings)


def test_throughput_is_unknown_if_an_arm_was_not_measured() -> None:
    windows = altered(
        rollout(plan_of(1), 1, -30), Arm.B, duration_s=0.0, completed=0, metric=None, problems=("Redis was down.",)
    )

    found = judge(windows, plan_of(1))

    assert found.delta_qps_pct is None
    assert found.error_rate_pct is None
    assert not any("no completed request" in problem for problem in found.problems)
    assert not any("throughput" in warning for warning in found.warnings)


def test_figure_that_never_changes_is_a_warning_for_its_arm() -> None:
    constant = judge(altered(rollout(PLAN, 8, -30), Arm.B, metric=9.0), PLAN)
    once = judge(altered(rollout(plan_of(1), 1, -30), Arm.B, metric=9.0), plan_of(1))

    assert [warning[:45] for warning in constant.warnings] == ["The judged figure is 9 in all windows of arm "]
    assert "of arm B." in constant.warnings[0]
    assert not any("in all windows" in warning for warning in once.warnings)


@pytest.mark.parametrize(("number", "more"), [(1, ""), (2, " (1 more problem)"), (3, " (2 more problems)")])
def test_reason_has_the_first_problem_and_the_number_of_the_others(number: int, more: str) -> None:
    windows = rollout(PLAN, 8, -30)
    for place in range(number):
        windows[place] = windows[place].model_copy(update={"problems": ("Redis was down.",)})

    assert judge(windows, PLAN).reason == f"Window 1 (arm {windows[0].arm}): Redis was down.{more}"


def test_change_without_a_request_that_shows_its_error_rate_is_invalid() -> None:
    found = judge(altered(rollout(PLAN, 8, -30), Arm.B, duration_s=0.0, offered=0, completed=0), PLAN)

    assert (found.verdict, found.reason) == (Verdict.INVALID, "A figure is missing.")


def test_remedy_follows_the_problem_that_it_solves() -> None:
    windows = rollout(PLAN, 8, -30)
    windows[5] = windows[5].model_copy(update={"problems": ("Redis was down.",), "remedy": "Start Redis."})
    windows[6] = windows[6].model_copy(update={"problems": ("It was not measured.",)})

    found = judge(windows, PLAN)

    assert found.remedies == (f"Window 6 (arm {windows[5].arm}): Redis was down. Start Redis.",)
    assert len(found.problems) == 2


def test_figure_that_is_not_above_zero_is_explained() -> None:
    windows = rollout(PLAN, 8, -30)
    windows[5] = windows[5].model_copy(update={"metric": -1.0})

    found = judge(windows, PLAN)

    assert found.windows[windows[5].arm] == 7
    assert "always above 0" in found.remedies[0]
