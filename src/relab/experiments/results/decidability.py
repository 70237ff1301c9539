"""Compute how many tasks or repeats a run needs for the verdict PASS or FAIL on a gate (a bound on a difference).

Also compute the probability that another run of the same size gives the same verdict.
"""

from __future__ import annotations

import math
from typing import Any, Final

from relab.experiments.results.differences import Delta, rate_bounds
from relab.stats.distributions import t_quantile
from relab.stats.intervals import Interval
from relab.stats.power import POWER, count_needed, pass_chance
from relab.stats.verdicts import Gate, Needed, Verdict

AS_SEEN: Final = "if the true difference is the one seen"
IF_EQUAL: Final = "if variant and baseline are equal"
_MAX_REPEATS = 1e6


def needed_of(delta: Delta, gate: Gate, *, repeats: int) -> tuple[Needed, ...]:
    """Return how many tasks or repeats a run needs for the verdict PASS or FAIL on a gate, under up to two assumptions.

    1. Variant and baseline are equal. This assumption is made only if a variant equal to the baseline passes the gate.
    2. The true difference equals the estimate. This assumption is left out if it is the same as assumption 1.

    New tasks and repeats are assumed to vary as much as the present ones.

    Args:
        delta: the judged difference. The result is empty if `delta` has no interval or fewer than 2 clusters (groups of
            dependent tasks).
        gate: the gate, a bound on the difference.
        repeats: the planned repeats of each task with each variant.
    """
    if delta.estimate is None or delta.interval is None or delta.clusters < 2:
        return ()
    share = gate.threshold if gate.is_relative else 0.0
    found = []
    equal = -share * (delta.baseline_mean or 0.0)
    if _beyond(gate, equal) > 0:
        found.append(_needed(delta, gate, IF_EQUAL, equal, repeats))
    if delta.estimate != equal or not found:
        found.append(_needed(delta, gate, AS_SEEN, delta.estimate, repeats))
    return tuple(found)


def rerun_chance(delta: Delta, gate: Gate, verdict: Verdict) -> float | None:
    """Return the probability (0 to 1) that another run of the same size gives the same verdict on a gate.

    The true difference is assumed to equal the estimate. Return None in these cases:

    - The verdict is neither PASS nor FAIL.
    - There are fewer than 2 clusters (groups of dependent tasks).
    - One end of the interval decided the verdict, and this end is infinite.

    Args:
        delta: the difference between a variant and the baseline.
        gate: the gate, a bound on this difference.
        verdict: the verdict on the gate.
    """
    if verdict not in {Verdict.PASS, Verdict.FAIL} or delta.interval is None or delta.estimate is None:
        return None
    is_low = gate.at_least == (verdict is Verdict.PASS)
    half = abs(delta.estimate - (delta.interval.low if is_low else delta.interval.high))
    if delta.clusters < 2 or not math.isfinite(half):
        return None
    alpha, freedom = 1 - delta.interval.level, delta.clusters - 1
    # The standard error, from the distance between the estimate and the end of the interval that decided.
    sd = half / t_quantile(1 - alpha / 2, freedom) * math.sqrt(delta.clusters)
    return pass_chance(abs(_beyond(gate, delta.estimate)), sd, delta.clusters, alpha=alpha)


def needed_text(needed: Needed, *, tasks: int, repeats: int, knows_repeats: bool) -> str:
    """Return a clause for people: how many tasks or repeats a run needs for PASS or FAIL on a gate (condition).

    Args:
        needed: the numbers of tasks and repeats, and the true difference that is assumed for them.
        tasks: the number of tasks of the run.
        repeats: the planned repeats of each task with each variant.
        knows_repeats: whether the run repeated its tasks. If not, the effect of more repeats is unknown, and the
            clause does not mention it.
    """
    assumed = needed.assumed if not needed.difference else f"{needed.assumed} ({needed.difference:+.3g})"
    if needed.tasks is None:
        return f"{assumed}, no number of tasks decides it"
    text = (
        f"{assumed}, about {rounded_up(needed.tasks):,} tasks x {times(repeats)} give "
        f"{needed.verdict.value} with {POWER:.0%} chance"
    )
    if needed.repeats is not None:
        return f"{text}, or {rounded_up(needed.repeats):,} repeats of these {tasks:,} tasks"
    return f"{text}; no number of repeats of these {tasks:,} tasks does" if knows_repeats else text


