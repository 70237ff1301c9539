"""One error, one finding: the failure of a call is reported at the step that wrote the call, if ranking sees a problem there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from relab.rca.detectors import DetectedProblem
from relab.rca.models import Category, EvidenceKind
from relab.rca.ranking import DETAILS, Ranking, Unit, quote_unit

Marks: TypeAlias = tuple[tuple[Unit, tuple[str, ...]], ...]

_NOT_WRITTEN = frozenset({Category.RATE_LIMITED, Category.TIMEOUT, Category.TOOL_PERMISSION})
"""Failures that a service or a right causes, whatever the step wrote."""

_WRITTEN_BADLY = "format_broken"


def merge_with_writers(problems: Sequence[DetectedProblem], ranking: Ranking) -> tuple[list[DetectedProblem], Marks]:
    """Return the problems of a run and the guessed ones of `ranking`, such that an error is not among both.

    A problem at a call or a failed step moves to the step that wrote it, if that step has a guessed problem, and quotes both; the guess
    that this step wrote something that fails is then left out. If the error says nothing, the problem takes the first guessed kind.
    A failure for which the step cannot be blamed, such as a rate limit, stays where it is.
    """
    kinds = {unit.unit_id: list(found) for unit, found in ranking.problems}
    merged = []
    for problem in problems:
        writer = _writer(problem, ranking)
        guessed = kinds.get(writer.unit_id) if writer is not None else None
        if writer is None or guessed is None:
            merged.append(problem)
            continue
        kind = _WRITTEN_BADLY
        if problem.category in _NOT_WRITTEN:
            merged.append(problem)
        else:
            if problem.category is Category.UNKNOWN and guessed:
                kind = guessed[0]
            merged.append(_moved(problem, writer, kind if problem.category is Category.UNKNOWN else None))
        if kind in guessed:
            guessed.remove(kind)
    return merged, tuple((unit, tuple(kinds[unit.unit_id])) for unit, _ in ranking.problems)


def _writer(problem: DetectedProblem, ranking: Ranking) -> Unit | None:
    if problem.kind is EvidenceKind.TOOL_CALL:
        return ranking.writers.get(problem.call_id or "")
    return ranking.writers.get(problem.step_id or "") if problem.kind is EvidenceKind.STEP else None


def _moved(problem: DetectedProblem, writer: Unit, kind: str | None) -> DetectedProblem:
    """Return the problem at the step that wrote it; `kind` replaces what is known about it, unless it is None."""
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
