"""Build hypotheses from ranked causes: what probably happened, how certain this is, and how to verify it."""

from __future__ import annotations

from collections.abc import Sequence

from relab.rca.attribution import RankedCause
from relab.rca.detectors import DESCRIPTORS, VAGUE_DETAILS, DetectedProblem
from relab.rca.evidence import EvidenceCollector, Quotation, RunView, field_text
from relab.rca.models import Category, Confidence, EvidenceKind, Hypothesis
from relab.rca.report.naming import place_of

MAX_HYPOTHESES = 5
MAX_QUOTE_CHARS = 160
MAX_CITED = 5

_WHAT_FAILED = {
    EvidenceKind.TOOL_CALL: "Tool call",
    EvidenceKind.STEP: "Step",
    EvidenceKind.GUARDRAIL_EVENT: "Guarded action",
    EvidenceKind.LOG_LINE: "Run",
    EvidenceKind.RUN: "Run",
    EvidenceKind.VERSION: "Run",
}


def quoted(quotation: Quotation) -> str | None:
    """Return the full text of the quoted field, in quotation marks and on one line.

    A text of more than `MAX_QUOTE_CHARS` characters is cut to this length. If the beginning of the text contains the
    whole quoted passage, the beginning is kept. Otherwise, the part that ends with the passage is kept.

    Return None if the field is blank, or if it is a field of another kind than error, message, result or output.
    """
    if quotation.field not in (
        "error_message",
        "message",
        "result_summary",
        "output_summary",
        "error_class",
        "error_type",
    ):
        return None
    text = field_text(quotation.source, quotation.field)
    if text is None:
        return None
    first = max(0, quotation.end - MAX_QUOTE_CHARS)
    cut = text[first : first + MAX_QUOTE_CHARS]
    line = " ".join(cut.split())
    return f'"{"…" if first else ""}{line}{"…" if first + MAX_QUOTE_CHARS < len(text) else ""}"' if line else None


def _count_of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def describe(cause: RankedCause, view: RunView) -> str:
    """Describe a cause in sentences, with the tool, the error message and the number of problems."""
    lead = cause.lead
    if lead.compares_versions:
        return _describe_regression(cause)
    if cause.category is Category.PLANNER_LOOP and lead.detail not in ("iteration_limit", "retries_exhausted", None):
        opening = _describe_loop(lead, view)
    elif cause.category is Category.RETRIEVAL_EMPTY:
        opening = f"Retrieval was empty: {_subject(lead, view)} returned nothing"
    else:
        what = _WHAT_FAILED[EvidenceKind.TOOL_CALL if lead.call_id is not None else lead.kind]
        descriptor = DESCRIPTORS[cause.category]
        reason = descriptor.causes_by_detail.get(lead.detail or "", descriptor.cause)
        opening = f"{what} failed due to {reason}: {_subject(lead, view)}"
    said = quoted(lead.quotes[0])
    sentences = [f"{opening} said {said}." if said else f"{opening}."]
    logged = [text for quote in lead.quotes[1:] if quote.kind is EvidenceKind.LOG_LINE and (text := quoted(quote))]
    if logged:
        sentences.append(f"The log says {logged[0]}.")
    if len(cause.problems) > 1:
        tools = cause.tools
        among = f" of {_count_of(len(tools), 'tool')}" if len(tools) > 1 else ""
        sentences.append(f"The run shows {_count_of(len(cause.problems), 'problem')} of this kind{among}.")
    if lead.recovered:
        sentences.append("The run recovered from it, so it may not be the cause of the failure.")
    if lead.follows:
        sentences.append("It is probably only an effect of the errors of the repeated calls.")
    return " ".join(sentences)


def _subject(problem: DetectedProblem, view: RunView) -> str:
    place = place_of(problem, view)
    if problem.kind is EvidenceKind.GUARDRAIL_EVENT and problem.tool_name is None:
        return f"a guardrail at {place}" if place else "a guardrail"
    return place or problem.tool_name or ("the step" if problem.step_id is not None else "the run")


