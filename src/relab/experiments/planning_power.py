"""What a plan can find out about success, before any trial: its power and the smallest difference it would notice."""

from __future__ import annotations

from typing import Any

from relab.stats.power import ALPHA, POWER, minimum_detectable_effect, power_of, success_delta_sd

ASSUMED_RATE = 0.5
_SHOWN_EFFECT = 0.1


def plan_power(*, tasks: int, replications: int, comparisons: int) -> dict[str, Any]:
    """Return power and minimum detectable effect of the paired comparison of success.

    Two cases: nothing of the variance lies between tasks, the worst there is, and half of it does. The
    level is divided among the comparisons, as Holm's correction does for the smallest p-value.

    Args:
        tasks: pairs.
        replications: repeats of each with each variant.
        comparisons: variants against the baseline, times primary metrics.
    """
    alpha = ALPHA / max(comparisons, 1)
    cases = {}
    for name, share in (("worst_case", 0.0), ("half_of_the_variance_between_tasks", 0.5)):
        sd = success_delta_sd(ASSUMED_RATE, replications, task_share=share)
        effect = minimum_detectable_effect(sd, tasks, alpha=alpha)
        cases[name] = {
            "minimum_detectable_effect": None if effect is None or effect > 1 else effect,
            "power_for_a_difference_of_0.1": power_of(_SHOWN_EFFECT, sd, tasks, alpha=alpha),
        }
    return {
        "metric": "success",
        "assumed_success_rate": ASSUMED_RATE,
        "alpha": alpha,
        "power": POWER,
        "pairs": tasks,
        **cases,
    }
