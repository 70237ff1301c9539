"""Builders of windows of simulated rollouts, for tests of verdicts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from relab.rollouts.models import Arm, ArmWindow, RolloutJudgement
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.plans.schedule import PlannedWindow, windows_of
from relab.stats.verdicts import Verdict

REQUESTS = 1_200
ROLLOUT_ID = "rollout-1"
START_US = 1_700_000_000_000_000


def plan_of(rounds: int | str = 8, *, experiment: str = "", rest: str = "") -> Plan:
    """Return a plan with these rounds, further fields of `experiment` as YAML, and further lines."""
    inner = f"rounds: {rounds}" + (f", {experiment}" if experiment else "")
    return parse_plan(f"experiment: {{{inner}}}\n{rest}\n", "plan.yaml")


def window(planned: PlannedWindow, metric: float | None, **changes: Any) -> ArmWindow:
    """Return a valid window of 120 s with 1,200 requests."""
    fields: dict[str, Any] = {
        "index": planned.index,
        "round": planned.round,
        "arm": planned.arm,
        "started_at": START_US,
        "duration_s": 120.0,
        "offered": REQUESTS,
        "sent": REQUESTS,
        "completed": REQUESTS,
        "bad": 0,
        "dropped": 0,
        "p95_ms": metric,
        "metric": metric,
    }
    return ArmWindow(**{**fields, **changes})


def rollout(
    plan: Plan,
    rounds: int,
    change_pct: float,
    *,
    sd: float = 0.03,
    drift: float = 0.0,
    seed: int = 1,
    of_arm: Callable[[Arm], float] | None = None,
    **changes: Any,
) -> list[ArmWindow]:
    """Return the windows of a rollout whose arm B differs by `change_pct`, with log-normal noise and a linear drift.

    `of_arm` gives the change of each arm in percent instead; `changes` are fields of all windows.
    """
    draw = random.Random(seed)
    found = []
    for planned in windows_of(plan, rounds, ROLLOUT_ID):
        percent = of_arm(planned.arm) if of_arm else change_pct * (planned.arm is Arm.B)
        metric = 200 * (1 + percent / 100) * math.exp(draw.gauss(0, sd) + drift * planned.index)
        found.append(window(planned, metric, **changes))
    return found


def altered(windows: list[ArmWindow], arm: Arm, **changes: Any) -> list[ArmWindow]:
    """Return the windows, with changed fields in the windows of one arm."""
    return [found.model_copy(update=changes) if found.arm is arm else found for found in windows]


def assert_invalid(found: RolloutJudgement, part: str) -> None:
    """Assert that the judgement is INVALID and has a problem with the text `part`."""
    assert found.verdict is Verdict.INVALID
    assert any(part in problem for problem in found.problems), found.problems
