"""Find the possible causes of a failure: group the problems by category, and rank the groups.

A group is ranked by its first problem. Unclassified problems without an error message, and mere effects of others, come
last. The others are ordered by these criteria: unrecovered before recovered, then medium or high confidence before low
confidence, then earlier before later, because a cause comes before its effects. `_rank` has all criteria.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relab.rca.attribution.resolution import is_bare, time_order
from relab.rca.detectors import DESCRIPTORS, RETRIES, UNCLASSIFIED, VAGUE_DETAILS, DetectedProblem
from relab.rca.evidence import RunView
from relab.rca.models import Category, Confidence, EvidenceKind


@dataclass(frozen=True, slots=True)
class RankedCause:
    """One possible root cause: the problems of a run that have the same category.

    Problems of the category UNKNOWN must also have the same detail (the finer kind within the category). Differences
    between two versions of the agent are never in the same cause as errors of the run.

    Attributes:
        problems: the problems, most important first (`_rank` has the criteria).
    """

    category: Category
    problems: tuple[DetectedProblem, ...]

    @property
    def lead(self) -> DetectedProblem:
        """The problem that represents the cause: the first, most important one of `problems`."""
        return self.problems[0]

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools in the problems of this cause, without repetition, in the order of the problems."""
        return tuple(dict.fromkeys(problem.tool_name for problem in self.problems if problem.tool_name))


def classify_problems(problems: Sequence[DetectedProblem], view: RunView) -> tuple[RankedCause, ...]:
    """Return the possible causes of the run's failure, most likely first.

    - A successful run has no causes.
    - If a run neither failed nor succeeded, only unrecovered problems are considered.
    - A regression (the new version of the agent is worse than the previous one) is considered only if the run failed
      and runs of the new version have worse outcomes.
    """
    if view.succeeded:
        return ()
    regressions = [problem for problem in problems if problem.compares_versions]
    is_worse = view.failed and any(_aspect(problem) == "outcome" for problem in regressions)
    eligible = [
        problem
        for problem in problems
        if (is_worse if problem.compares_versions else view.failed or not problem.recovered)
    ]
    stated = {problem.category for problem in eligible if _is_stated(problem)}
    retried = {problem.step_id for problem in eligible if _is_retried_step(problem)}
    groups: dict[tuple[Category, str | None, bool], list[DetectedProblem]] = {}
    for problem in sorted(eligible, key=lambda item: _rank(item, stated, retried)):
        detail = problem.detail if problem.category is Category.UNKNOWN else None
        groups.setdefault((problem.category, detail, problem.compares_versions), []).append(problem)
    causes = [RankedCause(category, tuple(members)) for (category, *_), members in groups.items()]
    return tuple(_place_regression(causes))


def _aspect(problem: DetectedProblem) -> object:
    return problem.quotes[0].attributes.get("aspect")


def _is_stated(problem: DetectedProblem) -> bool:
    """Return whether a problem is an unrecovered error of at least medium confidence.

    Problems that describe a behaviour of the agent, such as a loop, do not count as errors.
    """
    return problem.is_strong and not problem.recovered and DESCRIPTORS[problem.category].may_cause is None


def _is_retried_step(problem: DetectedProblem) -> bool:
    """Return whether a problem is a step that was retried many times, and not only the effect of another problem."""
    return problem.detail == RETRIES and problem.kind is EvidenceKind.STEP and not problem.follows


def _rank(problem: DetectedProblem, stated: set[Category], retried: set[str | None]) -> tuple[object, ...]:
    effects = DESCRIPTORS[problem.category].may_cause
    unrelated = effects is not None and not stated <= effects
    return (
        is_bare(problem),
        problem.follows,
        problem.recovered,
        problem.confidence is Confidence.LOW,
        problem.detail in VAGUE_DETAILS,
        unrelated,
        problem.category is Category.UNKNOWN and problem.step_id in retried,
        *time_order(problem),
    )


def _place_regression(causes: list[RankedCause]) -> list[RankedCause]:
    """Move the regression to its place among the ranked causes; without a regression, return the causes unchanged.

    The regression is the cause "the new version of the agent is worse than the previous one". It is placed before the
    first cause that explains the failure less well than the regression (`_yields_to_regression`); without one, last.
    """
    regression = next((cause for cause in causes if cause.lead.compares_versions), None)
    if regression is None:
        return causes
    others = [cause for cause in causes if cause is not regression]
    place = 0
    for cause in others:
        if _yields_to_regression(cause.lead, regression):
            break
        place += 1
    return [*others[:place], regression, *others[place:]]


def _yields_to_regression(lead: DetectedProblem, regression: RankedCause) -> bool:
    """Return whether `regression` explains the failure better than the cause whose main problem is `lead`.

    `regression` is the cause "the new version of the agent is worse than the previous one". It explains the failure
    better in two cases:

    - `lead` is recovered, unclassified or of low confidence.
    - The new version changed something that may have caused `lead` (`_is_tied`), and the category of `lead` is neither
      UNKNOWN nor external (external: the failure comes from outside of the agent).
    """
    if lead.recovered or not lead.is_strong or lead.detail == UNCLASSIFIED:
        return True
    if DESCRIPTORS[lead.category].is_external or lead.category is Category.UNKNOWN:
        return False
    return _is_tied(lead, regression)


def _is_tied(lead: DetectedProblem, regression: RankedCause) -> bool:
    """Return whether the new version of the agent changed something that may have caused the problem `lead`.

    If `lead` is a loop, return whether the new version takes more steps than the previous one. Otherwise, return
    whether the share of runs that use the tool of `lead` differs between the versions. `regression` is the cause "the
    new version is worse than the previous one"; its problems are the differences between the versions.
    """
    changed = [quote.attributes for problem in regression.problems for quote in problem.quotes]
    if lead.category is Category.PLANNER_LOOP:
        shifts = [item.get("difference") for item in changed if item.get("aspect") == "steps"]
        return any(isinstance(shift, float) and shift > 0 for shift in shifts)
    return lead.tool_name is not None and any(item.get("tool") == lead.tool_name for item in changed)
