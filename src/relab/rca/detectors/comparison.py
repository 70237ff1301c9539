"""Compare a version of an agent with its previous version, by stored runs of both versions.

A version is the pair `(agent_version, prompt_hash)`. The run under analysis is left out of the comparison: it was
selected because it failed, so it would make every new version appear worse than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from relab.stats.multiplicity import holm
from relab.stats.two_sample import TestResult, fisher_exact, hodges_lehmann_shift, mann_whitney
from relab.telemetry.models import AgentRun
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.past_models import PastRun

ALPHA = 0.05
MIN_RUNS = 3
"""With fewer runs on one side, a difference of two proportions reaches p = 0.05 only if the other side is large."""

MAX_RUNS = 500
"""The maximum number of runs of each version that are compared, the newest ones; more would hardly change the result."""

MIN_SUCCESS_DROP = 0.10
MIN_STEP_SHIFT = 1.0
MIN_STEP_SHIFT_SHARE = 0.20
MIN_PRESENCE_CHANGE = 0.30

Version = tuple[str | None, str | None]
Aspect = Literal["outcome", "steps", "tools"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A significant difference between two versions in one aspect: success rate, number of steps, or use of a tool.

    Attributes:
        aspect: the aspect: "outcome" for the success rate, "steps" or "tools".
        value: the value of the new version: the success rate, the median number of steps, or the share of runs that use
            `tool`.
        previous_value: the same value of the previous version.
        difference: the change of the rate or share; for steps, the Hodges-Lehmann shift.
        p_value: the p-value, adjusted with Holm's method over all comparisons.
        test: the name of the statistical test.
        tool: the name of the compared tool; None for the other aspects.
    """

    aspect: Aspect
    value: float
    previous_value: float
    difference: float
    p_value: float
    test: str
    tool: str | None = None


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """A comparison of a run's version with the previous version; `differences` contains only significant differences.

    `runs` and `previous_runs` are the numbers of compared runs of the two versions: of each version, the newest
    `MAX_RUNS` runs with a known outcome, without the run under analysis.
    """

    version: Version
    previous: Version
    runs: int
    previous_runs: int
    differences: tuple[Difference, ...]

    def of(self, aspect: Aspect) -> Difference | None:
        """Return the most significant difference in an aspect; None if there is no significant one."""
        return next((item for item in self.differences if item.aspect == aspect), None)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A difference that is large enough to matter, with its statistical test.

    The p value of the test is not corrected yet for the number of tests.
    """

    aspect: Aspect
    value: float
    previous_value: float
    difference: float
    test: TestResult
    tool: str | None = None


def compare_versions(run: AgentRun, history: Sequence[PastRun]) -> VersionComparison | None:
    """Compare the version of `run` with the previous version, by the runs in `history` (in any order).

    The previous version is the version of the last run before the first run of this version. Return None if `run` names
    no version, if there is no previous version, or if either version has fewer than `MIN_RUNS` runs with a known
    outcome (without `run` itself).
    """
    version: Version = (run.agent_version, run.prompt_hash)
    if not any(part is not None and part.strip() for part in version):
        return None
    others = sorted(
        (item for item in history if item.run_id != run.run_id), key=lambda item: (item.started_at, item.run_id)
    )
    first_of_version = min((item.started_at for item in others if _version(item) == version), default=run.started_at)
    first_of_version = min(first_of_version, run.started_at)
    before = [item for item in others if item.started_at < first_of_version]
    if not before:
        return None
    previous = _version(before[-1])
    now = _finished(others, version)
    then = _finished(others, previous)
    if len(now) < MIN_RUNS or len(then) < MIN_RUNS:
        return None
    return VersionComparison(version, previous, len(now), len(then), _differences(now, then))


def _version(item: PastRun) -> Version:
    return (item.agent_version, item.prompt_hash)


def _finished(runs: Sequence[PastRun], version: Version) -> list[PastRun]:
    return [item for item in runs if _version(item) == version and item.outcome is not RunOutcome.UNKNOWN][-MAX_RUNS:]


def _differences(now: list[PastRun], then: list[PastRun]) -> tuple[Difference, ...]:
    """Return the large and significant differences between the runs of two versions.

    A higher success rate is not reported. Holm's method adjusts the p-values for three tests: of the success rate, of
    the number of steps, and of the tools (with the p-value of the most significant tool).

    Args:
        now: the runs of the new version.
        then: the runs of the previous version.
    """
    outcome = _outcome(now, then)
    steps = _steps(now, then)
    tools, p_tools = _tools(now, then)
    if outcome is None and steps is None and not tools:
        return ()
    # A difference that is too small to matter takes part in the adjustment with p = 1.
    family = [
        outcome.test.p_value if outcome else 1.0,
        steps.test.p_value if steps else 1.0,
        min(p_tools, default=1.0),
    ]
    adjusted = holm(family)
    found = [(item, p) for item, p in ((outcome, adjusted[0]), (steps, adjusted[1])) if item is not None]
    # The factor by which the p-value of the most significant tool was adjusted applies to all tools.
    factor = adjusted[2] / family[2] if family[2] > 0 else len(family)
    found += [(item, max(adjusted[2], p * factor)) for item, p in zip(tools, p_tools, strict=True)]
    real = [(item, p) for item, p in found if p < ALPHA]
    # Order: outcome, steps, tools; the most significant tool first.
    real.sort(key=lambda pair: (("outcome", "steps", "tools").index(pair[0].aspect), pair[1], pair[0].tool or ""))
    return tuple(
        Difference(item.aspect, item.value, item.previous_value, item.difference, p, item.test.name, item.tool)
        for item, p in real
    )


def _outcome(now: list[PastRun], then: list[PastRun]) -> _Candidate | None:
    failed_now = sum(item.outcome.is_failure for item in now)
    failed_then = sum(item.outcome.is_failure for item in then)
    rate, previous = 1 - failed_now / len(now), 1 - failed_then / len(then)
    if previous - rate < MIN_SUCCESS_DROP:
        return None
    test = fisher_exact(failed_now, len(now), failed_then, len(then), alternative="greater")
    return _Candidate("outcome", rate, previous, rate - previous, test)


def _steps(now: list[PastRun], then: list[PastRun]) -> _Candidate | None:
    counts = [float(item.step_count) for item in now]
    previous = [float(item.step_count) for item in then]
    low, high = min(*counts, *previous), max(*counts, *previous)
    if high - low < MIN_STEP_SHIFT:
        return None  # This avoids the import of numpy if no shift is possible.
    shift = hodges_lehmann_shift(counts, previous)
    if abs(shift) < max(MIN_STEP_SHIFT, MIN_STEP_SHIFT_SHARE * median(previous)):
        return None
    return _Candidate("steps", median(counts), median(previous), shift, mann_whitney(counts, previous))


def _tools(now: list[PastRun], then: list[PastRun]) -> tuple[list[_Candidate], list[float]]:
    """Compare how many runs of the new version (`now`) and of the previous version (`then`) use each tool.

    Return `(tools, p-values)`: the tools whose share of runs changed by at least `MIN_PRESENCE_CHANGE`, and their
    Holm-adjusted p-values in the same order.
    """
    used_now, used_then = _uses(now), _uses(then)
    names = sorted({*used_now, *used_then})
    candidates: list[_Candidate] = []
    p_values = [1.0] * len(names)
    places: list[int] = []
    for place, name in enumerate(names):
        share, previous = used_now.get(name, 0) / len(now), used_then.get(name, 0) / len(then)
        if abs(share - previous) < MIN_PRESENCE_CHANGE:
            continue
        test = fisher_exact(used_now.get(name, 0), len(now), used_then.get(name, 0), len(then))
        candidates.append(_Candidate("tools", share, previous, share - previous, test, name))
        p_values[place] = test.p_value
        places.append(place)
    adjusted = holm(p_values)
    return candidates, [adjusted[place] for place in places]


def _uses(runs: list[PastRun]) -> dict[str, int]:
    """Return `{tool: number of runs that used it at least once}`."""
    counts: dict[str, int] = {}
    for item in runs:
        for name, calls in item.tool_call_counts.items():
            if calls > 0:
                counts[name] = counts.get(name, 0) + 1
    return counts
