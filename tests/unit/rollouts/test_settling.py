"""Windows right after a change of flags, in which caches are cold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.judging.rollout_data import RolloutData
from relab.rollouts.judging.settling import unsettled
from relab.rollouts.models import Arm, ArmWindow, RolloutJudgement
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import plan_of, rollout

PLAN = plan_of(16)


def cold_rollout(
    own_pct: float, cold_pct: float, *, arms: set[Arm], sd: float = 0.03, seed: int = 1
) -> list[ArmWindow]:
    """Return windows of which those right after a change to one of `arms` have cold caches."""
    windows = rollout(PLAN, 16, own_pct, sd=sd, seed=seed)
    before = [windows[0].arm, *(window.arm for window in windows)]
    return [
        window.model_copy(
            update={
                "metric": (window.metric or 0) * (1 + cold_pct / 100 * (window.arm is not arm and window.arm in arms))
            }
        )
        for window, arm in zip(windows, before, strict=False)
    ]


def warns(found: RolloutJudgement) -> bool:
    return any("had not settled" in warning for warning in found.warnings)


@pytest.mark.parametrize("arms", [{Arm.A, Arm.B}, {Arm.B}])
def test_cold_caches_after_a_change_give_a_warning(arms: set[Arm]) -> None:
    assert warns(judge(cold_rollout(-20, 60, arms=arms), PLAN))


def test_good_change_with_cold_caches_in_arm_b_gives_a_warning() -> None:
    found = judge(cold_rollout(-20, 60, arms={Arm.B}), PLAN)

    assert found.verdict is not Verdict.PASS
    assert any("Raise `warmup_sec`" in doubt for doubt in (*found.warnings, *found.problems))


def test_cold_caches_of_both_arms_do_not_prevent_a_pass() -> None:
    assert judge(cold_rollout(-40, 20, arms={Arm.A, Arm.B}), PLAN).verdict is Verdict.PASS


@pytest.mark.parametrize("seed", range(8))
def test_settled_service_gives_no_warning(seed: int) -> None:
    assert not warns(judge(rollout(PLAN, 16, -30, seed=seed), PLAN))


@pytest.mark.parametrize("seed", range(8))
def test_difference_within_chance_is_not_reported(seed: int) -> None:
    assert unsettled(RolloutData.of(rollout(PLAN, 16, -30, sd=0.3, seed=seed), PLAN)) == ()


def test_too_few_windows_show_no_difference() -> None:
    windows = [window for window in cold_rollout(-20, 60, arms={Arm.A, Arm.B}) if window.round < 4]

    assert unsettled(RolloutData.of(windows, PLAN)) == ()


def test_arms_that_are_measured_at_the_same_time_show_no_difference() -> None:
    data = RolloutData.of(cold_rollout(-20, 60, arms={Arm.A, Arm.B}), PLAN)

    assert unsettled(data) != ()
    assert unsettled(replace(data, is_live=True)) == ()


def test_small_difference_after_a_change_is_not_reported() -> None:
    assert not warns(judge(cold_rollout(-20, 3, arms={Arm.A, Arm.B}, sd=0.001), PLAN))


def test_faster_windows_after_a_change_are_not_reported() -> None:
    assert not warns(judge(cold_rollout(-20, -40, arms={Arm.A, Arm.B}), PLAN))