def needed_json(needed: Needed) -> dict[str, Any]:
    """Return as JSON how many tasks or repeats a run needs for PASS or FAIL on a gate (a bound on a difference).

    The result also has the true difference that is assumed for these numbers.
    """
    return {
        "assumed": needed.assumed,
        "assumed_difference": needed.difference,
        "verdict": needed.verdict.value,
        "power": POWER,
        "tasks_at_these_repeats": needed.tasks,
        "repeats_at_these_tasks": needed.repeats,
    }


def times(repeats: int) -> str:
    """Return a number of repeats in words: `1 repeat`, `20 repeats`."""
    return "1 repeat" if repeats == 1 else f"{repeats:,} repeats"


def rounded_up(count: int) -> int:
    """Return a count rounded up to two significant digits."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / unit) * unit


def _beyond(gate: Gate, difference: float) -> float:
    """Return by how much a difference passes the bound of a gate; negative if the difference would fail the gate."""
    bound = 0.0 if gate.is_relative else gate.threshold
    return (difference - bound) if gate.at_least else (bound - difference)


def _needed(delta: Delta, gate: Gate, assumed: str, difference: float, repeats: int) -> Needed:
    distance = _beyond(gate, difference)
    verdict = Verdict.PASS if distance > 0 else Verdict.FAIL
    assert delta.interval is not None
    variance = (delta.standard_error or 0.0) ** 2
    if variance > 0 and _varies(delta, gate):
        clusters = count_needed(distance, variance * delta.clusters, alpha=1 - delta.interval.level)
        more = _repeats_needed(delta, delta.interval, distance, repeats)
    else:
        clusters, more = _equals_needed(delta, gate, delta.interval, distance), None
    # Assumes clusters of the same average size as those of the run.
    tasks = None if clusters is None else math.ceil(clusters * delta.tasks / delta.clusters)
    return Needed(assumed, difference, verdict, tasks, more)


def _varies(delta: Delta, gate: Gate) -> bool:
    """Return whether the differences of the clusters (groups of dependent tasks) vary by more than rounding errors.

    Return True for an unpaired comparison, which has no differences by cluster. For a rate, rounding errors are judged
    by the range of the possible differences. This range depends on the percentage of a relative `gate`.
    """
    bounds = rate_bounds(delta.source_name, gate.threshold if gate.is_relative else 0.0)
    return delta.differences is None or delta.differences.varies(0.0 if bounds is None else bounds[1] - bounds[0])


def _repeats_needed(delta: Delta, interval: Interval, distance: float, repeats: int) -> int | None:
    if delta.repeat_variance is None or delta.standard_error is None:
        return None
    tail, freedom = (1 - interval.level) / 2, delta.clusters - 1
    allowed = (distance / (t_quantile(1 - tail, freedom) + t_quantile(POWER, freedom))) ** 2
    between = max(0.0, delta.standard_error**2 - delta.repeat_variance)
    if allowed <= between:
        return None
    found = delta.repeat_variance * repeats / (allowed - between)
    return None if found > _MAX_REPEATS else max(1, math.ceil(found))


def _equals_needed(delta: Delta, gate: Gate, interval: Interval, distance: float) -> int | None:
    """Return how many clusters a run needs for PASS or FAIL on a gate, if all its clusters have the same difference.

    A cluster is a group of dependent tasks. This function is for a run whose clusters so far do not vary. Return None
    if the metric is not a rate, or if `distance` is 0.

    Args:
        delta: the difference between a variant and the baseline.
        gate: the gate, a bound on this difference.
        interval: the interval of the difference.
        distance: by how much the assumed true difference passes the gate's bound; negative if it fails the gate.
    """
    share = gate.threshold if gate.is_relative else 0.0
    bounds, mean = rate_bounds(delta.source_name, share), delta.estimate
    if bounds is None or mean is None or distance == 0:
        return None
    reach = mean - bounds[0] if gate.at_least == (distance > 0) else bounds[1] - mean
    if reach <= abs(distance):
        return 2
    return max(2, math.ceil(math.log((1 - interval.level) / 2) / math.log1p(-abs(distance) / reach)))
