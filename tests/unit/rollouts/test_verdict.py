"""Verdicts of rollouts: the truth table, the conditions for INVALID, and the figures of a verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.rollouts.judging import effect_so_far, judge
from relab.rollouts.models import Arm, RouteFigures
from relab.rollouts.plans.models import Plan
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import REQUESTS, altered, assert_invalid, plan_of, rollout

PLAN = plan_of(8)


def bad(windows: list, arm: Arm, counts: list[int]) -> list:
    numbers = iter(counts)
    return [found.model_copy(update={"bad": next(numbers)}) if found.arm is arm else found for found in windows]


def test_a_real_improvement_passes() -> None:
    found = judge(rollout(PLAN, 8, -30), PLAN)

    assert found.verdict is Verdict.PASS
    assert found.delta_p95 is not None
    assert found.delta_p95.estimate_pct == pytest.approx(-30, abs=3)
    assert found.delta_p95.low_pct is not None
    assert found.delta_p95.high_pct is not None
    assert found.delta_p95.low_pct < found.delta_p95.estimate_pct < found.delta_p95.high_pct < 0
    assert found.delta_p95.level == pytest.approx(0.99)
    assert found.windows == {Arm.A: 8, Arm.B: 8}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (-10.2, Verdict.PASS),
        (-9.8, Verdict.EDGE),
        (-5.2, Verdict.EDGE),
        (-4.8, Verdict.FAIL),
        (0, Verdict.FAIL),
        (50, Verdict.FAIL),
    ],
)
def test_change_without_noise_is_judged_by_the_thresholds(change: float, verdict: Verdict) -> None:
    assert judge(rollout(PLAN, 8, change, sd=0), PLAN).verdict is verdict


def test_error_rate_at_the_limit_fails_for_any_latency() -> None:
    windows = bad(rollout(PLAN, 8, -50), Arm.B, [12] * 8)

    found = judge(windows, PLAN)

    assert found.error_rate_pct == 1.0
    assert found.verdict is Verdict.FAIL
    assert "error rate is 1.00 %" in found.reason


def test_error_rate_below_the_limit_with_an_upper_bound_above_it_is_an_edge() -> None:
    windows = bad(rollout(PLAN, 8, -50), Arm.B, [10, 11, 10, 11, 10, 11, 10, 11])

    found = judge(windows, PLAN)

    assert found.error_rate_pct == pytest.approx(0.875)
    assert found.error_rate_upper_pct is not None
    assert found.error_rate_upper_pct > 1
    assert found.verdict is Verdict.EDGE
    assert "error rate may be" in found.reason


def test_errors_in_bursts_widen_the_bound() -> None:
    even = judge(bad(rollout(PLAN, 8, -50), Arm.B, [5] * 8), PLAN)
    burst = judge(bad(rollout(PLAN, 8, -50), Arm.B, [40] + [0] * 7), PLAN)

    assert even.error_rate_pct == burst.error_rate_pct
    assert even.verdict is Verdict.PASS
    assert burst.verdict is Verdict.EDGE


def test_errors_of_arm_a_do_not_count() -> None:
    assert judge(bad(rollout(PLAN, 8, -50), Arm.A, [500] * 8), PLAN).verdict is Verdict.PASS


def test_two_rounds_are_underpowered_even_with_a_huge_change() -> None:
    plan = plan_of(2)

    found = judge(rollout(plan, 2, -90, sd=0.001), plan)

    assert found.verdict is Verdict.EDGE
    assert found.reason.startswith("Underpowered")
    assert "at least 7" in found.reason


def test_seed_policy_passes_two_rounds_by_the_figures_alone() -> None:
    plan = plan_of(2, rest="policy: seed")

    found = judge(rollout(plan, 2, -12, sd=0.001), plan)

    assert found.verdict is Verdict.PASS
    assert found.false_pass_rate is not None


@pytest.mark.parametrize(("change", "verdict"), [(-9, Verdict.EDGE), (-4, Verdict.FAIL)])
def test_seed_policy_has_the_same_thresholds(change: float, verdict: Verdict) -> None:
    plan = plan_of(2, rest="policy: seed")

    assert judge(rollout(plan, 2, change, sd=0.001), plan).verdict is verdict


def test_noise_makes_an_improvement_an_edge_and_reports_the_rounds_needed() -> None:
    windows = rollout(PLAN, 8, -20, sd=0.35, seed=3)

    found = judge(windows, PLAN)

    assert found.delta_p95 is not None
    assert found.delta_p95.estimate_pct < -10
    assert found.verdict is Verdict.EDGE
    assert found.rounds_needed is not None
    assert f"about {found.rounds_needed} rounds" in found.reason
    assert found.delta_p95.high_pct is not None
    assert f"its interval reaches {found.delta_p95.high_pct:+.1f} %" in found.reason


def test_verdict_has_its_figures() -> None:
    found = judge(rollout(PLAN, 8, -30, sd=0.1), PLAN)

    assert found.window_sd_pct == pytest.approx(14, abs=7)
    assert found.minimum_detectable_effect_pct is not None
    assert -35 < found.minimum_detectable_effect_pct < -10
    assert found.false_pass_rate is not None
    assert found.false_pass_rate <= 0.01
    assert found.delta_qps_pct == 0
    assert found.ab_imbalance_pct == 0


def test_no_windows_are_invalid() -> None:
    found = judge([], PLAN)

    assert_invalid(found, "No round was measured")
    assert found.delta_p95 is None
    assert found.error_rate_pct is None
    assert found.false_pass_rate is None


def test_missing_window_is_invalid() -> None:
    windows = [found for found in rollout(PLAN, 8, -30) if (found.round, found.arm) != (3, Arm.B)]

    assert_invalid(judge(windows, PLAN), "Round 4 has no window of arm B")


def test_incomplete_last_round_is_left_out_with_a_warning() -> None:
    found = judge(rollout(PLAN, 9, -30)[:-1], PLAN)

    assert found.verdict is Verdict.PASS
    assert found.windows == {Arm.A: 8, Arm.B: 8}
    assert any("not completed" in warning for warning in found.warnings)


def test_window_with_a_problem_is_invalid() -> None:
    windows = rollout(PLAN, 8, -30)
    windows[5] = windows[5].model_copy(update={"problems": ("Redis was down.",)})

    assert_invalid(judge(windows, PLAN), "Window 6 (arm ")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(None, "missing"), (0.0, "0, not above 0"), (-1.0, "-1, not above 0"), (1e308, "1e+308, above 1e+290")],
)
def test_missing_figure_is_invalid_and_no_number_is_made_up(metric: float | None, expected: str) -> None:
    windows = rollout(PLAN, 8, -30)
    windows[5] = windows[5].model_copy(update={"metric": metric})

    found = judge(windows, PLAN)

    assert_invalid(found, f"the judged figure is {expected}.")
    assert found.delta_p95 is None
    assert found.minimum_detectable_effect_pct is None
    assert found.rounds_needed is None


def test_seed_policy_compares_the_means_of_the_figures() -> None:
    plan = plan_of(2, rest="policy: seed")
    figures = {(0, Arm.A): 100.0, (0, Arm.B): 80.0, (1, Arm.A): 200.0, (1, Arm.B): 190.0}
    windows = [each.model_copy(update={"metric": figures[each.round, each.arm]}) for each in rollout(plan, 2, 0)]

    found = judge(windows, plan)

    assert found.delta_p95 is not None
    assert found.delta_p95.estimate_pct == pytest.approx(-10)


def test_advice_is_left_out_if_there_were_enough_rounds() -> None:
    plan = plan_of(16)

    found = judge(rollout(plan, 16, -12, sd=0.1, seed=8), plan)

    assert found.rounds_needed is not None
    assert found.rounds_needed < 16
    assert found.reason.startswith("Underpowered")
    assert found.reason.endswith("so chance is not excluded.")


def test_few_noisy_rounds_report_the_rounds_needed() -> None:
    plan = plan_of(4)

    found = judge(rollout(plan, 4, -30, sd=0.2), plan)

    assert found.verdict is Verdict.EDGE
    assert found.rounds_needed is not None
    assert found.rounds_needed > 7
    assert f"at least {found.rounds_needed} are needed" in found.reason


def test_seed_policy_warns_of_doubtful_data_and_needs_complete_data() -> None:
    plan = plan_of(8, rest="policy: seed")
    windows = altered(rollout(plan, 8, -30), Arm.A, dropped=10, completed=REQUESTS - 10)

    doubtful = judge(windows, plan)
    assert doubtful.verdict is Verdict.PASS
    assert any("its load was too low" in warning for warning in doubtful.warnings)

    windows[3] = windows[3].model_copy(update={"problems": ("Redis was down.",)})
    assert_invalid(judge(windows, plan), "Redis was down")


def test_dropped_load_is_invalid() -> None:
    windows = altered(rollout(PLAN, 8, -30), Arm.A, dropped=10, completed=REQUESTS - 10)

    assert_invalid(judge(windows, PLAN), "dropped, so its load was too low")


def test_a_single_dropped_request_is_a_warning() -> None:
    windows = rollout(PLAN, 8, -30)
    windows[0] = windows[0].model_copy(update={"dropped": 1, "completed": REQUESTS - 1})

    found = judge(windows, PLAN)

    assert found.verdict is Verdict.PASS
    assert found.warnings == ("1 due requests were dropped.",)


def test_requests_without_outcome_are_invalid() -> None:
    windows = altered(rollout(PLAN, 8, -30), Arm.B, completed=REQUESTS - 20)

    assert_invalid(judge(windows, PLAN), "have no outcome")


def test_unequal_samples_fail_the_request_level_test() -> None:
    fewer = round(REQUESTS * 0.93)
    windows = altered(rollout(PLAN, 8, -30), Arm.B, completed=fewer, offered=fewer, sent=fewer)

    found = judge(windows, PLAN)

    assert_invalid(found, "numbers of requests differ by 7.0 %")
    assert found.ab_imbalance_pct == pytest.approx(7)
    assert any("differ by 7.0 %" in warning for warning in found.warnings)


@pytest.mark.parametrize("order", ["abab", "abba", "random"])
def test_linear_drift_does_not_bias_the_estimate(order: str) -> None:
    plan = plan_of(8, experiment=f"order: {order}")

    found = judge(rollout(plan, 8, -20, sd=0, drift=-0.02), plan)

    assert found.delta_p95 is not None
    assert found.delta_p95.estimate_pct == pytest.approx(-20)


@pytest.mark.parametrize("order", ["abab", "abba", "random"])
def test_linear_drift_does_not_change_the_interval(order: str) -> None:
    plan = plan_of(8, experiment=f"order: {order}")

    even, drifting = (judge(rollout(plan, 8, -20, drift=drift), plan) for drift in (0.0, 0.2))

    assert even.delta_p95 is not None
    assert drifting.delta_p95 is not None
    assert drifting.delta_p95.model_dump() == pytest.approx(even.delta_p95.model_dump())


LIVE = """subject:
  live: true
  flags: {kind: product_flag, key: limit, a: old, b: new}
  metric: {kind: json, url: "http://127.0.0.1:1/$arm", pointer: /p95, requests: /n, errors: /bad}
