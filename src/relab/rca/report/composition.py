"""Build a report: findings, hypotheses, attribution and actions, with one list of evidence that all of them cite.

A guess is a step that the ranking considers likely to have gone wrong first. The report lists the guesses as candidates
in these cases:

- The evidence is insufficient.
- The first cause names no step or call, or names one with low confidence.
- The first guess explains the failure better than the step or call that the first cause names (`is_guess_better`).
"""

from __future__ import annotations

from collections.abc import Sequence

from relab.core.clock import format_time
from relab.rca.attribution import RankedCause, time_order
from relab.rca.detectors import DESCRIPTORS, DetectedProblem, Explanation
from relab.rca.evidence import EvidenceCollector, RunView
from relab.rca.models import (
    ActionItem,
    Attribution,
    AttributionBasis,
    CandidateStep,
    Category,
    Confidence,
    Evidence,
    Finding,
    Omitted,
    Report,
)
from relab.rca.ranking import DETAILS, Ranking, Unit, quote_unit
from relab.rca.report.advice import COLLECT_DATA, KEEP_WATCHING, explain_cause, explained_action, read_candidates
from relab.rca.report.candidates import build_candidates, guessed_place, is_guess_better
from relab.rca.report.hypotheses import build_hypotheses, reportable_causes
from relab.rca.report.naming import step_of, tool_of
from relab.rca.report.summary import summarise
from relab.rca.report.writers import merge_with_writers

MAX_FINDINGS = 1_000
MAX_CONTEXT_EVIDENCE = 200
"""The maximum number of errors that are quoted as context although no claim cites them; more would not help the reader."""


def compose(
    view: RunView,
    problems: Sequence[DetectedProblem],
    causes: Sequence[RankedCause],
    insufficient: str | None,
    ranking: Ranking,
    *,
    analyzer_version: str,
) -> Report:
    """Build the report of a run from its problems (in order of time), ranked causes and ranked guesses.

    `view` is the run. `ranking` has the guesses (steps that may have gone wrong first); the report lists them only if
    no cause explains the failure well. `insufficient` says why the evidence is not sufficient; None if it is
    sufficient. `analyzer_version` is only stored in the report.
    """
    collector = EvidenceCollector(view.run)
    # Hypotheses are built first, so that the evidence of the most likely cause comes first in the index.
    reportable = reportable_causes(causes, insufficient=insufficient is not None)
    hypotheses = build_hypotheses(reportable, view, collector, insufficient=insufficient is not None)
    kept = _kept(problems, causes)
    shown, guessed = merge_with_writers(kept, ranking)
    cited = [collector.quote_all(problem.quotes) for problem in shown]
    explanation = explain_cause(reportable[0], view) if reportable else None
    actions = _actions(view, reportable, explanation, collector, insufficient=insufficient is not None)
    if view.failed and len(kept) == len(problems):
        _quote_context(view, collector)
    placed = _located(next(iter(reportable or causes), None))
    is_guess = is_guess_better(view, ranking, placed)
    is_shown = is_guess or insufficient is not None or placed is None or not placed.is_strong
    candidates = build_candidates(ranking.guesses if is_shown else (), collector)
    marks = [
        (unit, kind, collector.quote(quote_unit(unit)))
        for unit, kinds in guessed[: MAX_FINDINGS - len(kept)]
        for kind in kinds
    ]
    evidence = collector.evidence
    found = [_finding(evidence, view, problem, ids) for problem, ids in zip(shown, cited, strict=True)]
    found += [_marked(evidence, view, unit, kind, evidence_id) for unit, kind, evidence_id in marks]
    # Findings without a time stay last; those of detectors are in order of time already.
    findings = tuple(sorted(found, key=lambda item: (item.at is None, item.at or 0))) if marks else tuple(found)
    return Report.build(
        evidence,
        category=reportable[0].category if reportable else Category.UNKNOWN,
        detail=reportable[0].lead.detail if reportable else None,
        insufficient_evidence=insufficient is not None,
        insufficient_reason=insufficient,
        summary=summarise(
            view, problems, reportable, insufficient, explanation, candidates[0] if is_guess and candidates else None
        ),
        findings=findings,
        hypotheses=hypotheses,
        attribution=guessed_place(candidates, ranking.agent or _only_agent(view), evidence)
        if is_guess
        else _attribution(evidence, view, collector, placed, insufficient=insufficient is not None),
        candidates=candidates,
        gaps=ranking.gaps if candidates else (),
        action_items=_with_reading(actions, candidates, is_guess=is_guess),
        omitted=Omitted(findings=len(problems) - len(kept)),
        analyzer_version=analyzer_version,
    )


def _kept(problems: Sequence[DetectedProblem], causes: Sequence[RankedCause]) -> Sequence[DetectedProblem]:
    """Return the problems that the report lists: at most `MAX_FINDINGS`, in order of time.

    If there are more problems, they are chosen in this order:

    1. The first problem of each cause.
    2. For each cause, its first problem that names a step or a call.
    3. The other problems of causes, by the rank of the cause.
    4. The other problems: first those from which the run did not recover.
    """
    if len(problems) <= MAX_FINDINGS:
        return problems
    leads = [cause.lead for cause in causes]
    ranked = [problem for cause in causes for problem in cause.problems[1:]]
    rest = sorted(problems, key=lambda item: (item.recovered, not item.is_strong))
    chosen: dict[int, DetectedProblem] = {}
    for problem in (*leads, *(_located(cause) for cause in causes), *ranked, *rest):
        if problem is not None and len(chosen) < MAX_FINDINGS:
            chosen[id(problem)] = problem
    return sorted(chosen.values(), key=time_order)


