"""Compute before a run which differences of the success rate its plan can detect.

Also compute the power for each gate (condition on the difference): the probability that a variant passes the gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relab.experiments.results.decidability import rounded_up, times
from relab.experiments.results.run_metadata import SUCCESS
from relab.stats.distributions import t_quantile
from relab.stats.power import (
    ALPHA,
    POWER,
    count_needed,
    minimum_detectable_effect,
    pass_chance,
    power_of,
    success_delta_sd,
)
from relab.stats.verdicts import Gate

ASSUMED_RATE = 0.5
_SHOWN_EFFECT = 0.1
_CASES: Final = (("worst_case", ASSUMED_RATE, 0.0), ("half_of_the_variance_between_tasks", ASSUMED_RATE, 0.5))
_GATE_CASES: Final = (*_CASES, ("success_rate_of_0.9_and_half_of_the_variance_between_tasks", 0.9, 0.5))


def plan_power(*, tasks: int, replications: int, comparisons: int, gates: Sequence[Gate] = ()) -> dict[str, Any]:
    """Return how small a difference of the success rate a planned run can detect, as JSON.

    `minimum_detectable_effect` is this difference. It is given for two assumptions: all tasks are equally hard (the
    worst case), or half of the variance is due to differences between tasks. `gates` has the power for each gate
    (condition on the difference): the probability that a variant with an assumed true difference passes the gate.

    Args:
        tasks: the number of tasks. Each task gives one pair: its results with the baseline and with the variant.
        replications: the repeats of each task with each variant.
        comparisons: how many differences the run will judge: the number of variants besides the baseline, times the
            number of primary metrics or gates. The more differences, the higher is the confidence level of each.
        gates: the gates that will judge the run; without any, the default gate "success is better".
    """
    # For correlated comparisons this is a little too strict: the run's own intervals are narrower.
    alpha = ALPHA / max(comparisons, 1)
    cases = {}
    for name, rate, share in _CASES:
        sd = success_delta_sd(rate, replications, task_share=share)
        effect = minimum_detectable_effect(sd, tasks, alpha=alpha)
        cases[name] = {
            "minimum_detectable_effect": None if effect is None or effect > 1 else effect,
            "power_for_a_difference_of_0.1": power_of(_SHOWN_EFFECT, sd, tasks, alpha=alpha),
        }
    asked = [(str(gate), gate) for gate in gates] or [(f"{SUCCESS} is better", Gate(SUCCESS, True, 0.0))]
    return {
        "metric": SUCCESS,
        "assumed_success_rate": ASSUMED_RATE,
        "alpha": alpha,
        "power": POWER,
        "pairs": tasks,
        "replications": replications,
        "comparisons": comparisons,
        **cases,
        "gates": [
            entry | {"summary": _summary(entry, tasks, replications)}
            for entry in (_gate(name, gate, tasks, replications, alpha) for name, gate in asked)
        ],
    }


def _gate(name: str, gate: Gate, tasks: int, replications: int, alpha: float) -> dict[str, Any]:
    if gate.metric != SUCCESS:
        problem = (
            f"how much {gate.metric!r} varies is not known before a run; a verdict of EDGE says what would decide it"
        )
        return {"gate": name, "problem": problem}
    cases = {}
    difference = 0.0 if _distance(gate, 0.0, ASSUMED_RATE) > 0 else _kept(gate)
    for case, rate, share in _GATE_CASES:
        sd = success_delta_sd(rate, replications, task_share=share)
        distance = _distance(gate, difference, rate)
        count = count_needed(distance, sd**2, alpha=alpha) if distance > 0 else None
        cases[case] = {
            "chance_to_pass": pass_chance(distance, sd, tasks, alpha=alpha),
            "tasks_at_these_repeats": count,
            "repeats_at_these_tasks": _repeats(distance, sd**2 * replications, tasks, alpha) if distance > 0 else None,
        }
    return {"gate": name, "assumed_difference": difference, "problem": None, **cases}


def _distance(gate: Gate, difference: float, rate: float) -> float:
    """Return by how much a true difference passes the bound of a gate; negative if it fails the gate.

    A gate demands that a metric's difference from the baseline is at least, or at most, its bound. `rate` is the
    baseline's success rate; the bound of a relative gate is a share of this rate.
    """
    bound = gate.threshold * rate if gate.is_relative else gate.threshold
    return difference - bound if gate.at_least else bound - difference


def _kept(gate: Gate) -> float:
    """Return the bound of a gate (condition on a difference), made stricter by ten percentage points.

    The power of a gate is computed with this true difference if a variant equal to the baseline would fail the gate.
    """
    bound = gate.threshold * ASSUMED_RATE if gate.is_relative else gate.threshold
    return bound + (_SHOWN_EFFECT if gate.at_least else -_SHOWN_EFFECT)


def _repeats(distance: float, variance: float, tasks: int, alpha: float) -> int | None:
    """Return how many repeats of each task a plan needs to pass a gate (a bound on a difference) with power `POWER`.

    Return None for fewer than 2 tasks.

    Args:
        distance: the distance of the true difference from the gate's bound.
        variance: the variance of the difference with one repeat per task.
        tasks: the number of tasks.
        alpha: the significance level (two-sided).
    """
    if tasks < 2:
        return None
    reach = t_quantile(1 - alpha / 2, tasks - 1) + t_quantile(POWER, tasks - 1)
    return max(1, math.ceil(variance / tasks * (reach / distance) ** 2))


def _summary(entry: Mapping[str, Any], tasks: int, replications: int) -> str:
    """Return one sentence about a gate (condition on a difference) in a planned run.

    The sentence has the probability to pass the gate, and the tasks or repeats that are needed for the power `POWER`.
    `entry` is the gate's item in the result of `plan_power`.
    """
    plan = f"{tasks:,} tasks x {times(replications)}"
    if entry["problem"] is not None:
        return f"gate {entry['gate']}: {entry['problem']}"
    found = [entry[case] for case, _, _ in _GATE_CASES]
    chances = sorted(case["chance_to_pass"] for case in found)
    difference = entry["assumed_difference"]
    truth = f"a true difference of {difference:+.3g}" if difference else "variants that are equal"
    text = f"gate {entry['gate']}: {plan} pass {truth} in {chances[0]:.0%} to {chances[-1]:.0%}"
    worst = found[0]
    if worst["tasks_at_these_repeats"] is None:
        return text
    text += f"; for {POWER:.0%} it takes about {rounded_up(worst['tasks_at_these_repeats']):,} tasks x {times(replications)}"
    if worst["repeats_at_these_tasks"] is not None:
        text += f" or {rounded_up(worst['repeats_at_these_tasks']):,} repeats of {tasks:,} tasks"
    best = found[-1]["tasks_at_these_repeats"]
    text += " at worst (success rate 50 %, tasks alike)"
    if best is not None:
        text += f", {rounded_up(best):,} x {times(replications)} if 90 % succeed and half of the variance lies between tasks"
    return text
