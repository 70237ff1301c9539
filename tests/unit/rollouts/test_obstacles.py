"""Plans that can never pass, found before the rollout."""

from __future__ import annotations

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.obstacles import pass_obstacles
from relab.rollouts.reports.wording import next_steps
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_records import record_of
from unit.rollouts.rollout_windows import plan_of, rollout


def test_shipped_plan_can_pass() -> None:
    assert pass_obstacles(plan_of("auto")) == ()


@pytest.mark.parametrize("plan", [plan_of(6), plan_of("auto", rest="time_budget: 1500")])
def test_plan_of_six_rounds_cannot_pass(plan: object) -> None:
    (found,) = pass_obstacles(plan)  # type: ignore[arg-type]  # the parameters are plans

    assert "6 rounds at most, and a PASS needs 7" in found


def test_plan_with_too_few_requests_names_the_number_that_a_pass_needs() -> None:
    (found,) = pass_obstacles(plan_of(8, experiment="qps: 40, window_sec: 1"))

    assert "sends 320 requests" in found
    assert "may be 1.15 %" in found
    assert "a PASS needs 368" in found


@pytest.mark.parametrize(("requests", "verdict"), [(45, Verdict.EDGE), (46, Verdict.PASS)])
def test_number_of_requests_is_the_one_at_which_a_rollout_passes(requests: int, verdict: Verdict) -> None:
    plan = plan_of(8, experiment=f"qps: {requests}, window_sec: 1")
    windows = rollout(plan, 8, -30, offered=requests, sent=requests, completed=requests)

    assert judge(windows, plan).verdict is verdict
    assert (pass_obstacles(plan) == ()) is (verdict is Verdict.PASS)


def test_next_step_of_an_edge_names_the_obstacle_of_its_plan() -> None:
    plan = plan_of(8, experiment="qps: 45, window_sec: 1")
    record = record_of(plan=plan, windows=rollout(plan, 8, -30, offered=45, sent=45, completed=45))

    assert any("a PASS needs 368" in step for step in next_steps(record))


def test_policy_of_the_seed_has_no_obstacles() -> None:
    assert pass_obstacles(plan_of(2, rest="policy: seed")) == ()
