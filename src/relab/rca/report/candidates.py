"""Build the candidates of a report: the steps that the ranking names as possible first mistakes, with evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from relab.rca.detectors import UNKNOWN_TOOL, DetectedProblem
from relab.rca.evidence import EvidenceCollector, RunView, is_good_call
from relab.rca.models import Attribution, AttributionBasis, CandidateStep, Confidence, Evidence, GuessOdds
from relab.rca.ranking import Guess, Odds, Ranking


def is_guess_better(view: RunView, ranking: Ranking, placed: DetectedProblem | None) -> bool:
    """Return whether the report should name the first ranked guess, and not `placed`, as the place of the failure.

    `view` is the run. `placed` is a problem of the first cause that names a step or a call; None if there is no such
    problem. The guess is the step that the ranking puts first. Return False if there is no guess, or if `placed` has
    high confidence. Otherwise, return True in these cases:

    - `placed` is None.
    - The guess is from a model that was trained on runs of the same program.
    - The run recovered from `placed`.
    - The guess is another step than that of `placed`, began before it, and wrote code or a call that failed.
    - The guess began after `placed` and changed something, and `placed` has low confidence.
    - The guess began after `placed`, `placed` is a call of a tool that does not exist, and a later call succeeded.
    """
    if not ranking.guesses or placed is None:
        return bool(ranking.guesses)
    if placed.confidence is Confidence.HIGH:
        return False
    first = ranking.guesses[0]
    if first.odds is not None or placed.recovered:
        return True
    step = first.placed.step
    if step.started_at > placed.at_us:
        if placed.confidence is Confidence.LOW and first.is_change:
            return True
        if placed.detail == UNKNOWN_TOOL:
            return any(item.started_us > placed.at_us and is_good_call(item.call) for item in view.calls)
    return first.explains_error and step.started_at < placed.at_us and step.step_id != placed.step_id


def build_candidates(guesses: Sequence[Guess], collector: EvidenceCollector) -> tuple[CandidateStep, ...]:
    """Return a candidate (a step that may have gone wrong first) for each guess of the ranking, in the same order.

    The quotations of the candidates are added to the evidence in `collector`.
    """
    quoted = [collector.quote_all(guess.quotes) for guess in guesses]
    evidence = collector.evidence
    return tuple(
        CandidateStep.citing(
            evidence,
            step_id=guess.placed.step.step_id,
            step_name=guess.placed.step.name,
            agent_name=guess.placed.step.agent_name,
            reasons=guess.reasons,
            evidence_ids=ids,
            odds=_odds(guess.odds),
        )
        for guess, ids in zip(guesses, quoted, strict=True)
    )


def guessed_place(
    candidates: Sequence[CandidateStep], agent: str | None, evidence: Mapping[str, Evidence]
) -> Attribution:
    """Return the first candidate as the attribution (the likely place of the mistake), with low confidence.

    Args:
        candidates: the steps that may be the first mistake, most likely first; at least one.
        agent: the name of the agent that probably made the mistake; None for the agent of the first candidate.
        evidence: `{id: evidence}` of the report.
    """
    first = candidates[0]
    return Attribution.citing(
        evidence,
        basis=AttributionBasis.RANKED_GUESS,
        step_id=first.step_id,
        step_name=first.step_name,
        agent_name=first.agent_name if agent is None else agent,
        confidence=Confidence.LOW,
        evidence_ids=first.evidence_ids,
        odds=first.odds,
    )


def _odds(odds: Odds | None) -> GuessOdds | None:
    if odds is None:
        return None
    return GuessOdds(probability=odds.probability, right=odds.right, all=odds.all, stands_out=odds.stands_out)
