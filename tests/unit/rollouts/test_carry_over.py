"""Verdicts about services that apply a change of flags late: a window then shows the flags of the window before it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.judging.carry_over import carry_over
from relab.rollouts.judging.rollout_data import RolloutData
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import blind_spots, windows_of
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import assert_invalid, plan_of, rollout, window

PLAN = plan_of(16)


def late_rollout(plan: Plan, own_pct: float, previous_pct: float) -> list[ArmWindow]:
    """Return windows whose figure depends on their own arm and on the arm of the window before them."""
    windows = rollout(plan, 16, own_pct)
    before = [Arm.A, *(window.arm for window in windows)]
    return [
        window.model_copy(update={"metric": window.metric * (1 + previous_pct / 100 * (arm is Arm.B))})
        for window, arm in zip(windows, before, strict=False)
        if window.metric is not None
    ]


def test_harmful_change_that_is_applied_a_window_late_does_not_pass() -> None:
    found = judge(late_rollout(PLAN, 0, 50), PLAN)

    # The estimate alone would pass: windows of arm A show the slow flags.
    assert found.delta_p95 is not None
    assert found.delta_p95.estimate_pct < -10
    assert_invalid(found, "applied late")


def test_improvement_that_is_applied_in_time_passes() -> None:
    assert judge(late_rollout(PLAN, -30, 0), PLAN).verdict is Verdict.PASS


def test_carry_over_that_is_small_beside_the_effect_passes() -> None:
    assert judge(late_rollout(PLAN, -50, -15), PLAN).verdict is Verdict.PASS


def test_change_that_is_harmful_beyond_chance_fails_although_it_is_carried_over() -> None:
    found = judge(late_rollout(PLAN, 1_500, 300), PLAN)

    assert found.verdict is Verdict.FAIL
    assert any("applied late" in warning for warning in found.warnings)


def test_slow_first_window_is_no_late_change() -> None:
    windows = rollout(PLAN, 16, -30)
    cold = windows[0].model_copy(update={"metric": 2_000.0})

    assert not any("late" in problem for problem in judge([cold, *windows[1:]], PLAN).problems)


@pytest.mark.parametrize(("order", "lag"), [("abab", 1), ("abba", 2)])
def test_fixed_order_passes_a_harmful_late_change_with_a_warning(order: str, lag: int) -> None:
    plan = plan_of(16, experiment=f"order: {order}")
    windows = rollout(plan, 16, 0)
    arms = [*[Arm.A] * lag, *(window.arm for window in windows)]
    late = [
        window.model_copy(update={"metric": (window.metric or 0) * (1 + 0.5 * (arm is Arm.B))})
        for window, arm in zip(windows, arms, strict=False)
    ]

    found = judge(late, plan)

    assert found.verdict is Verdict.PASS
    assert any(f"`{order}`, the figures cannot show" in warning for warning in found.warnings)


def test_four_arms_cannot_show_a_late_change() -> None:
    (found,) = blind_spots(plan_of(16, experiment="factorial: true"))

    assert "With four arms" in found


def test_arms_that_are_measured_at_the_same_time_cannot_show_a_late_change() -> None:
    data = RolloutData.of(late_rollout(PLAN, 0, 50), PLAN)

    assert carry_over(data) is not None
    assert carry_over(replace(data, is_live=True)) is None


def test_windows_of_four_arms_show_no_late_change() -> None:
    plan = plan_of(16, experiment="factorial: true")

    assert carry_over(RolloutData.of(late_rollout(plan, 0, 50), plan)) is None


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_no_late_change(seed: int) -> None:
    assert carry_over(RolloutData.of(rollout(PLAN, 16, 0, sd=0.3, seed=seed), PLAN)) is None


def test_random_order_can_show_a_late_change() -> None:
    assert blind_spots(PLAN) == ()


def test_change_that_is_applied_two_windows_late_is_invalid() -> None:
    windows = rollout(PLAN, 16, 0)
    before = [Arm.A, Arm.A, *(window.arm for window in windows)]
    late = [
        window.model_copy(update={"metric": (window.metric or 0) * (1 + 0.5 * (arm is Arm.B))})
        for window, arm in zip(windows, before, strict=False)
    ]

    assert_invalid(judge(late, PLAN), "Windows two after arm B differ")


@pytest.mark.parametrize("run", [0, 4, 5, 6])
def test_identical_figures_show_no_late_change(run: int) -> None:
    # The rounding errors of the fit of these orders seem significant.
    windows = [window(planned, 200.0) for planned in windows_of(PLAN, 16, f"rollout-{run}")]

    found = judge(windows, PLAN)
    assert not any("late" in doubt for doubt in (*found.problems, *found.warnings))


def test_carry_over_below_half_a_percent_is_ignored() -> None:
    windows = [window(planned, 200.0) for planned in windows_of(PLAN, 16, "rollout-1")]
    before = [Arm.A, *(found.arm for found in windows)]
    late = [
        found.model_copy(update={"metric": 200.0 * (1.004 if arm is Arm.B else 1.0)})
        for found, arm in zip(windows, before, strict=False)
    ]

    found = judge(late, PLAN)
    assert not any("late" in doubt for doubt in (*found.problems, *found.warnings))
