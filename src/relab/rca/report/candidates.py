"""Candidates: the steps that a ranking chose, as claims with evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relab.rca.detectors import DetectedProblem
from relab.rca.evidence import EvidenceCollector
from relab.rca.models import Attribution, AttributionBasis, CandidateStep, Confidence, Evidence
from relab.rca.ranking import Guess


def is_guess_better(guesses: Sequence[Guess], placed: DetectedProblem | None) -> bool:
    """Return whether the first guess says more about the place of the failure than the located problem of its first cause.

    It does if there is no such problem (`placed` is None), or if its confidence is not high and an earlier step wrote
    code that failed.
    """
    if not guesses or placed is None:
        return bool(guesses)
    if placed.confidence is Confidence.HIGH:
        return False
    first = guesses[0]
    step = first.turn.placed.step
    return first.explains_error and step.started_at < placed.at_us and step.step_id != placed.step_id


def build_candidates(guesses: Sequence[Guess], collector: EvidenceCollector) -> tuple[CandidateStep, ...]:
    """Return a candidate for each guess, in the same order, and quote its steps."""
    quoted = [tuple(dict.fromkeys(collector.quote(quote) for quote in guess.quotes)) for guess in guesses]
    evidence = collector.evidence
    return tuple(
        CandidateStep.citing(
            evidence,
            step_id=guess.turn.placed.step.step_id,
            step_name=guess.turn.placed.step.name,
            agent_name=guess.turn.placed.step.agent_name,
            reasons=guess.reasons,
            evidence_ids=ids,
        )
        for guess, ids in zip(guesses, quoted, strict=True)
    )


def guessed_place(candidates: Sequence[CandidateStep], evidence: Mapping[str, Evidence]) -> Attribution:
    """Return the first candidate as an attribution of low confidence, marked as a ranked guess."""
    first = candidates[0]
    return Attribution.citing(
        evidence,
        basis=AttributionBasis.RANKED_GUESS,
        step_id=first.step_id,
        step_name=first.step_name,
        agent_name=first.agent_name,
        confidence=Confidence.LOW,
        evidence_ids=first.evidence_ids,
    )
