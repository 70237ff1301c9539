"""Validate a language model's answer about an incident, and raise the odds of the cause that it names. Pure.

The factor by which the odds rise is at most `MAX_MODEL_FACTOR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate, probability_of_any
from relab.incidents.diagnosis.investigation import KnownFacts
from relab.incidents.probes.models import ProbeEvidence
from relab.knowledge.models import Runbook

MAX_MODEL_FACTOR: Final = 4.0
"""The largest factor by which a model's answer raises the odds of a cause: the same as for past incidents.

So a cause needs a certain probability by the rules alone before a model can make it sure enough to act on: with the
thresholds of `PlanningSettings`, 0.2 for a runbook of low risk, 0.28 for one of medium risk, and 0.5 for one of high risk.
"""
MIN_PLAUSIBLE_PROBABILITY: Final = 0.05
"""A cause with a lower probability by the rules is not raised at all."""
MAX_CITED: Final = 8


class ModelAnswer(BaseModel):
    """A language model's answer about an incident.

    Attributes:
        cause: the cause that the model names.
        probability: the probability that the model states for this cause.
        evidence_ids: the ids of the evidence that the model cites for this cause.
        looks: the names of probes that the model wants to be run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cause: str
    probability: float
    evidence_ids: tuple[str, ...]
    looks: tuple[str, ...]


class AnswerRejection(StrEnum):
    """Why a language model's answer about an incident is rejected; each value is a phrase for a message."""

    UNKNOWN_PROBE = "it requests a probe that is not offered"
    TOO_MANY_PROBES = "it requests more probes than allowed"
    UNKNOWN_CAUSE = "it names a cause that no runbook in use has"
    NO_PROBABILITY = "its probability is not valid"
    UNKNOWN_EVIDENCE = "it cites evidence that it was not given"
    TOO_MANY_CITATIONS = "it cites too much evidence"
    NO_CITATION = "it cites no evidence"
    BESIDE_THE_POINT = "by the runbook, no cited evidence supports the cause"
    RULED_OUT = "a required condition of the cause is known not to hold"
    IS_MENDED = "the conditions for a mended cause hold already"
    FAR_FETCHED = "the rules give it a very low probability"


def reject_probes(answer: ModelAnswer, offered: Sequence[str], most: int) -> AnswerRejection | None:
    """Return why the probes that a model's answer requests are rejected; None if they are accepted.

    Args:
        answer: the answer of the model.
        offered: the names of the probes that the model may request.
        most: how many probes it may request.
    """
    if not set(answer.looks) <= set(offered):
        return AnswerRejection.UNKNOWN_PROBE
    return AnswerRejection.TOO_MANY_PROBES if len(set(answer.looks)) > most else None


def reject_form(
    answer: ModelAnswer, runbooks: Sequence[Runbook], sent: Sequence[ProbeEvidence]
) -> AnswerRejection | None:
    """Return why a model's answer is not valid; None if the answer is valid.

    Args:
        answer: the answer of the model.
        runbooks: the runbooks that the model was given.
        sent: the evidence that the model was given.
    """
    if answer.cause != UNKNOWN and answer.cause not in {book.cause for book in runbooks}:
        return AnswerRejection.UNKNOWN_CAUSE
    if not 0 <= answer.probability <= 1:
        return AnswerRejection.NO_PROBABILITY
    if not set(answer.evidence_ids) <= {item.evidence_id for item in sent}:
        return AnswerRejection.UNKNOWN_EVIDENCE
    if len(set(answer.evidence_ids)) > MAX_CITED:
        return AnswerRejection.TOO_MANY_CITATIONS
    return AnswerRejection.NO_CITATION if answer.cause != UNKNOWN and not answer.evidence_ids else None


def reject_cause(
    cause: str, cited: Sequence[str], candidates: Sequence[Candidate], runbooks: Sequence[Runbook], known: KnownFacts
) -> AnswerRejection | None:
    """Return why a language model's answer, which names `cause`, must be ignored; None if the answer is accepted.

    Facts are what probes found out about the target.

    Args:
        cause: the cause that the model names.
        cited: the names of the facts that the answer cites as evidence for the cause.
        candidates: the causes with the probabilities that were computed without the model.
        runbooks: the runbooks of all causes.
        known: the facts that are known.
    """
    by_rules = next((item for item in candidates if item.cause == cause), None)
    if by_rules is None or by_rules.probability < MIN_PLAUSIBLE_PROBABILITY:
        return AnswerRejection.FAR_FETCHED
    book = next((book for book in runbooks if book.cause == cause), None)
    if book is None:
        # The unknown cause leads to no action, so it needs no evidence.
        return None
    if any(each.holds(known.facts) is False for each in book.requires):
        return AnswerRejection.RULED_OUT
    if book.mended and all(each.holds(known.facts) is True for each in book.mended):
        return AnswerRejection.IS_MENDED
    telling = {each.fact for each in by_rules.for_it} | {each.fact for each in book.requires}
    return AnswerRejection.BESIDE_THE_POINT if telling.isdisjoint(cited) else None


def raised(candidates: Sequence[Candidate], cause: str, probability: float) -> tuple[Candidate, ...]:
    """Return `candidates`, the most probable first, after a language model has named the cause `cause`.

    The odds of `cause` are multiplied by a factor: from 1 if `probability` is 0, to `MAX_MODEL_FACTOR` if it is 1. The
    odds that `cause` is present together with a second cause rise, too.

    Args:
        candidates: the causes with the probabilities that were computed without the model.
        cause: the cause that the model names.
        probability: the probability that the model states for this cause.
    """
    factor = 1 + (MAX_MODEL_FACTOR - 1) * probability
    named = next((item for item in candidates if item.cause == cause), None)
    whole = probability_of_any(candidates, {item.cause for item in candidates})
    if named is None or whole <= 0:
        return tuple(candidates)
    weight = 1 / (whole + (factor - 1) * named.probability)

    def scaled(item: Candidate) -> Candidate:
        with_it = item.together.get(cause, 0.0)
        own = item.probability if item.cause == cause else with_it
        together = {
            other: each * weight * (factor if cause in {item.cause, other} else 1.0)
            for other, each in item.together.items()
        }
        ordered = dict(sorted(together.items(), key=lambda pair: -pair[1]))
        return replace(item, probability=weight * (item.probability + (factor - 1) * own), together=ordered)

    return tuple(sorted(map(scaled, candidates), key=lambda item: (-item.probability, item.cause)))
