"""Early looks at a rollout before its last round, and the number of rounds that a plan chooses."""

from __future__ import annotations

import math
import re

import pytest

from relab.rollouts.judging import early_look, effect_so_far, effects_by_round, judge, plan_rounds, rounds_in_all
from relab.rollouts.judging.early import EarlyLook
from relab.rollouts.judging.procedure import false_pass_rate
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.schedule import window_cost_s
from relab.stats.dispersed_rate import dispersed_rate
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import REQUESTS, altered, plan_of, rollout

EARLY = plan_of("auto", rest="early_stop: true")


def test_large_gain_is_passed_early_and_the_verdict_agrees() -> None:
    windows = rollout(EARLY, 7, -60)

    look = early_look(windows, EARLY)
    found = judge(windows, EARLY, stopped_early=True)

    assert look is not None
    assert look.should_stop
    assert found.verdict is Verdict.PASS
    assert found.delta_p95 == look.effect
    assert found.early_stop == look.sentence


def test_no_look_passes_before_seven_rounds() -> None:
    look = early_look(rollout(EARLY, 6, -60), EARLY)

    assert look is not None
    assert not look.should_stop


def test_no_look_passes_a_change_without_a_completed_request() -> None:
    look = early_look(altered(rollout(EARLY, 7, -60), Arm.B, completed=0), EARLY)

    assert look is not None
    assert not look.should_stop


@pytest.mark.parametrize(("sd", "bound"), [(0.05, r"[+-]\d+\.\d %"), (20, "unknown")])
def test_look_that_decides_nothing_has_the_upper_bound_of_the_change(sd: float, bound: str) -> None:
    look = early_look(rollout(EARLY, 7, -6, sd=sd), EARLY)

    assert look is not None
    assert not look.should_stop
    assert re.search(rf"the upper bound of Δ.* is {bound}\.$", look.sentence)


def test_harm_stops_after_three_rounds() -> None:
    look = early_look(rollout(EARLY, 3, 300), EARLY)

    assert look is not None
    assert look.should_stop
    assert "at least +" in look.sentence
    found = judge(rollout(EARLY, 3, 300), EARLY, stopped_early=True)
    assert found.verdict is Verdict.FAIL
    assert found.delta_p95 is not None
    assert found.delta_p95.level == pytest.approx(0.99)


def test_errors_stop_after_three_rounds() -> None:
    look = early_look(altered(rollout(EARLY, 3, -60), Arm.B, bad=100), EARLY)

    assert look is not None
    assert look.should_stop
    assert "error rate is at least" in look.sentence


@pytest.mark.parametrize("rounds", [3, 4, 5])
def test_level_of_a_look_leaves_room_for_all_later_looks(rounds: int) -> None:
    look = early_look(rollout(EARLY, rounds, -6), EARLY)
    number = rounds - 2

    assert look is not None
    assert look.effect is not None
    assert look.effect.level == pytest.approx(1 - 2 * 0.01 / (number * (number + 1)))


def test_error_rate_stops_a_measurement_by_its_lower_bound() -> None:
    least = dispersed_rate([100] * 3, [REQUESTS] * 3, level=0.99).low
    certain = early_look(altered(rollout(EARLY, 3, -60), Arm.B, bad=100), EARLY)
    doubtful = early_look(altered(rollout(EARLY, 3, -60), Arm.B, bad=15), EARLY)

    assert certain is not None
    assert f"the error rate is at least {100 * least:.2f} %" in certain.sentence
    assert doubtful is not None
    assert not doubtful.should_stop


@pytest.mark.parametrize(
    "windows",
    [
        rollout(EARLY, 2, 300),
        altered(rollout(EARLY, 2, -60), Arm.B, bad=1_000),
        [*rollout(EARLY, 3, 300)[:-1], rollout(EARLY, 3, 300)[-1].model_copy(update={"metric": None})],
    ],
)
def test_measurement_without_three_usable_rounds_goes_on(windows: list[ArmWindow]) -> None:
    assert early_look(windows, EARLY) == EarlyLook(False, "The first look comes after 3 rounds.", None)


