"""The deterministic summary of a report: a few sentences from the report's facts, with fixed wording."""

from __future__ import annotations

from collections.abc import Sequence

from relab.rca.attribution import RankedCause
from relab.rca.detectors import DESCRIPTORS, DetectedProblem, Explanation
from relab.rca.evidence import RunView, field_text
from relab.rca.models import CandidateStep, Category, EvidenceKind
from relab.rca.report.hypotheses import quoted, quoted_version
from relab.rca.report.naming import place_of
from relab.telemetry.outcome_models import OutcomeRule, RunOutcome

_STATE = {
    OutcomeRule.NOT_FINISHED: "The run is still running",
    OutcomeRule.CANCELLED: "The run was cancelled",
    OutcomeRule.NO_ANSWER: "The run ended without an answer, and nothing shows why",
    OutcomeRule.INCOMPLETE: "The trace of the run is incomplete",
}
_TELLING = (OutcomeRule.NO_ANSWER, OutcomeRule.ANSWER_EMPTY, OutcomeRule.ANSWER_FILTERED, OutcomeRule.ANSWER_CUT_OFF)
"""Rules that say what was wrong even where no step, call or event reports an error."""

_FAILED = {
    RunOutcome.FAILED: "The run failed",
    RunOutcome.COMPLETED_WITH_ERRORS: "The run completed with unrecovered errors",
}
_PROBABLY_FAILED = {
    RunOutcome.FAILED: "The run failed, probably",
    RunOutcome.COMPLETED_WITH_ERRORS: "The run completed with unrecovered errors, probably",
}


def summarise(
    view: RunView,
    problems: Sequence[DetectedProblem],
    causes: Sequence[RankedCause],
    reason: str | None,
    explanation: Explanation | None,
    guess: CandidateStep | None = None,
) -> str:
    """Return the summary of a report in sentences.

    Args:
        view: the run.
        problems: all problems of the run.
        causes: the causes to report, most likely first.
        reason: why the evidence is insufficient; None if it is sufficient.
        explanation: the facts of the first cause; None if there are none.
        guess: the step that the ranking puts first, if the report names it as the place of the failure; otherwise
            None.
    """
    if view.succeeded:
        return f"The run succeeded{_recovered(problems)}."
    if not view.failed:
        return _unfinished(view, causes)
    failed = _FAILED[view.outcome.value]
    if reason is not None:
        rule = view.outcome.rule
        why = f": {rule.reason}" if rule in _TELLING else ", and the telemetry does not show why"
        sentences = [f"{failed}{why}. {reason}."]
        if causes:
            sentences.append(f"The best hint: {_because(causes[0], view)}{_at(causes[0].lead, view)}.")
        elif guess is not None:
            sentences.append(_guessed(guess, view))
        return " ".join(sentences)
    if not causes:
        if view.outcome.rule is OutcomeRule.REPORTED_FAILURE:
            return f"{failed}, and its telemetry shows no cause."
        return f"{failed}: {view.outcome.rule.reason}."
    lead = causes[0].lead
    if lead.compares_versions:
        first = (
            f"{failed}, and its version fails more often than the previous version "
            f"({quoted_version(lead)}); no external failure explains it."
        )
    else:
        if not lead.is_strong or lead.recovered:
            failed = _PROBABLY_FAILED[view.outcome.value]
        said = _said(lead) if explanation is None else f": {explanation.clause}"
        first = f"{failed} because {_because(causes[0], view)}{said}{_at(lead, view)}."
    return " ".join([first, *_further(causes), *([_first_mistake(guess)] if guess is not None else [])])


def _first_mistake(guess: CandidateStep) -> str:
    return f'A ranked guess of the first mistake is step "{guess.step_name}" [{guess.step_id}].'


def _guessed(guess: CandidateStep, view: RunView) -> str:
    """Return sentences that name the step of `guess` as a possible first mistake."""
    quiet = (
        ""
        if view.failures
        else "No step or tool call reports an error, so the mistake is in what one of them said or did. "
    )
    return f"{quiet}{_first_mistake(guess)}"


def _because(cause: RankedCause, view: RunView) -> str:
    lead = cause.lead
    descriptor = DESCRIPTORS[cause.category]
    if lead.compares_versions:
        return f"{descriptor.clause} ({quoted_version(lead)})"
    if lead.tool_name:
        subject = lead.tool_name
    elif cause.category is Category.PLANNER_LOOP:
        subject = "itself"
    else:
        placed = view.step(lead.step_id)
        subject = f'step "{placed.step.name}"' if placed is not None else "it"
    reason = descriptor.causes_by_detail.get(lead.detail or "")
    return f"{subject} met {reason}" if reason else descriptor.clause.format(subject=subject)


def _said(problem: DetectedProblem) -> str:
    text = quoted(problem.quotes[0])
    return f": {text}" if text else ""


def _at(problem: DetectedProblem, view: RunView) -> str:
    place = place_of(problem, view)
    return f" ({place})" if place else ""


def _further(causes: Sequence[RankedCause]) -> list[str]:
    sentences = []
    repeats = len(causes[0].problems) - 1
    if repeats and not causes[0].lead.compares_versions:
        sentences.append(
            f"{repeats} {'further problem is' if repeats == 1 else 'further problems are'} of the same kind."
        )
    others = list(dict.fromkeys(cause.category.value for cause in causes[1:]))
    if others:
        sentences.append(f"Also seen: {', '.join(others)}.")
    return sentences


def _recovered(problems: Sequence[DetectedProblem]) -> str:
    errors = [problem for problem in problems if not problem.compares_versions]
    if not errors:
        return ""
    count = len(errors)
    names = list(dict.fromkeys(_name(problem) for problem in errors))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"; {count} {'problem was' if count == 1 else 'problems were'} recovered from: {shown}"


def _name(problem: DetectedProblem) -> str:
    what = problem.detail if problem.category is Category.UNKNOWN and problem.detail else problem.category.value
    if problem.tool_name:
        return f"{what} of {problem.tool_name}"
    name = field_text(problem.quotes[0].source, "name") if problem.kind is EvidenceKind.STEP else None
    return f'{what} in step "{name}"' if name else what


def _unfinished(view: RunView, causes: Sequence[RankedCause]) -> str:
    state = _STATE[view.outcome.rule]
    if not causes:
        return f"{state}; it shows no unrecovered problem."
    lead = causes[0].lead
    return " ".join([f"{state}; so far {_because(causes[0], view)}{_said(lead)}{_at(lead, view)}.", *_further(causes)])
