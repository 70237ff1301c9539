"""Apply a change in steps: a growing share of the traffic gets arm B, and a guard watches each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from relab.rollouts.judging.rollout_data import MAX_FIGURE
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.canary import Canary, CanaryGuard


@dataclass(frozen=True, slots=True)
class CanaryViolation:
    """The reason why a step of a canary must be undone.

    Attributes:
        share_pct: the share of the traffic that the new flags got in this step, in percent.
        reason: the reason, in one sentence.
    """

    share_pct: float
    reason: str


def run_canary(
    canary: Canary,
    windows: tuple[ArmWindow, ...],
    *,
    set_share: Callable[[float], None],
    measure: Callable[[], tuple[ArmWindow, ...] | None],
    check_health: Callable[[], str],
) -> CanaryViolation | None:
    """Serve the new flags (arm B) to a growing share of the traffic, and check each step against a baseline.

    The baseline is the figures of arm A (old flags) in the first of these that has any: the measurement of the step
    itself, `windows`, the measurements of earlier steps (the latest first).

    Args:
        canary: the steps and limits.
        windows: the windows (measurements of one arm each) from before the canary. Empty if the results of an
            experiment decided the rollout, because nothing was measured then.
        set_share: changes the flags so that arm B gets the given share of the traffic, in percent.
        measure: measures one step and returns its windows; None if the rollout was stopped.
        check_health: returns why the target is unhealthy; "" if it is healthy.

    Returns:
        The first violation: an exceeded limit, a measurement without usable data, an unhealthy target, or a stop. None
        if there is no violation.
    """
    # A rollout that passed by its windows had figures above 0 in all of them, so a 0 shows that the source has failed.
    least = math.ulp(0.0) if windows else 0.0
    before = _figures_of_a(windows, least)
    baseline = before
    for share_pct in canary.steps:
        set_share(share_pct)
        measured = measure()
        if measured is None:
            return CanaryViolation(share_pct, "The rollout was stopped.")
        if reason := check_health():
            return CanaryViolation(share_pct, reason)
        # In a step of 100 %, arm A has no traffic: without windows, the step before it is the baseline.
        baseline = _figures_of_a(measured, least) or before or baseline
        for window in measured:
            if window.arm is not Arm.A and (reason := guard_reason(window, baseline, canary.guard, least=least)):
                return CanaryViolation(share_pct, reason)
    return None


def _figures_of_a(windows: tuple[ArmWindow, ...], least: float) -> list[float]:
    return [
        window.metric
        for window in windows
        if window.arm is Arm.A
        and window.completed
        and window.metric is not None
        and least <= window.metric <= MAX_FIGURE
    ]


def guard_reason(window: ArmWindow, baseline: list[float], guard: CanaryGuard, *, least: float) -> str:
    """Return why a measurement of the new flags does not allow the next step, in one sentence; "" if it does.

    The possible reasons: the measurement is unusable, has no completed request or no usable figure, or a limit is
    exceeded.

    Args:
        window: the measurement of arm B (new flags) during a step of the canary.
        baseline: the judged figures (P95 latencies, or values of the plan's metric) of arm A (old flags), one per
            measurement. The judged figure of `window` is compared with their median. If `baseline` is empty, the judged
            figure is not checked.
        guard: the limits.
        least: the smallest figure that is usable.
    """
    if window.problems:
        return window.problems[0]
    if not window.completed:
        return "No request was completed."
    error_rate = 100 * window.bad / window.completed
    if error_rate > guard.max_error_rate:
        return f"The error rate was {error_rate:.2f} %, above {guard.max_error_rate:g} %."
    return _figure_reason(window.metric, median(baseline), guard, least) if baseline else ""


def _figure_reason(metric: float | None, of_a: float, guard: CanaryGuard, least: float) -> str:
    """Return why the judged figure `metric` of arm B (new flags) does not allow the next step; "" if it does.

    Args:
        metric: the judged figure (the P95 latency, or the metric that the plan names); None if it is missing.
        of_a: the median of this figure in arm A (old flags).
        guard: the limits; `max_delta_p95` is the greatest increase from arm A to arm B, in percent.
        least: the smallest figure that is usable.
    """
    if metric is None or not least <= metric <= MAX_FIGURE:
        given = "missing" if metric is None else f"{metric:g}"
        return f"The judged figure was {given}, so it cannot be compared with arm A."
    if not of_a:
        return f"The metric was {metric:g}, and 0 in arm A." if metric else ""
    delta_pct = 100 * (metric / of_a - 1)
    if delta_pct > guard.max_delta_p95:
        return f"The metric was {delta_pct:+.1f} % against arm A, above {guard.max_delta_p95:g} %."
    return ""
