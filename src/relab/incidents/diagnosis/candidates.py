"""Values of a diagnosis: causes and sets of causes, and how probable each is. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relab.knowledge.models import Condition

UNKNOWN: Final = "unknown"
"""The cause that no runbook describes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cause and how probable it is.

    Attributes:
        probability: that it is there, alone or with another cause. Those of all candidates add up to 1 and the probability
            that there are two causes.
        for_it, against_it: conditions that speak for and against it, compared with the others, the most telling first.
        unproven: what it requires and nobody knows yet.
        together: by other cause, the probability that both are there, where it is not negligible.
    """

    cause: str
    probability: float
    for_it: tuple[Condition, ...] = ()
    against_it: tuple[Condition, ...] = ()
    unproven: tuple[Condition, ...] = ()
    together: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One cause, or two at once, and how probable it is that these and no others are there."""

    causes: tuple[str, ...]
    probability: float


def probability_of_any(candidates: Sequence[Candidate], causes: Collection[str]) -> float:
    """Return the probability that at least one of these causes is there."""
    found = [candidate for candidate in candidates if candidate.cause in causes]
    # What is counted with each of two causes is counted twice.
    twice = sum(probability for each in found for other, probability in each.together.items() if other in causes)
    return sum(each.probability for each in found) - twice / 2
