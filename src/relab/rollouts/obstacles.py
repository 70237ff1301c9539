"""Check before a rollout whether its plan allows a PASS, and compute the number and the time of its windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relab.rollouts.models import DecisionPolicy
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.schedule import arms_of, round_cost_s, rounds_that_fit

_MOST_REQUESTS: Final = 10**9


@dataclass(frozen=True, slots=True)
class PlannedTime:
    """The windows of a plan (each measures one arm, a set of flags), and their time.

    Attributes:
        least_windows, most_windows: the minimum and the maximum number of windows. The minimum is the number of windows
            in the rounds that are planned at first. With `early_stop`, only the rounds up to the first early look
            count, because this look can end the measurement.
        least_s, most_s: the seconds of these windows, with their warm-ups and with the waits for a metric. The time of
            changes of flags and of health checks is not included.
    """

    least_windows: int
    most_windows: int
    least_s: float
    most_s: float

    def sentence(self) -> str:
        """Return the numbers as text, such as `6 to 64 windows, 24 to 256 s without changes of flags and checks`."""
        windows, seconds = (
            f"{low:,.0f} to {high:,.0f}" if low < high else f"{high:,.0f}"
            for low, high in ((self.least_windows, self.most_windows), (self.least_s, self.most_s))
        )
        return f"{windows} windows, {seconds} s without changes of flags and checks"


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


def planned_time(plan: Plan) -> PlannedTime:
    """Return how many windows a plan measures, and how long they take."""
    from relab.rollouts.judging.early import FAILURE_ROUNDS
    from relab.rollouts.judging.procedure import last_rounds

    least, most = min(plan.experiment.first_rounds, rounds_that_fit(plan)), last_rounds(plan)
    if plan.early_stop is not None:
        least = min(least, FAILURE_ROUNDS)
    arms, round_s = len(arms_of(plan)), round_cost_s(plan)
    return PlannedTime(least * arms, most * arms, least * round_s, most * round_s)


def _upper_pct(requests: int) -> float:
    """Return the upper bound of the error rate, in percent, if none of `requests` requests fails.

    It is the upper end of the Clopper-Pearson interval at the default confidence level; 100 without requests.
    """
    from relab.stats.intervals import clopper_pearson

    return 100 * clopper_pearson(0, requests).high if requests else 100.0


def _requests_needed(limit_pct: float) -> int:
    """Return how many requests are needed to show that the error rate is below `limit_pct` percent, if none fails."""
    low, high = 0, 1
    while _upper_pct(high) >= limit_pct and high < _MOST_REQUESTS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _upper_pct(middle) < limit_pct else (middle, high)
    return high
