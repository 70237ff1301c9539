"""Report each error once: move a failure to the step that probably caused it, if the ranking suspects this step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from relab.rca.detectors import DetectedProblem
from relab.rca.models import Category, EvidenceKind
from relab.rca.ranking import DETAILS, Ranking, Unit, UnitKey, quote_unit

Marks: TypeAlias = tuple[tuple[Unit, tuple[str, ...]], ...]

_NOT_WRITTEN = frozenset({Category.RATE_LIMITED, Category.TIMEOUT, Category.TOOL_PERMISSION})
"""Categories of failures that a service or a missing right causes, whatever the step wrote."""

_WRITTEN_BADLY = "format_broken"


def merge_with_writers(problems: Sequence[DetectedProblem], ranking: Ranking) -> tuple[list[DetectedProblem], Marks]:
    """Merge the detected problems of a run with the problems guessed by the ranking, so that each error occurs once.

    The writer of a failed call or step is the step that probably caused the failure. For a call it is the last step
    before the call in the same parent step; for a step it is the last step inside that step. A detected problem of a
    failed call or step is moved to its writer in two cases:

    - The ranking guesses a problem at the writer.
    - According to the ranking's model, a problem at the writer is at least as probable as at the failed call or step.

    A failure by a rate limit, a timeout or a missing permission is not moved. If the detected problem and a guess at
    the writer are of the same kind (`_kind_of`), the guess is removed, because it is the same error.

    Returns:
        `(problems in order of time, remaining guessed problems)`.
    """
    kinds = {unit.key: list(found) for unit, found in ranking.problems}
    merged: list[DetectedProblem] = []
    place_of: dict[str, int] = {}
    loops = []
    for problem in problems:
        writer = _writer(problem, ranking)
        guessed = kinds.get(writer.key) if writer is not None else None
        if writer is None or (guessed is None and not _is_likelier(writer, problem, ranking)):
            merged.append(problem)
            continue
        guessed = guessed or []
        # A failure that a service or a missing right causes is never moved.
        if problem.category in _NOT_WRITTEN:
            merged.append(problem)
            kind = _WRITTEN_BADLY
        elif problem.follows and problem.call_id is not None:
            loops.append((problem, writer))
            continue
        else:
            kind = _kind_of(problem, guessed, writer, ranking)
            if problem.call_id is not None:
                place_of[problem.call_id] = len(merged)
            merged.append(_moved(problem, writer, kind if problem.category is Category.UNKNOWN else None))
        if kind in guessed:
            guessed.remove(kind)
    for loop, writer in loops:
        at = place_of.get(loop.call_id or "")
        if at is None:
            merged.append(_moved(loop, writer, None))
        else:
            # A loop of failed calls is added to the moved problem of the failed call.
            merged[at] = replace(merged[at], quotes=(*merged[at].quotes, *loop.quotes))
    merged.sort(key=lambda problem: problem.at_us)
    return merged, tuple((unit, tuple(kinds[unit.key])) for unit, _ in ranking.problems)


def _kind_of(problem: DetectedProblem, guessed: Sequence[str], writer: Unit, ranking: Ranking) -> str:
    """Return the kind of problem to report at `writer`, the step that probably caused the failed call or step.

    The first case that applies decides:

    - The category of the problem is not `unknown`: `format_broken`, because the error says what is wrong with the call
      that the writer wrote.
    - The ranking guessed problems at the writer: the first kind in `guessed`.
    - The ranking model judged the writer: the kind that it finds most probable.
    - Otherwise: `format_broken`.
    """
    if problem.category is not Category.UNKNOWN:
        return _WRITTEN_BADLY
    if guessed:
        return guessed[0]
    suspicion = ranking.suspicions.get(writer.key)
    return suspicion.kind if suspicion is not None else _WRITTEN_BADLY


def _is_likelier(writer: Unit, problem: DetectedProblem, ranking: Ranking) -> bool:
    """Return whether the ranking model finds `writer` at least as likely to be wrong as the failed call or step.

    If the model judged only `writer`, return True. If it did not judge `writer`, return False.

    Args:
        writer: the step that probably caused the failure.
        problem: the detected problem, which names the failed call or step.
        ranking: the result of ranking the run, with the probabilities of the ranking model.
    """
    there = ranking.suspicions.get(writer.key)
    here = ranking.suspicions.get(_place_of(problem))
    return there is not None and (here is None or there.probability >= here.probability)


def _writer(problem: DetectedProblem, ranking: Ranking) -> Unit | None:
    if problem.kind is EvidenceKind.TOOL_CALL:
        return ranking.writers.get(UnitKey(True, problem.call_id or ""))
    return ranking.writers.get(UnitKey(False, problem.step_id or "")) if problem.kind is EvidenceKind.STEP else None


def _place_of(problem: DetectedProblem) -> UnitKey:
    """Return the key of the call that has the problem; if the problem names no call, the key of the step."""
    return UnitKey(problem.call_id is not None, problem.call_id or problem.step_id or "")


def _moved(problem: DetectedProblem, writer: Unit, kind: str | None) -> DetectedProblem:
    """Return a problem moved from a failed call or step to `writer`, the step that probably caused it.

    A quotation of the writer's text is added to the problem's quotations. `kind` is the kind of problem at the writer.
    It becomes the problem's detail and decides its category; if it is None, both are kept.
    """
    detail = DETAILS.get(kind or "")
    return replace(
        problem,
        category=detail.category if detail is not None else problem.category,
        detail=kind or problem.detail,
        step_id=writer.unit_id,
        call_id=None,
        agent_name=writer.agent_name or problem.agent_name,
        quotes=(*problem.quotes, quote_unit(writer)),
    )
