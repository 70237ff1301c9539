"""Which cause fits what is known: naive Bayes over the conditions of all runbooks, with a place for a cause that is in none. Pure.

Every condition that some runbook names is a feature. What a runbook does not name it expects as often as it holds anyway, so
all causes are judged by the same evidence. Features of one fact say much the same; only the most telling one of them counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relab.knowledge.models import Condition, FactValue, Runbook

UNKNOWN: Final = "unknown"
"""The cause that no runbook describes."""
UNKNOWN_PRIOR: Final = 0.1
UNKNOWN_SHOWS: Final = 0.05
"""How likely an unknown cause makes any condition hold that seldom holds otherwise."""
_SUREST: Final = 0.995
"""No single look makes a cause certain or impossible: looks err, and runbooks are written by people."""
_RULED_OUT: Final = math.log(1e-4)
"""What a requirement that is known not to hold makes of a cause; not nothing at all, for looks err."""
_MOST_AT_ONCE: Final = 6
MOST_FROM_MEMORY: Final = 4.0
"""By which factor past incidents may raise a prior at most; they never stand against what is seen."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cause and how probable it is.

    Attributes:
        probability: given all that is known; those of all candidates add up to 1.
        for_it, against_it: conditions that speak for and against it, compared with the others, the most telling first.
        unproven: what it requires and nobody knows yet.
    """

    cause: str
    probability: float
    for_it: tuple[Condition, ...] = ()
    against_it: tuple[Condition, ...] = ()
    unproven: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class _Feature:
    """A condition, and how likely it is to hold: by cause, and for those that do not name it."""

    condition: Condition
    likely: Mapping[str, float]
    otherwise: float

    def probability(self, cause: str) -> float:
        if cause == UNKNOWN:
            return _within(max(self.otherwise, UNKNOWN_SHOWS))
        return _within(self.likely.get(cause, self.otherwise))


class Diagnosis:
    """What is thought of all causes, at one moment.

    Args:
        runbooks: one for each cause.
        facts: what is known so far.
        memory: by cause, the factor by which past incidents raise its prior; it is bounded here.
    """

    def __init__(
        self,
        runbooks: Sequence[Runbook],
        facts: Mapping[str, FactValue],
        memory: Mapping[str, float] | None = None,
    ) -> None:
        self._causes = [*(runbook.cause for runbook in runbooks), UNKNOWN]
        self._features = _features(runbooks)
        self._requires = {runbook.cause: runbook.requires for runbook in runbooks}
        self._facts = dict(facts)
        raised = {cause: min(max(factor, 1.0), MOST_FROM_MEMORY) for cause, factor in (memory or {}).items()}
        weights = {runbook.cause: runbook.prior * raised.get(runbook.cause, 1.0) for runbook in runbooks}
        whole = sum(weights.values()) or 1.0
        self._log_priors = {cause: math.log(weight / whole * (1 - UNKNOWN_PRIOR)) for cause, weight in weights.items()}
        self._log_priors[UNKNOWN] = math.log(UNKNOWN_PRIOR)
        for runbook in runbooks:
            broken = sum(required.holds(self._facts) is False for required in runbook.requires)
            self._log_priors[runbook.cause] += broken * _RULED_OUT
        self._known = self._telling()

    def candidates(self) -> list[Candidate]:
        """Return all causes, the most probable first; ties in the order of their names."""
        probabilities = _normalized({cause: self._score(cause, self._known) for cause in self._causes})
        found = []
        for cause, probability in sorted(probabilities.items(), key=lambda item: (-item[1], item[0])):
            weighed = sorted(((self._weight(cause, *item), item[0].condition) for item in self._known), key=_by_weight)
            for_it = tuple(condition for weight, condition in weighed if weight > 0)
            against_it = tuple(condition for weight, condition in reversed(weighed) if weight < 0)
            broken = [each for each in self._requires.get(cause, ()) if each.holds(self._facts) is False]
            unproven = tuple(each for each in self._requires.get(cause, ()) if each.holds(self._facts) is None)
            found.append(Candidate(cause, probability, for_it, (*broken, *against_it), unproven))
        return found

    def gain(self, facts: Iterable[str]) -> float:
        """Return by how many bits a look is expected to lessen the doubt, if it tells these facts."""
        wanted = set(facts)
        unknown = [feature for feature in self._features if feature.condition.fact in wanted and self._is_open(feature)]
        # The most telling one of each fact: the others would count the same look twice.
        by_fact = {feature.condition.fact: feature for feature in sorted(unknown, key=self._spread)}
        chosen = sorted(by_fact.values(), key=self._spread, reverse=True)[:_MOST_AT_ONCE]
        scores = {cause: self._score(cause, self._known) for cause in self._causes}
        before = _normalized(scores)
        after = 0.0
        for outcome in itertools.product((True, False), repeat=len(chosen)):
            seen = list(zip(chosen, outcome, strict=True))
            likelihoods = {cause: math.exp(sum(_log(feature, cause, it) for feature, it in seen)) for cause in scores}
            weight = sum(before[cause] * likelihoods[cause] for cause in scores)
            if weight > 0:
                posterior = {cause: before[cause] * likelihoods[cause] / weight for cause in scores}
                after += weight * _entropy(posterior)
        return max(_entropy(before) - after, 0.0)

    def _telling(self) -> list[tuple[_Feature, bool]]:
        """Return the features that are known: of each fact the one that differs most between causes."""
        best: dict[str, tuple[float, _Feature, bool]] = {}
        for feature in self._features:
            holds = feature.condition.holds(self._facts)
            if holds is None:
                continue
            spread = self._spread(feature, holds)
            kept = best.get(feature.condition.fact)
            if kept is None or spread > kept[0]:
                best[feature.condition.fact] = (spread, feature, holds)
        return [(feature, holds) for _, feature, holds in best.values()]

    def _is_open(self, feature: _Feature) -> bool:
        return feature.condition.holds(self._facts) is None

    def _spread(self, feature: _Feature, holds: bool | None = None) -> float:
        outcomes = (True, False) if holds is None else (holds,)
        return max(
            max(_log(feature, cause, it) for cause in self._causes)
            - min(_log(feature, cause, it) for cause in self._causes)
            for it in outcomes
        )

    def _score(self, cause: str, known: Sequence[tuple[_Feature, bool]]) -> float:
        return self._log_priors[cause] + sum(_log(feature, cause, holds) for feature, holds in known)

    def _weight(self, cause: str, feature: _Feature, holds: bool) -> float:
        """Return how much more a feature speaks for a cause than for those that do not name it."""
        otherwise = _within(feature.otherwise)
        usual = math.log(otherwise if holds else 1 - otherwise)
        return _log(feature, cause, holds) - usual


def _features(runbooks: Sequence[Runbook]) -> list[_Feature]:
    likely: dict[Condition, dict[str, float]] = {}
    otherwise: dict[Condition, list[float]] = {}
    for runbook in runbooks:
        for expectation in runbook.expects:
            likely.setdefault(expectation.condition, {})[runbook.cause] = expectation.likely
            otherwise.setdefault(expectation.condition, []).append(expectation.otherwise)
    return [
        _Feature(condition, causes, sum(otherwise[condition]) / len(otherwise[condition]))
        for condition, causes in likely.items()
    ]


def _log(feature: _Feature, cause: str, holds: bool) -> float:
    probability = feature.probability(cause)
    return math.log(probability if holds else 1 - probability)


def _within(probability: float) -> float:
    return min(max(probability, 1 - _SUREST), _SUREST)


def _normalized(scores: Mapping[str, float]) -> dict[str, float]:
    highest = max(scores.values())
    weights = {cause: math.exp(score - highest) for cause, score in scores.items()}
    whole = sum(weights.values())
    return {cause: weight / whole for cause, weight in weights.items()}


def _entropy(probabilities: Mapping[str, float]) -> float:
    return -sum(value * math.log2(value) for value in probabilities.values() if value > 0)


def _by_weight(item: tuple[float, Condition]) -> tuple[float, str]:
    return -item[0], str(item[1])