def _finding(
    evidence: dict[str, Evidence], view: RunView, problem: DetectedProblem, evidence_ids: tuple[str, ...]
) -> Finding:
    return Finding.citing(
        evidence,
        category=problem.category,
        detail=problem.detail,
        step_id=problem.step_id,
        step_name=step_of(problem, view),
        call_id=problem.call_id,
        tool_name=tool_of(problem, view),
        agent_name=problem.agent_name,
        confidence=problem.confidence,
        recovered=problem.recovered,
        at=format_time(problem.at_us),
        evidence_ids=evidence_ids,
    )


def _marked(evidence: dict[str, Evidence], view: RunView, unit: Unit, kind: str, evidence_id: str) -> Finding:
    """Return the finding for a problem that the ranking guessed in a unit (step or call). Its confidence is low.

    If the run succeeded, the problem counts as recovered.

    Args:
        evidence: `{id: evidence}` of the report.
        view: the run.
        unit: the step or call that has the problem.
        kind: the kind of the problem, a name in `DETAILS`.
        evidence_id: the id of the evidence that the finding cites.
    """
    detail = DETAILS.get(kind)
    return Finding.citing(
        evidence,
        category=detail.category if detail is not None else Category.UNKNOWN,
        detail=kind,
        step_id=unit.step_id,
        step_name=None if unit.is_call else unit.name,
        call_id=unit.unit_id if unit.is_call else None,
        tool_name=unit.name if unit.is_call else None,
        agent_name=unit.agent_name,
        confidence=Confidence.LOW,
        basis=AttributionBasis.RANKED_GUESS,
        recovered=view.succeeded,
        at=format_time(unit.at_us),
        evidence_ids=(evidence_id,),
    )


def _quote_context(view: RunView, collector: EvidenceCollector) -> None:
    """Add to the evidence at most `MAX_CONTEXT_EVIDENCE` errors that no claim of the report cites.

    These are the errors of calls, steps, guardrails, log records and the run itself. The error of the run itself is
    left out if neither its class nor its text says which kind of error it is.
    """
    left = MAX_CONTEXT_EVIDENCE
    for failure in view.failures:
        is_generic_run = failure.source is view.run and failure.is_generic
        if left and not is_generic_run and not collector.has_quoted(failure.source):
            collector.quote(failure.quotation())
            left -= 1


def _located(cause: RankedCause | None) -> DetectedProblem | None:
    problems = cause.problems if cause is not None else ()
    return next((problem for problem in problems if problem.is_located), None)


def _attribution(
    evidence: dict[str, Evidence],
    view: RunView,
    collector: EvidenceCollector,
    problem: DetectedProblem | None,
    *,
    insufficient: bool,
) -> Attribution | None:
    """Return the attribution (the place of the failure) that `problem` shows; None if `problem` is None.

    The quotations of the problem are added to the evidence in `collector`. If the evidence of the run is not sufficient
    (`insufficient`), the confidence of the attribution is low.
    """
    if problem is None:
        return None
    return Attribution.citing(
        evidence,
        step_id=problem.step_id,
        step_name=step_of(problem, view),
        agent_name=problem.agent_name or _only_agent(view),
        call_id=problem.call_id,
        tool_name=tool_of(problem, view),
        confidence=Confidence.LOW if insufficient else problem.confidence,
        evidence_ids=collector.quote_all(problem.quotes),
    )


def _only_agent(view: RunView) -> str | None:
    """Return the agent of the run if no step names an agent; otherwise None."""
    return None if any(placed.step.agent_name for placed in view.steps) else view.run.agent_name


def _with_reading(
    actions: tuple[ActionItem, ...], candidates: Sequence[CandidateStep], *, is_guess: bool
) -> tuple[ActionItem, ...]:
    """Return the recommended actions, with the added action "read the candidates" if it applies.

    Candidates are steps that may have gone wrong first. The first case that applies decides:

    - There are no candidates: the action is not added.
    - `actions` is `COLLECT_DATA`: the action becomes the first one.
    - The report names a candidate as the place of the failure (`is_guess`): the action becomes the last one.
    - Otherwise: the action is not added.
    """
    if candidates and actions is COLLECT_DATA:
        return (read_candidates(candidates), *actions)
    return (*actions, read_candidates(candidates)) if candidates and is_guess else actions


def _actions(
    view: RunView,
    causes: Sequence[RankedCause],
    explanation: Explanation | None,
    collector: EvidenceCollector,
    *,
    insufficient: bool,
) -> tuple[ActionItem, ...]:
    """Return the recommended actions of the report.

    The first case that applies decides:

    - If the evidence is insufficient, or the run failed and has no cause: collect more data.
    - If the run has no cause: keep monitoring.
    - Otherwise: one action with the facts of the first cause (`explanation`), or all actions of its category if no
      facts are known. One action is added for the next cause that has another category.
    """
    if insufficient:
        return COLLECT_DATA
    if not causes:
        return COLLECT_DATA if view.failed else KEEP_WATCHING
    descriptor = DESCRIPTORS[causes[0].category]
    own = (explained_action(descriptor, explanation, collector),) if explanation is not None else descriptor.actions
    second = next((cause for cause in causes[1:] if cause.category is not causes[0].category), None)
    if second is None:
        return own
    beside, other = explain_cause(second, view), DESCRIPTORS[second.category]
    return (*own, explained_action(other, beside, collector) if beside is not None else other.actions[0])