def _describe_loop(problem: DetectedProblem, view: RunView) -> str:
    count, subject = problem.occurrences, _subject(problem, view)
    match problem.detail:
        case "retries":
            return f"The agent repeated itself without progress: {subject} was retried {count} times"
        case "alternating_cycle":
            return (
                f"The agent repeated itself without progress: a cycle of calls ran {count} times, "
                f"beginning with {subject}"
            )
        case "identical_steps":
            return f"The agent repeated itself without progress: {count} steps in a row gave the same output, from {subject}"
        case _:
            return (
                f"The agent repeated itself without progress: {subject} was called {count} times "
                f"with the same arguments"
            )


def _describe_regression(cause: RankedCause) -> str:
    shown = cause.lead.quotes[0].attributes
    rate, previous = shown.get("success_rate"), shown.get("previous_success_rate")
    p_value = shown.get("p_value")
    version = quoted_version(cause.lead)
    figures = ""
    if isinstance(rate, float) and isinstance(previous, float) and isinstance(p_value, float):
        figures = (
            f": {rate:.0%} of {shown.get('runs')} runs succeeded, against {previous:.0%} of "
            f"{shown.get('previous_runs')} runs of the previous version (adjusted p = {p_value:.2g})"
        )
    other = sorted({problem.detail.split("_")[0] for problem in cause.problems[1:] if problem.detail})
    behaviour = f" The versions also differ in {' and '.join(other)}." if other else ""
    return f"Runs of this version fail more often than runs of the previous version ({version}){figures}.{behaviour}"


def quoted_version(problem: DetectedProblem) -> str:
    """Return the change of version that `problem` quotes, as `previous version → current version`.

    `problem` is a difference between two versions of the agent. A previous version without a name is written as "none".
    """
    quotation = problem.quotes[0]
    current = field_text(quotation.source, quotation.field)
    previous = quotation.attributes.get("previous_version")
    return f"{previous if previous is not None else 'none'} → {current}"


def reportable_causes(causes: Sequence[RankedCause], *, insufficient: bool) -> tuple[RankedCause, ...]:
    """Return the causes that the report names, in the given order.

    Causes with a vague detail (one in `VAGUE_DETAILS`, such as an unclassified error) are left out. Exception: the
    first cause is always kept if the evidence is sufficient (`insufficient` is false).
    """
    return tuple(
        cause
        for index, cause in enumerate(causes)
        if cause.lead.detail not in VAGUE_DETAILS or (index == 0 and not insufficient)
    )


def build_hypotheses(
    causes: Sequence[RankedCause], view: RunView, collector: EvidenceCollector, *, insufficient: bool
) -> tuple[Hypothesis, ...]:
    """Return at most `MAX_HYPOTHESES` hypotheses, in the order of `causes`, each with citations.

    A cause has one or more detected problems. Its hypothesis cites the quotations of the first problem. Exception:
    if the cause is a difference between versions, it cites the first `MAX_CITED` quotations of all its problems.

    Args:
        causes: the ranked causes, most likely first.
        view: the run.
        collector: collects the quotations as evidence of the report.
        insufficient: whether the evidence is insufficient; every hypothesis then has low confidence.
    """
    hypotheses = []
    for cause in causes[:MAX_HYPOTHESES]:
        descriptor = DESCRIPTORS[cause.category]
        ids = [collector.quote(quotation) for quotation in _cited(cause)]
        hypotheses.append(
            Hypothesis.citing(
                collector.evidence,
                title=f"{descriptor.title} Root Cause",
                description=describe(cause, view),
                category=cause.category,
                confidence=Confidence.LOW if insufficient else cause.lead.confidence,
                evidence_ids=tuple(dict.fromkeys(ids)),
                verification_steps=descriptor.checks_by_detail.get(cause.lead.detail or "", descriptor.checks),
            )
        )
    return tuple(hypotheses)


def _cited(cause: RankedCause) -> tuple[Quotation, ...]:
    if cause.lead.compares_versions:
        return tuple(quotation for problem in cause.problems for quotation in problem.quotes)[:MAX_CITED]
    return cause.lead.quotes
