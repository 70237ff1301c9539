"""A method's prediction for a run, and the extraction of the analyser's prediction from its report."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass

from evals.quotation import Check, check_report
from evals.rca.cases import Case
from relab.rca.analyzer import analyze
from relab.rca.models import AttributionBasis, Category, Confidence, Finding, Report
from relab.rca.ranking import DETAILS, RankingModels

_TRAIL_OF_CATEGORY = {
    Category.RATE_LIMITED: "Rate Limiting",
    Category.TOOL_PERMISSION: "Authentication Errors",
    Category.TOOL_SCHEMA_MISMATCH: "Formatting Errors",
    Category.RETRIEVAL_EMPTY: "Poor Information Retrieval",
    Category.TIMEOUT: "Timeout Issues",
    Category.PLANNER_LOOP: "Resource Abuse",
}


@dataclass(frozen=True)
class Prediction:
    """A method's prediction for one run.

    Attributes:
        steps: ids of the steps that may have gone wrong first, most likely first.
        agent: the agent of the first mistake.
        guessed_spans: the elements of `spans` that are ranked guesses.
        spans: pairs (id of a span with an error, category of the error by TRAIL's name or "").
        probability: the probability that the first step is right; None if the method gives none.
        stands_out: whether that probability reaches the threshold of the model.
        claims: whether the method asserts the step as the first mistake; False for a mere guess.
        high: whether the report names a cause with high confidence.
    """

    steps: tuple[str, ...] = ()
    agent: str | None = None
    spans: frozenset[tuple[str, str]] = frozenset()
    guessed_spans: frozenset[tuple[str, str]] = frozenset()
    probability: float | None = None
    stands_out: bool = False
    claims: bool = False
    high: bool = False


@dataclass(frozen=True)
class Analysed:
    """One analysis: its prediction, the check of its quotations, and its cost.

    Attributes:
        cites_all_errors: whether each failed call of the run is quoted in the evidence.
        ms: the processor time of the analysis.
        peak_kib: the peak of memory that Python allocated during a second, traced analysis; 0 if it was not traced.
    """

    prediction: Prediction
    check: Check
    cites_all_errors: bool
    ms: float
    peak_kib: float


def analyse_case(case: Case, models: RankingModels | None = None, *, trace_memory: bool = False) -> Analysed:
    """Analyse the run of a case in this process with `models` (None: the shipped ones); labels are not passed on."""
    run = case.run
    started = time.process_time()
    report = analyze(run, models=models)
    ms = 1_000 * (time.process_time() - started)
    peak = 0.0
    if trace_memory:
        tracemalloc.start()
        analyze(run, models=models)
        peak = tracemalloc.get_traced_memory()[1] / 1_024
        tracemalloc.stop()
    quoted = {item.ref_id for item in report.evidence_index}
    failed = {call["call_id"] for call in case.body["tool_calls"] if call["status"] == "failure"}
    check = check_report(case.body, report.model_dump(mode="json"))
    return Analysed(prediction_of(report), check, failed <= quoted, ms, peak)


def predict_trace(case: Case, models: RankingModels) -> Prediction:
    """Return the prediction for the run that the mapper makes of the case's trace; nothing if the set has no traces."""
    run = case.traced_run
    return Prediction() if run is None else prediction_of(analyze(run, models=models))


def trail_category(finding: Finding) -> str:
    """Return the category of a finding by TRAIL's name: that of its detail, else of its category; "" without one."""
    detail = DETAILS.get(finding.detail or "")
    return detail.trail if detail is not None else _TRAIL_OF_CATEGORY.get(finding.category, "")


def _spans(findings: Sequence[Finding]) -> frozenset[tuple[str, str]]:
    located = ((finding.call_id or finding.step_id, trail_category(finding)) for finding in findings)
    return frozenset((span, kind) for span, kind in located if span is not None)


def prediction_of(report: Report) -> Prediction:
    """Return the prediction of a report: the place of its attribution, and the places of its findings as spans."""
    place = report.attribution
    guessed = [finding for finding in report.findings if finding.basis is AttributionBasis.RANKED_GUESS]
    odds = place.odds if place is not None else None
    return Prediction(
        steps=tuple(dict.fromkeys(item.step_id for item in (place, *report.candidates) if item and item.step_id)),
        agent=place.agent_name if place is not None else None,
        spans=_spans(report.findings),
        guessed_spans=_spans(guessed),
        probability=odds.probability if odds is not None else None,
        stands_out=odds is not None and odds.stands_out,
        claims=place is not None and place.confidence is not Confidence.LOW,
        high=any(item.confidence is Confidence.HIGH for item in (*report.hypotheses, *((place,) if place else ()))),
    )
