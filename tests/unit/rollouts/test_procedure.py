"""The simulated procedure of a plan: how often it passes identical arms, and the positions of its windows."""

from __future__ import annotations

import numpy as np
import pytest

from relab.rollouts.judging.effects import effect_pct, running_effect
from relab.rollouts.judging.procedure import false_pass_rate, meets_gates, positions
from relab.rollouts.judging.rollout_data import RolloutData
from relab.rollouts.judging.rounds import planning_factor
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import window_cost_s
from unit.rollouts.rollout_windows import plan_of, rollout

LIVE = """subject:
  live: true
  flags: {kind: product_flag, key: checkout, a: old, b: new}
  metric: {kind: json, url: "http://localhost/$arm", pointer: /p95, requests: /n, errors: /bad}"""


def test_seed_policy_is_simulated_with_the_rounds_that_auto_chooses() -> None:
    automatic, eight, sixteen = (plan_of(rounds, rest="policy: seed") for rounds in ("auto", 8, 16))

    # At this deviation most rollouts end between 8 and 16 rounds, and no rollout needs the 32 of the plan.
    rate = false_pass_rate(automatic, 0.1)

    assert false_pass_rate(sixteen, 0.1) < rate < false_pass_rate(eight, 0.1)


def test_too_few_rounds_pass_only_by_the_seed_policy() -> None:
    assert false_pass_rate(plan_of(6), 0.1) == 0
    assert false_pass_rate(plan_of(7), 0.1) > 0
    assert false_pass_rate(plan_of(1, rest="policy: seed"), 0.1) > 0.05


def test_gates_on_the_interval_pass_less_often_than_the_estimate_alone() -> None:
    by_estimate = false_pass_rate(plan_of(8, rest="policy: seed"), 0.1)

    assert 0 < false_pass_rate(plan_of(8), 0.1) < by_estimate / 2


def test_fixed_number_of_rounds_is_simulated_like_equal_bounds_of_auto() -> None:
    fixed = plan_of(16, rest="policy: seed")
    automatic = plan_of("auto", experiment="min_rounds: 16, max_rounds: 16", rest="policy: seed")

    assert false_pass_rate(fixed, 0.1) == false_pass_rate(automatic, 0.1)


def test_seed_policy_is_simulated_with_the_only_round_that_the_time_budget_permits() -> None:
    once = plan_of(1, rest="policy: seed")
    automatic = plan_of("auto", rest=f"policy: seed\ntime_budget: {3 * window_cost_s(once)}")

    assert false_pass_rate(automatic, 0.1) == false_pass_rate(once, 0.1)


@pytest.mark.parametrize("rounds", [2, 8, 32])
def test_planned_deviation_exceeds_the_true_one_in_seven_of_ten_rollouts(rounds: int) -> None:
    measured = np.random.default_rng(1).standard_normal((40_000, rounds)).std(axis=1, ddof=1)

    assert (measured * planning_factor(rounds) > 1).mean() == pytest.approx(0.7, abs=0.01)


def test_seed_policy_passes_more_often_with_early_looks() -> None:
    without = plan_of(32, rest="policy: seed")
    with_looks = plan_of(32, rest="policy: seed\nearly_stop: {alpha: 0.05}")

    assert false_pass_rate(with_looks, 0.3) > false_pass_rate(without, 0.3) + 0.01


def drawn(plan: Plan, runs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return positions(plan, 8, runs=runs, draw=np.random.default_rng(1))


@pytest.mark.parametrize("order", ["abab", "abba"])
def test_simulated_windows_of_a_fixed_order_have_the_positions_of_measured_windows(order: str) -> None:
    plan = plan_of(8, experiment=f"order: {order}")
    pairs = RolloutData.of(rollout(plan, 8, 0), plan).pairs()

    index_a, index_b = drawn(plan)

    assert pairs is not None
    assert index_a[0].tolist() == pairs.index_a.tolist()
    assert index_b[0].tolist() == pairs.index_b.tolist()


def test_simulated_windows_of_live_traffic_have_the_times_of_measured_windows() -> None:
    plan = plan_of(8, rest=LIVE)
    pairs = RolloutData.of(rollout(plan, 8, 0), plan).pairs()

    index_a, index_b = drawn(plan)

    assert pairs is not None
    assert index_a[0].tolist() == index_b[0].tolist() == pairs.index_a.tolist() == pairs.index_b.tolist()


def test_simulated_rollouts_have_independent_random_orders() -> None:
    index_a, index_b = drawn(plan_of(8), runs=100)

    assert set((index_b - index_a).ravel()) == {-1.0, 1.0}
    assert (np.minimum(index_a, index_b) == 2 * np.arange(8)).all()
    assert len(np.unique(index_a, axis=0)) > 50


def test_arms_of_a_factorial_plan_have_all_positions_of_a_round() -> None:
    index_a, index_b = drawn(plan_of(8, experiment="factorial: true"), runs=100)

    assert set((index_a - 4 * np.arange(8)).ravel()) == {0.0, 1.0, 2.0, 3.0}
    assert (index_a != index_b).all()


@pytest.mark.parametrize("change", [-60, -25, -12, 0])
def test_gates_are_the_estimate_and_the_interval_after_the_rounds(change: float) -> None:
    plan = plan_of(16)
    pairs = RolloutData.of(rollout(plan, 16, change, sd=0.15), plan).pairs()
    assert pairs is not None
    running = running_effect(pairs)

    for rounds in range(2, 17):
        effect = effect_pct(running.after(rounds), alpha=0.005)
        is_certain = effect.high_pct is not None and effect.high_pct < 0
        assert bool(meets_gates(plan, running, rounds, 0.005)) is (effect.estimate_pct <= -10 and is_certain)
