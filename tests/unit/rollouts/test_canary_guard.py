"""The guard of a canary: which measurements of a step allow the next step."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rollouts.execution.canary import CanaryViolation, run_canary
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.canary import Canary
from relab.rollouts.plans.schedule import PlannedWindow
from unit.rollouts.rollout_windows import plan_of, rollout, window

CANARY = Canary(steps=(10.0, 100.0))
BEFORE = tuple(rollout(plan_of(8), 8, -30))
"""Arm A has about 200."""


def step_of(metric_b: float | None, metric_a: float | None, **changes_b: Any) -> tuple[ArmWindow, ...]:
    return (
        window(PlannedWindow(0, 0, Arm.A), metric_a, p95_ms=None),
        window(PlannedWindow(1, 0, Arm.B), metric_b, p95_ms=None, **changes_b),
    )


def violation_of(metric_b: float | None, metric_a: float | None = 200.0) -> CanaryViolation | None:
    return run_canary(
        CANARY,
        BEFORE,
        set_share=lambda _share: None,
        measure=lambda: step_of(metric_b, metric_a),
        check_health=lambda: "",
    )


def test_step_that_keeps_the_limits_allows_the_next_one() -> None:
    assert violation_of(220.0) is None


def test_step_at_its_limits_allows_the_next_one() -> None:
    at_limits = step_of(250.0, 200.0, completed=1_000, bad=10)
    shares: list[float] = []

    found = run_canary(CANARY, BEFORE, set_share=shares.append, measure=lambda: at_limits, check_health=lambda: "")

    assert found is None
    assert shares == [10, 100]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problems": ("Redis was down.", "So was the shop.")}, "Redis was down."),
        ({"completed": 0}, "No request was completed."),
        ({"completed": 1_000, "bad": 11}, "The error rate was 1.10 %, above 1 %."),
    ],
)
@pytest.mark.parametrize("before", [BEFORE, ()])
def test_step_that_breaks_a_limit_is_a_violation(
    before: tuple[ArmWindow, ...], changes: dict[str, Any], reason: str
) -> None:
    shares: list[float] = []

    found = run_canary(
        CANARY,
        before,
        set_share=shares.append,
        measure=lambda: step_of(200.0, None, **changes),
        check_health=lambda: "",
    )

    assert found == CanaryViolation(10, reason)
    assert shares == [10]


def test_problems_of_arm_a_are_no_violation() -> None:
    arm_a, arm_b = step_of(200.0, 200.0)
    measured = (arm_a.model_copy(update={"bad": arm_a.completed}), arm_b)

    found = run_canary(CANARY, BEFORE, set_share=lambda _share: None, measure=lambda: measured, check_health=lambda: "")

    assert found is None


def test_step_without_any_figure_of_arm_a_is_judged_by_its_errors() -> None:
    assert violation_after_an_experiment((210.0, None), (300.0, None)) is None


@pytest.mark.parametrize(
    ("measured", "health", "reason"),
    [
        (None, "", "The rollout was stopped."),
        (step_of(200.0, 200.0), "The database is down.", "The database is down."),
    ],
)
def test_stop_or_an_unhealthy_target_ends_a_canary(
    measured: tuple[ArmWindow, ...] | None, health: str, reason: str
) -> None:
    found = run_canary(
        CANARY, BEFORE, set_share=lambda _share: None, measure=lambda: measured, check_health=lambda: health
    )

    assert found == CanaryViolation(10, reason)


@pytest.mark.parametrize(("metric", "given"), [(0.0, "0"), (-5.0, "-5"), (None, "missing")])
def test_step_without_a_comparable_figure_is_a_violation(metric: float | None, given: str) -> None:
    found = violation_of(metric)

    assert found is not None
    assert found.share_pct == 10
    assert found.reason == f"The judged figure was {given}, so it cannot be compared with arm A."


@pytest.mark.parametrize("unusable", [0.0, -5.0, None])
def test_baseline_of_the_measured_windows_replaces_an_unusable_figure_of_arm_a(unusable: float | None) -> None:
    found = violation_of(300.0, unusable)

    assert found is not None
    assert found.reason.endswith("against arm A, above 25 %.")


def violation_after_an_experiment(*steps: tuple[float | None, float | None]) -> CanaryViolation | None:
    """Return the violation of steps with the given figures of arms B and A in a rollout that measured no windows."""
    measured = iter(steps)
    return run_canary(
        CANARY,
        (),
        set_share=lambda _share: None,
        measure=lambda: step_of(*next(measured)),
        check_health=lambda: "",
    )


def test_figure_of_0_is_an_improvement_in_a_rollout_that_an_experiment_decided() -> None:
    assert violation_after_an_experiment((0.0, 200.0), (0.0, 200.0)) is None
    assert violation_after_an_experiment((0.0, 0.0), (0.0, 0.0)) is None


def test_figure_above_0_is_a_violation_if_arm_a_has_0() -> None:
    found = violation_after_an_experiment((5.0, 0.0))

    assert found is not None
    assert found.reason == "The metric was 5, and 0 in arm A."


def test_last_step_is_compared_with_arm_a_of_the_step_before() -> None:
    assert violation_after_an_experiment((210.0, 200.0), (210.0, None)) is None
    found = violation_after_an_experiment((210.0, 200.0), (300.0, None))

    assert found is not None
    assert found.share_pct == 100
    assert found.reason == "The metric was +50.0 % against arm A, above 25 %."


def test_figure_of_arm_a_without_requests_is_no_baseline() -> None:
    idle, busy = step_of(300.0, 0.0)
    steps = iter([step_of(210.0, 200.0), (idle.model_copy(update={"completed": 0}), busy)])

    found = run_canary(CANARY, (), set_share=lambda _share: None, measure=lambda: next(steps), check_health=lambda: "")

    assert found is not None
    assert found.reason == "The metric was +50.0 % against arm A, above 25 %."


def test_last_step_is_compared_with_the_windows_of_the_rollout_if_there_are_any() -> None:
    steps = iter([step_of(400.0, 400.0), step_of(300.0, None)])

    found = run_canary(
        CANARY, BEFORE, set_share=lambda _share: None, measure=lambda: next(steps), check_health=lambda: ""
    )

    assert found is not None
    assert found.share_pct == 100
    assert found.reason.endswith("against arm A, above 25 %.")
