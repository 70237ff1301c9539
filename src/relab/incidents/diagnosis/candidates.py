"""The data types of a diagnosis: causes and cause sets with their probabilities. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relab.knowledge.models import FactCondition

UNKNOWN: Final = "unknown"
"""The name of the cause if no runbook describes it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cause and its probability.

    Attributes:
        probability: the probability that the cause is present, alone or with another cause. The probabilities of all
            candidates can sum to more than 1, because a pair of causes counts for both of them.
        for_it, against_it: the conditions that are evidence for and against the cause, the strongest first; in
            `against_it`, required conditions that are false come first.
        unproven: the required conditions of the cause that are not known yet.
        together: `{other cause: probability that both are present}`, the most probable first, without negligible
            probabilities.
    """

    cause: str
    probability: float
    for_it: tuple[FactCondition, ...] = ()
    against_it: tuple[FactCondition, ...] = ()
    unproven: tuple[FactCondition, ...] = ()
    together: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CauseSet:
    """One cause, or two at once, with the probability that exactly these causes are present and no others."""

    causes: tuple[str, ...]
    probability: float


def probability_of_any(candidates: Sequence[Candidate], causes: Collection[str]) -> float:
    """Return the probability that at least one of `causes` is present, from the candidates of a diagnosis."""
    found = [candidate for candidate in candidates if candidate.cause in causes]
    # A pair counts with each of its two causes, so it is counted twice.
    twice = sum(probability for each in found for other, probability in each.together.items() if other in causes)
    return sum(each.probability for each in found) - twice / 2
