"""Test the data during the measurement (early looks), so that it can end as soon as a test decides the verdict.

Each test can decide wrongly by chance. The significance levels of the tests are therefore so strict that all tests
together have at most the planned probability of a wrong decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from relab.rollouts.judging.effects import effect_pct, running_effect
from relab.rollouts.judging.procedure import look_alpha, meets_gates
from relab.rollouts.judging.rollout_data import RolloutData
from relab.rollouts.judging.rounds import MIN_PASS_ROUNDS, planned_rounds
from relab.rollouts.models import Arm, ArmWindow, Effect
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import arms_of, rounds_that_fit
from relab.stats.dispersed_rate import dispersed_rate
from relab.stats.intervals import LEVEL

_FAILURE_ALPHA: Final = 0.01
"""The maximum probability that any early look stops a change that does not fail; it holds for the judged figure and for
the error rate separately. It has no influence on a PASS."""
FAILURE_ROUNDS: Final = 3
"""The minimum number of rounds after which an early look can end a measurement because the change fails."""


@dataclass(frozen=True, slots=True)
class EarlyLook:
    """The result of an early look (interim analysis) at the data after a round (one measurement of each set of flags).

    Attributes:
        should_stop: whether the measurement can end, because the data decide the verdict.
        sentence: the result in one sentence.
        effect: the change from the old to the new flags, with an interval that is corrected for repeated looks; None if
            it cannot be computed yet.
    """

    should_stop: bool
    sentence: str
    effect: Effect | None


def early_look(windows: Sequence[ArmWindow], plan: Plan) -> EarlyLook | None:
    """Check after a complete round (one measurement of each set of flags) whether the data already decide the verdict.

    A look ends the measurement in these cases:

    - After at least `FAILURE_ROUNDS` rounds, the change fails beyond chance: the whole interval of the judged figure's
      change, or of the error rate, lies above its limit. The judged figure is the P95 latency or a metric.
    - After at least `MIN_PASS_ROUNDS` rounds, the change passes.

    Args:
        windows: all windows (measurements) of the rollout so far; those of an incomplete round are not used.
        plan: the plan.

    Returns:
        The result; None if the plan has no `early_stop`.
    """
    if plan.early_stop is None:
        return None
    data = RolloutData.of(windows, plan)
    rounds, pairs = len(data.rounds), data.pairs()
    if rounds < FAILURE_ROUNDS or pairs is None:
        return EarlyLook(False, f"The first look comes after {FAILURE_ROUNDS} rounds.", None)
    look = rounds - FAILURE_ROUNDS + 1
    failure_alpha = _FAILURE_ALPHA / (look * (look + 1))
    running = running_effect(pairs)
    effect = effect_pct(running, alpha=failure_alpha)
    failure = certain_failure(data, plan, effect, failure_alpha)
    if failure is not None:
        return EarlyLook(True, f"After {rounds} rounds {failure}, so the measurement can end.", effect)
    if rounds < MIN_PASS_ROUNDS:
        return EarlyLook(False, f"After {rounds} rounds nothing is decided.", effect)
    alpha = look_alpha(plan, rounds)
    effect = effect_pct(running, alpha=alpha)
    upper = error_upper_pct(data)
    is_clean = upper is not None and upper < plan.thresholds.max_error_rate
    if is_clean and bool(meets_gates(plan, running, rounds, alpha)):
        return EarlyLook(
            True,
            f"After {rounds} rounds Δ{plan.judged_figure} is at most {effect.high_pct:+.1f} %, so the measurement can end.",
            effect,
        )
    shown = "unknown" if effect.high_pct is None else f"{effect.high_pct:+.1f} %"
    sentence = f"After {rounds} rounds nothing is decided: the upper bound of Δ{plan.judged_figure} is {shown}."
    return EarlyLook(False, sentence, effect)


def certain_failure(data: RolloutData, plan: Plan, effect: Effect, alpha: float) -> str | None:
    """Return why a change fails beyond chance, as a clause such as `the error rate is at least 7.10 %`; None otherwise.

    A change fails beyond chance in two cases: the lower bound of its error rate is above `max_error_rate`, or the lower
    bound of its effect is above `edge_delta_p95_max`. If `edge_delta_p95_max` is negative, the plan requires an
    improvement, so a change without any effect fails too.

    Args:
        data: the measured rounds (a round has one measurement of each set of flags).
        plan: the plan, with these two limits.
        effect: the change of the judged figure (P95 latency or metric), with its interval at the level `alpha`.
        alpha: one-sided significance level, 0..1, of both lower bounds.
    """
    errors = error_interval(data, level=1 - 2 * alpha)
    if errors is not None and errors[0] > plan.thresholds.max_error_rate:
        return f"the error rate is at least {errors[0]:.2f} %"
    if effect.low_pct is not None and effect.low_pct > plan.thresholds.edge_delta_p95_max:
        return f"Δ{plan.judged_figure} is at least {effect.low_pct:+.1f} %"
    return None


def plan_rounds(windows: Sequence[ArmWindow], plan: Plan) -> int:
    """Return how many rounds a plan with `rounds: auto` measures, from its `min_rounds` to its `max_rounds`.

    A round has one window (measurement) of each arm (set of flags). The number is estimated from the standard deviation
    of the measured rounds; `windows` must have at least 2 rounds. The number is `min_rounds` if a window lacks the
    judged figure (the P95 latency, or the metric that the plan names). The time budget is not considered.
    """
    pairs = RolloutData.of(windows, plan).pairs()
    if pairs is None:
        # Without all figures the verdict is INVALID, however many rounds follow.
        return plan.experiment.min_rounds
    sd = running_effect(pairs).sd[-1:]
    return int(planned_rounds(plan, np.asarray(sd), pairs.rounds)[0])


def rounds_in_all(windows: Sequence[ArmWindow], plan: Plan) -> int:
    """Return how many rounds a rollout measures in total, within its time budget.

    A round has one measurement of each arm (set of flags).

    With `rounds: auto`, this is `min_rounds` until that number of rounds is measured. Then the final number is
    estimated from these rounds.
    """
    first, most = plan.experiment.first_rounds, rounds_that_fit(plan)
    # Planned only once: new plans after later rounds would tend to stop at a deviation that is small by chance.
    planned_from = [window for window in windows if window.round < first]
    if plan.experiment.rounds != "auto" or len(planned_from) < first * len(arms_of(plan)):
        return min(first, most)
    return min(plan_rounds(planned_from, plan), most)


def error_interval(data: RolloutData, *, level: float) -> tuple[float, float] | None:
    """Return (lower end, upper end) of the confidence interval of the error rate of arm B (new flags), in percent.

    `level` is the confidence level, 0..1. Return None if arm B has no completed request.
    """
    windows = data.windows(Arm.B) if data.rounds else ()
    if not sum(window.completed for window in windows):
        return None
    found = dispersed_rate([window.bad for window in windows], [window.completed for window in windows], level=level)
    return 100 * found.low, 100 * found.high


def error_upper_pct(data: RolloutData) -> float | None:
    """Return the upper end of the 95 % confidence interval of the error rate with the new flags (arm B), in percent.

    Return None if no request with the new flags was completed.
    """
    found = error_interval(data, level=LEVEL)
    return None if found is None else found[1]
