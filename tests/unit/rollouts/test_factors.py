"""What each change contributes in a factorial plan: flow control, routing, and both together."""

from __future__ import annotations

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.models import Arm, FactorEffects, RolloutJudgement
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import plan_of, rollout


def four_arms(flow: float, routing: float, together: float | None = None) -> RolloutJudgement:
    plan = plan_of(8, experiment="factorial: true")
    both = 100 * ((1 + flow / 100) * (1 + routing / 100) - 1) if together is None else together
    change = {Arm.A: 0.0, Arm.B: both, Arm.C: flow, Arm.D: routing}
    return judge(rollout(plan, 8, 0, of_arm=change.__getitem__), plan)


def test_factorial_plan_attributes_the_gain_to_a_factor() -> None:
    found = four_arms(flow=-40, routing=0)

    assert found.verdict is Verdict.PASS
    assert found.factors is not None
    assert found.factors.flow.estimate_pct == pytest.approx(-40, abs=3)
    assert found.factors.routing.estimate_pct == pytest.approx(0, abs=3)
    assert "The gain comes from flow control" in found.factors.attribution


def test_factorial_plan_shows_an_interaction() -> None:
    found = four_arms(flow=-20, routing=-20, together=-20)

    assert found.factors is not None
    assert found.factors.interaction.estimate_pct == pytest.approx(25, abs=5)
    assert "gain less than each alone suggests" in found.factors.attribution


def test_judgement_of_a_plan_without_factors_has_no_factors() -> None:
    assert judge(rollout(plan_of(8), 8, -30), plan_of(8)).factors is None


def factors(flow: float, routing: float, together: float | None = None) -> FactorEffects:
    found = four_arms(flow, routing, together).factors
    assert found is not None
    return found


@pytest.mark.parametrize(("flow", "routing", "larger"), [(-50, -20, "flow control"), (-20, -50, "routing")])
def test_both_gains_are_named_and_the_larger_one(flow: float, routing: float, larger: str) -> None:
    found = factors(flow, routing)

    assert found.attribution == f"Both flow control and routing gave a gain; the gain of {larger} is larger."


def test_gain_of_routing_alone_is_named() -> None:
    assert factors(flow=0, routing=-40).attribution == "The gain comes from routing; the other change shows no gain."


def test_changes_that_only_help_together_are_named() -> None:
    found = factors(flow=0, routing=0, together=-60)

    assert found.interaction.estimate_pct == pytest.approx(-60, abs=5)
    assert found.attribution.endswith("Together they gain more than each alone suggests.")


def test_changes_without_a_gain_have_none() -> None:
    assert factors(flow=30, routing=30).attribution == "Neither flow control nor routing alone shows a gain."


def test_factors_are_unknown_without_a_complete_round() -> None:
    plan = plan_of(1, experiment="factorial: true")
    windows = [found for found in rollout(plan, 1, -30) if found.arm is not Arm.D]

    assert judge(windows, plan).factors is None