def test_no_look_passes_a_change_whose_error_rate_may_exceed_the_limit() -> None:
    look = early_look(altered(rollout(EARLY, 7, -60), Arm.B, bad=11), EARLY)

    assert look is not None
    assert not look.should_stop


def test_no_look_passes_a_large_gain_that_may_be_chance() -> None:
    look = early_look(rollout(EARLY, 7, -20, sd=0.35, seed=3), EARLY)

    assert look is not None
    assert look.effect is not None
    assert look.effect.estimate_pct < -10
    assert not look.should_stop


def test_plan_without_early_stop_has_no_looks() -> None:
    plan = plan_of(8)

    assert early_look(rollout(plan, 8, -60), plan) is None
    assert judge(rollout(plan, 8, -60), plan).early_stop is None


def test_verdict_after_the_last_round_reports_that_no_early_look_stopped_it() -> None:
    found = judge(rollout(EARLY, 8, -25), EARLY)

    assert found.verdict is Verdict.PASS
    assert found.early_stop == "No early look ended the measurement."
    assert found.delta_p95 is not None
    assert found.delta_p95.level == pytest.approx(0.99)


@pytest.mark.parametrize(("planned", "is_early", "rounds"), [(32, False, 8), (32, True, None), ("auto", False, None)])
def test_false_pass_rate_is_that_of_the_rounds_that_were_possible(
    planned: int | str, is_early: bool, rounds: int | None
) -> None:
    plan = plan_of(planned, rest="policy: seed\nearly_stop: true")

    found = judge(rollout(plan, 8, -30, sd=0.3), plan, stopped_early=is_early)

    assert found.window_sd_pct is not None
    sd = found.window_sd_pct / 100 / math.sqrt(2)
    assert found.false_pass_rate == pytest.approx(false_pass_rate(plan, sd, rounds=rounds), abs=1e-6)


def test_effects_by_round_end_before_the_first_gap() -> None:
    windows = rollout(EARLY, 4, -30)
    gap = [window.model_copy(update={"metric": None}) if window.round == 2 else window for window in windows]

    every = effects_by_round(windows, EARLY)

    assert [rounds for rounds, _ in every] == [1, 2, 3, 4]
    assert every[1][1] == effect_so_far(windows[:4], EARLY)
    assert every[3][1] == effect_so_far(windows, EARLY)
    assert effects_by_round(gap, EARLY) == every[:2]
    assert effects_by_round([window for window in windows if window.round != 1], EARLY) == every[:1]
    assert effects_by_round([], EARLY) == []


def test_rounds_follow_from_the_measured_deviation() -> None:
    few, more, most = (plan_rounds(rollout(EARLY, 8, 0, sd=sd), EARLY) for sd in (0.02, 0.12, 0.5))

    assert few == 8
    assert 8 < more < 32
    assert most == 32


def test_rounds_in_all_are_planned_from_the_first_rounds() -> None:
    noisy = rollout(EARLY, 8, 0, sd=0.12)
    planned = plan_rounds(noisy, EARLY)

    assert rounds_in_all([], EARLY) == 8
    assert rounds_in_all(noisy[:-1], EARLY) == 8
    assert rounds_in_all(noisy, EARLY) == planned
    later = [found for found in rollout(EARLY, 12, 0, sd=0.5, seed=2) if found.round >= 8]
    assert rounds_in_all([*noisy, *later], EARLY) == planned
    assert rounds_in_all(noisy, plan_of(8)) == 8


@pytest.mark.parametrize(("rounds", "most"), [("auto", 20), ("auto", 5), (8, 5)])
def test_rounds_in_all_fit_into_the_time_budget(rounds: int | str, most: int) -> None:
    plan = plan_of(rounds, rest=f"time_budget: {2 * most * window_cost_s(plan_of(rounds))}")

    assert rounds_in_all(rollout(plan, 8, 0, sd=0.5), plan) == most


def test_effect_so_far_needs_a_whole_round() -> None:
    windows = rollout(EARLY, 2, -30)

    assert effect_so_far(windows[:1], EARLY) is None
    first = effect_so_far(windows[:2], EARLY)
    assert first is not None
    assert first.high_pct is None
    second = effect_so_far(windows, EARLY)
    assert second is not None
    assert second.high_pct is not None
