"""Verdicts while arm A drifts or varies, or while the load generator is late."""

from __future__ import annotations

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.models import Arm
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import altered, assert_invalid, plan_of, rollout

PLAN = plan_of(8)


def test_drifting_baseline_is_invalid() -> None:
    assert_invalid(judge(rollout(PLAN, 8, -30, drift=0.06), PLAN), "Arm A drifted")


def test_unstable_baseline_is_invalid() -> None:
    assert_invalid(judge(rollout(PLAN, 8, -30, sd=1.0), PLAN), "standard deviation")


def test_steep_trend_within_chance_is_no_drift() -> None:
    plan = plan_of(8, rest="thresholds: {max_drift: 1, max_window_sd: 1000}")

    assert judge(rollout(plan, 8, -30, sd=0.3), plan).problems == ()
    assert_invalid(judge(rollout(plan, 8, -30, drift=0.06), plan), "Arm A drifted")


def test_certain_trend_below_the_limit_is_no_drift() -> None:
    plan = plan_of(8, rest="thresholds: {max_drift: 1000}")

    assert judge(rollout(plan, 8, -30, drift=0.06), plan).problems == ()


@pytest.mark.parametrize(
    ("unstable", "warning"), [({"sd": 0.9}, "standard deviation"), ({"drift": 0.06}, "Arm A drifted")]
)
def test_change_that_is_harmful_beyond_chance_fails_although_arm_a_is_unstable(
    unstable: dict[str, float], warning: str
) -> None:
    found = judge(rollout(PLAN, 8, 1_500, **unstable), PLAN)

    assert found.verdict is Verdict.FAIL, found
    assert "above the threshold" in found.reason
    assert any(warning in sentence for sentence in found.warnings), found.warnings
    assert found.delta_p95 is not None
    assert found.delta_p95.low_pct is not None
    assert found.delta_p95.low_pct > 0


def test_errors_beyond_chance_fail_although_arm_a_is_unstable() -> None:
    found = judge(altered(rollout(PLAN, 8, -30, sd=1.0), Arm.B, bad=100), PLAN)

    assert found.verdict is Verdict.FAIL
    assert "error rate is 8.33 %" in found.reason


def test_harm_within_chance_is_invalid_if_arm_a_is_unstable() -> None:
    assert_invalid(judge(rollout(PLAN, 8, 20, sd=1.0), PLAN), "standard deviation")


def test_harm_measured_with_a_dropped_load_is_invalid() -> None:
    windows = altered(rollout(PLAN, 8, 1_500, sd=0.9), Arm.B, dropped=100, sent=1_100, completed=1_100)

    assert_invalid(judge(windows, PLAN), "were dropped")


def test_late_load_generator_gives_a_warning() -> None:
    windows = rollout(PLAN, 8, -30)
    late = [window.model_copy(update={"lag_p99_ms": 900.0 if window.index < 3 else 1.0}) for window in windows]

    assert judge(windows, PLAN).warnings == ()
    (warning,) = judge(late, PLAN).warnings
    assert "late in 3 of 16 windows (up to 900 ms at P99;" in warning
