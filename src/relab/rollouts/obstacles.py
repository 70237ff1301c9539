"""Check before a rollout whether its plan can pass: whether it measures enough rounds and sends enough requests."""

from __future__ import annotations

from typing import Final

from relab.rollouts.models import DecisionPolicy
from relab.rollouts.plans.models import Plan

_MOST_REQUESTS: Final = 10**9


def pass_obstacles(plan: Plan) -> tuple[str, ...]:
    """Return one sentence for each reason why no rollout of a plan can pass; an empty tuple if a rollout can pass.

    A PASS needs a minimum number of rounds (one measurement of each set of flags). It also needs enough requests with
    the new flags: if none of them fails, the upper bound of their error rate must be below the limit. The number of
    requests of live traffic is unknown before the rollout, so it is not checked. The policy `seed` has neither
    condition.
    """
    from relab.rollouts.judging.procedure import last_rounds
    from relab.rollouts.judging.rounds import MIN_PASS_ROUNDS

    if plan.policy is DecisionPolicy.SEED:
        return ()
    rounds, found = last_rounds(plan), []
    if rounds < MIN_PASS_ROUNDS:
        found.append(f"The plan measures {rounds} rounds at most, and a PASS needs {MIN_PASS_ROUNDS}.")
    requests = int(plan.experiment.qps * plan.experiment.window_sec * max(rounds, MIN_PASS_ROUNDS))
    limit = plan.thresholds.max_error_rate
    upper = _upper_pct(requests)
    if not plan.subject.live and upper >= limit:
        found.append(
            f"The plan sends {requests:,} requests to the new flags at most. Even if no request fails, their error rate may be "
            f"{upper:.2f} % (the limit is {limit:g} %); a PASS needs {_requests_needed(limit):,}. Raise `window_sec`, `qps` or "
            "`rounds`."
        )
    return tuple(found)


def _upper_pct(requests: int) -> float:
    """Return the upper bound of the error rate, in percent, if none of the requests fails."""
    from relab.stats.intervals import clopper_pearson

    return 100 * clopper_pearson(0, requests).high if requests else 100.0


def _requests_needed(limit_pct: float) -> int:
    """Return the smallest number of requests that, if none fails, excludes an error rate of `limit_pct` percent."""
    low, high = 0, 1
    while _upper_pct(high) >= limit_pct and high < _MOST_REQUESTS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _upper_pct(middle) < limit_pct else (middle, high)
    return high
