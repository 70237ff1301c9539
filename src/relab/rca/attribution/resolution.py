"""Merge the problems that the detectors found, so that each error of the run is one problem.

Several detectors may report the same error. Also, the error of a call may appear at its step, in a guardrail event and
in the log. Such duplicates are merged or dropped. A loop that only results from errors is kept and marked as an effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from relab.rca.detectors import DESCRIPTORS, RETRIES, UNCLASSIFIED, VAGUE_DETAILS, DetectedProblem, raised, strength
from relab.rca.evidence import RunView
from relab.rca.models import Category, EvidenceKind

_PRECEDENCE = {category: rank for rank, category in enumerate(Category)}

_KIND_ORDER = {
    EvidenceKind.TOOL_CALL: 0,
    EvidenceKind.STEP: 1,
    EvidenceKind.GUARDRAIL_EVENT: 2,
    EvidenceKind.LOG_LINE: 3,
    EvidenceKind.RUN: 4,
    EvidenceKind.VERSION: 5,
}

Place: TypeAlias = tuple[EvidenceKind, int]


def time_order(problem: DetectedProblem) -> tuple[object, ...]:
    """Return a sort key that orders problems by time, earliest first.

    At equal times, problems of a general category (`is_general` of its descriptor) come after the others. Then problems
    at calls come first, then those at steps, at guardrail events, in log lines and at the run.
    """
    return (
        problem.at_us,
        DESCRIPTORS[problem.category].is_general,
        _KIND_ORDER[problem.kind],
        problem.position,
        _PRECEDENCE[problem.category],
        problem.detail or "",
    )


def resolve(problems: Iterable[DetectedProblem], view: RunView) -> tuple[DetectedProblem, ...]:
    """Merge `problems`, so that each error of the run is one problem; return the result in order of time.

    A loop that is only the effect of errors is marked (`follows`). If the run succeeded, all problems become recovered.
    """
    loops, errors = _one_per_error(problems)
    errors = _without_echoes(_with_guardrails(_with_logs(errors)), view)
    errors, loops = _with_run_error(errors, loops)
    reasons = [error for error in errors if _explains_loop(error)]
    of_loops = _places(reasons)
    # Many retries are not explained by an error without a category.
    of_retries = _places([error for error in reasons if error.category is not Category.UNKNOWN])
    effects = (_follows(loop, *(of_retries if loop.detail == RETRIES else of_loops)) for loop in loops)
    everything = [
        *errors,
        *(replace(loop, follows=True) if follows else loop for loop, follows in zip(loops, effects, strict=True)),
    ]
    if view.succeeded:
        everything = [item if item.recovered else replace(item, recovered=True) for item in everything]
    return tuple(sorted(everything, key=time_order))


def _is_repetition(problem: DetectedProblem) -> bool:
    """Return whether a problem is not a single error, but a loop or a difference between two versions of the agent."""
    return problem.compares_versions or (problem.category is Category.PLANNER_LOOP and problem.detail in _BEHAVIOUR)


_BEHAVIOUR = frozenset({RETRIES, "identical_calls", "alternating_cycle", "identical_steps"})


def _one_per_error(problems: Iterable[DetectedProblem]) -> tuple[list[DetectedProblem], list[DetectedProblem]]:
    """Split `problems` into `(loops and differences between two versions, single errors)`, without duplicate errors.

    Of several errors at the same place (such as a call or a step), only the first one in the order of `_rank` is kept.
    """
    loops: list[DetectedProblem] = []
    best: dict[Place, DetectedProblem] = {}
    for problem in problems:
        if _is_repetition(problem):
            loops.append(problem)
            continue
        place = (problem.kind, problem.position)
        known = best.get(place)
        if known is None or _rank(problem) < _rank(known):
            best[place] = problem
    return loops, list(best.values())


def _rank(problem: DetectedProblem) -> tuple[int, int, int]:
    """Return a sort key for problems that describe the same error: the best description comes first.

    Problems whose detail only says that something failed come last. Then higher confidence comes before lower
    confidence. Then the order of `Category` decides.
    """
    return (
        problem.detail in VAGUE_DETAILS,
        -strength(problem.confidence),
        _PRECEDENCE[problem.category],
    )


def _with_logs(errors: list[DetectedProblem]) -> list[DetectedProblem]:
    """Merge the log lines in `errors` into the other errors, and return the other errors.

    A line of a call or step belongs to the error of this call or step. A line without a call or step belongs to the
    error of the run. The line is merged into its error if both have the same category, or if one of them only says that
    something failed. All other lines are dropped. But if all errors are log lines, all are returned, in order of time.
    """
    lines = sorted((error for error in errors if error.kind is EvidenceKind.LOG_LINE), key=time_order)
    others = [error for error in errors if error.kind is not EvidenceKind.LOG_LINE]
    if not lines or not others:
        return others or lines
    by_place: dict[tuple[str | None, str | None], int] = {}
    for index, error in enumerate(others):
        if error.kind in (EvidenceKind.TOOL_CALL, EvidenceKind.STEP):
            by_place.setdefault((error.call_id, error.step_id), index)
    of_run = next((index for index, error in enumerate(others) if error.kind is EvidenceKind.RUN), None)
    for line in lines:
        same = by_place.get((line.call_id, line.step_id))
        if same is None and line.call_id is None and line.step_id is None:
            # A line without a call or step explains the run's own error, if this error is vague.
            same = of_run
        if same is not None and _agree(others[same], line):
            error = others[same]
            merged = _corroborated(error, line)
            if merged.category is not error.category or merged.detail != error.detail:
                merged = replace(merged, quotes=(*line.quotes, *error.quotes))
            others[same] = merged
    return others


def _with_guardrails(errors: list[DetectedProblem]) -> list[DetectedProblem]:
    """Merge guardrail events in `errors` into other errors; return the merged errors and the remaining events.

    An event is merged into the error of its call if both have the same category, or if the detail of one of them only
    says that something failed. If its call has no error, the event is merged into an error of its step, if one has the
    same category. Any other event remains a problem of its own.
    """
    guards = [error for error in errors if error.kind is EvidenceKind.GUARDRAIL_EVENT]
    others = sorted((error for error in errors if error.kind is not EvidenceKind.GUARDRAIL_EVENT), key=time_order)
    if not guards:
        return others
    by_call: dict[str, int] = {}
    by_step: dict[tuple[str, Category], int] = {}
    for index, error in enumerate(others):
        if error.call_id is not None:
            by_call.setdefault(error.call_id, index)
        if error.step_id is not None:
            by_step.setdefault((error.step_id, error.category), index)
    kept: list[DetectedProblem] = []
    for guard in sorted(guards, key=time_order):
        place = by_call.get(guard.call_id) if guard.call_id is not None else None
        if place is None and guard.step_id is not None:
            place = by_step.get((guard.step_id, guard.category))
        if place is None or not _agree(others[place], guard):
            kept.append(guard)
        else:
            others[place] = _corroborated(others[place], guard)
    return others + kept


def _agree(error: DetectedProblem, guard: DetectedProblem) -> bool:
    """Return whether `error` may be the same problem as `guard`, which is a guardrail event or a log line.

    This is so if both have the same category, or if the detail of one of them (the finer kind within the category)
    only says that something failed.
    """
    return error.category is guard.category or guard.detail in VAGUE_DETAILS or error.detail in VAGUE_DETAILS


def _corroborated(error: DetectedProblem, guard: DetectedProblem) -> DetectedProblem:
    """Return the problem `error` merged with `guard`, a guardrail event or log line that describes the same problem.

    The result is a copy of `error` with the quotations of both. A problem is vague if its detail (the finer kind within
    the category) only says that something failed. The first case that applies decides about the other values:

    - `guard` is vague: no other value changes.
    - `error` is vague: the category, the detail and the confidence of `guard` replace those of `error`, and the
      confidence is raised by one level.
    - Neither is vague: the confidence is raised by one level. If `error` has no detail, the detail comes from `guard`.
    """
    quotes = (*error.quotes, *guard.quotes)
    if guard.detail in VAGUE_DETAILS:
        return replace(error, quotes=quotes)
    if error.detail in VAGUE_DETAILS:
        sure = raised(guard.confidence)
        return replace(error, category=guard.category, detail=guard.detail, confidence=sure, quotes=quotes)
    return replace(error, confidence=raised(error.confidence), detail=error.detail or guard.detail, quotes=quotes)


def _without_echoes(errors: list[DetectedProblem], view: RunView) -> list[DetectedProblem]:
    """Drop each error of a step that only repeats an error inside this step; return the others."""
    # Each error is noted at every step that contains it. A step notes equal pairs once, so deep nesting takes linear
    # time.
    inside: dict[str, set[_Mark]] = defaultdict(set)
    inner = [error for error in errors if error.kind is not EvidenceKind.STEP]
    for error in inner:
        _mark(view, error.step_id, (error.category, error.recovered), inside)
    steps = [error for error in errors if error.kind is EvidenceKind.STEP]
    for error in steps:
        _mark(view, view.parent_of(error.step_id), (error.category, error.recovered), inside)
    kept = [error for error in steps if not _echoes(error, inside.get(error.step_id or "", set()))]
    return inner + kept


_Mark: TypeAlias = tuple[Category, bool]
"""The category of a problem, and whether the run recovered from it."""


def _mark(view: RunView, step_id: str | None, mark: _Mark, inside: dict[str, set[_Mark]]) -> None:
    for ancestor in view.ancestors(step_id):
        if mark in inside[ancestor]:
            return
        inside[ancestor].add(mark)


def _echoes(error: DetectedProblem, inside: set[_Mark]) -> bool:
    """Return whether the error of a step only repeats a problem inside the step.

    If the run did not recover from the error, only unrecovered problems are considered. The error repeats any of these
    problems if it is unclassified or has low confidence. Otherwise, it repeats a problem of the same category.

    Args:
        error: the error of the step.
        inside: `(category, whether the run recovered)` of each problem inside the step.
    """
    explaining = {category for category, recovered in inside if error.recovered or not recovered}
    return bool(explaining) and (error.category in explaining or error.detail == UNCLASSIFIED or not error.is_strong)


def _with_run_error(
    errors: list[DetectedProblem], loops: list[DetectedProblem]
) -> tuple[list[DetectedProblem], list[DetectedProblem]]:
    """Drop the run's own error (the one in the fields of the run) if another problem explains it.

    Return the remaining `(errors, loops)`. Only unrecovered problems can explain the run's error:

    - If the run's error is unclassified, any error that is not bare (`is_bare`) explains it.
    - Otherwise, or without such an error, the earliest error of the same category explains the run's error. Without
      one, the earliest loop of the same category explains it. The problem that explains it gets its quotations and a
      higher confidence. But if the run's error has low confidence, or the problem has high confidence, the problem does
      not change.
    """
    own = next((error for error in errors if error.kind is EvidenceKind.RUN), None)
    if own is None:
        return errors, loops
    rest = [error for error in errors if error is not own]
    # An unclassified error of the run says less than a problem with an error text.
    if own.detail == UNCLASSIFIED and any(not error.recovered and not is_bare(error) for error in rest):
        return rest, loops
    for group in (rest, loops):
        same = [e for e in group if e.category is own.category and not (e.recovered or e.compares_versions)]
        if same:
            first = min(same, key=time_order)
            # The earliest problem of the same category also cites the run's error, with more confidence.
            if own.is_strong and first.confidence is not raised(first.confidence):
                group[group.index(first)] = replace(
                    first, confidence=raised(first.confidence), quotes=(*first.quotes, *own.quotes)
                )
            return rest, loops
    return errors, loops


def is_bare(problem: DetectedProblem) -> bool:
    """Return whether a problem is unclassified, and its first quotation is a status, a status code or a step's output."""
    return problem.detail == UNCLASSIFIED and problem.quotes[0].field in ("status", "status_code", "output_summary")


