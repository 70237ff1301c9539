"""Verdicts about windows whose load was not the planned one, or whose requests have no outcome."""

from __future__ import annotations

import pytest

from relab.rollouts.judging import judge
from relab.rollouts.models import Arm
from relab.stats.verdicts import Verdict
from unit.rollouts.rollout_windows import REQUESTS, altered, assert_invalid, plan_of, rollout

PLAN = plan_of(8)


@pytest.mark.parametrize("arm", [Arm.A, Arm.B])
def test_arm_whose_requests_often_have_no_outcome_is_invalid(arm: Arm) -> None:
    # 13 of 1,200 requests of each window are 1.08 %, above the limit of 1 %.
    windows = altered(rollout(PLAN, 8, -30), arm, completed=REQUESTS - 13)

    assert_invalid(judge(windows, PLAN), f"104 of 9,600 requests of arm {arm} have no outcome.")


def test_one_request_of_a_hundred_may_have_no_outcome() -> None:
    windows = altered(rollout(PLAN, 8, -30), Arm.B, completed=REQUESTS - 12)

    assert judge(windows, PLAN).verdict is Verdict.PASS


def test_dropped_requests_do_not_count_as_requests_without_an_outcome() -> None:
    windows = altered(rollout(PLAN, 8, -30), Arm.B, dropped=100, sent=REQUESTS - 100, completed=REQUESTS - 100)

    found = judge(windows, PLAN)

    assert_invalid(found, "due requests of arm B were dropped")
    assert not any("no outcome" in problem for problem in found.problems)


def test_one_request_of_a_thousand_may_be_dropped() -> None:
    windows = altered(
        rollout(PLAN, 8, -30, offered=2_000, sent=2_000, completed=2_000), Arm.B, dropped=2, sent=1_998, completed=1_998
    )

    assert judge(windows, PLAN).verdict is Verdict.PASS