"""


def test_arms_at_the_same_time_are_not_corrected_for_a_distance_in_time() -> None:
    plan = plan_of(8, rest=LIVE)
    levels = [200 * math.exp(-0.05 * number) for number in range(8)]
    windows = [
        window.model_copy(update={"metric": levels[window.round] * (0.8 if window.arm is Arm.B else 1.0)})
        for window in rollout(plan, 8, 0)
    ]

    found = judge(windows, plan)

    assert found.delta_p95 is not None
    assert found.delta_p95.estimate_pct == pytest.approx(-20)


@pytest.mark.parametrize(("fewer_pct", "verdict"), [(11, Verdict.PASS), (40, Verdict.INVALID)])
def test_live_arms_may_differ_as_halves_of_few_users_do(fewer_pct: int, verdict: Verdict) -> None:
    plan = plan_of(8, rest=LIVE)
    fewer = round(REQUESTS * (1 - fewer_pct / 100))
    windows = altered(rollout(plan, 8, -30), Arm.A, completed=fewer, offered=fewer, sent=fewer)

    found = judge(windows, plan)

    assert found.verdict is verdict
    assert any(f"numbers of requests differ by {fewer_pct}.0 %" in warning for warning in found.warnings)


def test_throughput_drop_warns_and_does_not_change_the_verdict() -> None:
    plan = plan_of(8, rest="thresholds: {max_error_rate: 20}")
    # The numbers of requests are so small that they may differ by chance.
    windows = altered(rollout(plan, 8, -30), Arm.A, offered=20, sent=20, completed=20)
    windows = altered(windows, Arm.B, offered=15, sent=15, completed=15)

    found = judge(windows, plan)

    assert found.delta_qps_pct == pytest.approx(-25)
    assert found.verdict is Verdict.PASS
    assert any("throughput changed by -25.0 %" in warning for warning in found.warnings)


def test_slower_route_warns() -> None:
    windows = rollout(PLAN, 8, -30)
    for arm, p95_ms in ((Arm.A, 50.0), (Arm.B, 80.0)):
        route = RouteFigures(name="search", completed=100, bad=0, p95_ms=p95_ms)
        windows = altered(windows, arm, routes=(route,))

    found = judge(windows, PLAN)

    assert [route.name for route in found.routes] == ["search"]
    assert found.routes[0].estimate_pct == pytest.approx(60)
    assert any("P95 of search changed by +60.0 %" in warning for warning in found.warnings)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(0, 40)), min_size=1, max_size=12),
    st.floats(0.01, 100),
)
def test_verdict_follows_the_truth_table_and_does_not_depend_on_the_unit(
    rounds: list[tuple[float, float, int]], unit: float
) -> None:
    plan = plan_of(len(rounds), rest="thresholds: {max_drift: 1e9, max_window_sd: 1e9}")

    windows = [
        found.model_copy(update={"metric": rounds[found.round][found.arm is Arm.B], "bad": rounds[found.round][2]})
        for found in rollout(plan, len(rounds), 0)
    ]
    found = judge(windows, plan)

    assert found.delta_p95 is not None
    assert found.error_rate_pct is not None
    assert found.error_rate_upper_pct is not None
    change, high = found.delta_p95.estimate_pct, found.delta_p95.high_pct
    if found.error_rate_pct >= 1 or change > -5:
        expected = Verdict.FAIL
    elif change <= -10 and high is not None and high < 0 and len(rounds) >= 7 and found.error_rate_upper_pct < 1:
        expected = Verdict.PASS
    else:
        expected = Verdict.EDGE
    assert found.verdict is expected
    scaled = [window.model_copy(update={"metric": unit * (window.metric or 0)}) for window in windows]
    again = effect_so_far(scaled, plan)
    assert again is not None
    assert math.isclose(again.estimate_pct, change, rel_tol=1e-6, abs_tol=1e-6)


@given(st.permutations(range(16)))
def test_order_of_the_windows_in_the_list_does_not_matter(order: list[int]) -> None:
    windows = rollout(PLAN, 8, -30)

    assert effect_so_far([windows[place] for place in order], PLAN) == effect_so_far(windows, PLAN)


def test_default_plan_has_a_verdict() -> None:
    assert judge(rollout(Plan(), 8, -30), Plan()).verdict is Verdict.PASS


@pytest.mark.parametrize(("bad", "warns"), [(11, False), (12, True)])
def test_failures_of_arm_a_give_a_warning(bad: int, warns: bool) -> None:
    plan = plan_of(8)

    found = judge(altered(rollout(plan, 8, -30), Arm.A, bad=bad), plan)

    assert found.verdict is Verdict.PASS
    assert any("The error rate of arm A is" in warning for warning in found.warnings) is warns