def _explains_loop(error: DetectedProblem) -> bool:
    """Return whether an error may be the reason why the agent repeated a call.

    The result is False in two cases:

    - The detail of the error is `UNCLASSIFIED` (no known kind of error).
    - The error has low confidence and the category UNKNOWN or RETRIEVAL_EMPTY.
    """
    if error.detail == UNCLASSIFIED:
        return False
    return error.is_strong or error.category not in (Category.UNKNOWN, Category.RETRIEVAL_EMPTY)


def _places(errors: Iterable[DetectedProblem]) -> tuple[set[int], set[str | None]]:
    """Return the places of the errors: the positions of their calls, and the ids of their steps."""
    calls: set[int] = set()
    steps: set[str | None] = set()
    for error in errors:
        steps.add(error.step_id)
        if error.kind is EvidenceKind.TOOL_CALL:
            calls.add(error.position)
    return calls, steps


def _follows(loop: DetectedProblem, failing_calls: set[int], failing_steps: set[str | None]) -> bool:
    """Return whether a loop is only the effect of other problems.

    This is so if at least two thirds of the loop's calls also have another problem. A loop without calls is an effect
    if its step has another problem.

    Args:
        loop: the problem to check; the result is False if it is not a loop.
        failing_calls: the positions of the calls that have another problem.
        failing_steps: the ids of the steps that have another problem.
    """
    if loop.category is not Category.PLANNER_LOOP:
        return False
    if loop.members:
        # Two thirds are enough, so that one call without a problem does not turn the effect into a cause.
        hits = sum(member in failing_calls for member in loop.members)
        return 3 * hits >= 2 * len(loop.members)
    return loop.step_id in failing_steps
