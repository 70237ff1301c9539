"""Which causes fit what is known: naive Bayes over the conditions of all runbooks, for one cause or two at once. Pure.

A hypothesis is one cause, two causes at once, or a cause that is in no runbook. Every condition that some runbook names is a
feature. A cause that does not name a condition expects it as often as it holds anyway, so all hypotheses are judged by the
same evidence. Features of one fact say much the same; only the most telling one of them counts.

Two causes show what either of them shows (a noisy OR, J. Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, 4.3.2),
so what speaks against one of them alone is not held against the two where the other explains it. Two at once are rarer than
either, so a second cause must explain what the first one does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate, Hypothesis
from relab.knowledge.models import Condition, FactValue, Runbook

UNKNOWN_PRIOR: Final = 0.1
UNKNOWN_SHOWS: Final = 0.05
"""How likely an unknown cause makes any condition hold that seldom holds otherwise."""
SECOND_PRIOR: Final = 0.05
"""How likely a second cause is there at the same time, before anything is seen."""
_SUREST: Final = 0.995
"""No single look makes a cause certain or impossible: looks err, and runbooks are written by people."""
_RULED_OUT: Final = math.log(1e-4)
"""What a requirement that is known not to hold makes of a cause; not nothing at all, for looks err."""
_MOST_AT_ONCE: Final = 6
_MOST_WEIGHED: Final = 80
"""So many of the most probable hypotheses are weighed when the worth of a look is asked for."""
_LEAST_TOGETHER: Final = 1e-4
"""Pairs that are less probable are not listed."""
MOST_FROM_MEMORY: Final = 4.0
"""By which factor past incidents may raise a prior at most; they never stand against what is seen."""

Numbers = NDArray[np.float64]


class _Model:
    """What runbooks expect, as arrays.

    Attributes:
        causes: of the runbooks, and `UNKNOWN` last.
        conditions: the features.
        likely: by feature and hypothesis, how likely the feature holds; single causes come first, in the order of `causes`.
        otherwise: by feature, how likely it holds anyway.
        first, second: places in `causes` of the members of each pair.
    """

    def __init__(self, runbooks: Sequence[Runbook]) -> None:
        self.causes = [*(runbook.cause for runbook in runbooks), UNKNOWN]
        place = {cause: number for number, cause in enumerate(self.causes)}
        likely: dict[Condition, dict[str, float]] = {}
        otherwise: dict[Condition, list[float]] = {}
        for runbook in runbooks:
            for expectation in runbook.expects:
                likely.setdefault(expectation.condition, {})[runbook.cause] = expectation.likely
                otherwise.setdefault(expectation.condition, []).append(expectation.otherwise)
        self.conditions = list(likely)
        usual = np.array([sum(otherwise[each]) / len(otherwise[each]) for each in self.conditions])
        alone = np.repeat(usual[:, None], len(self.causes), axis=1)
        for number, causes in enumerate(likely.values()):
            for cause, probability in causes.items():
                alone[number, place[cause]] = probability
        alone[:, -1] = np.maximum(usual, UNKNOWN_SHOWS)
        self.otherwise = _within(usual)
        alone = _within(alone)
        # The unknown cause is not one of two: it explains all that it explains by itself.
        self.first, self.second = np.triu_indices(len(runbooks), 1)
        both = _either(alone[:, self.first], alone[:, self.second], self.otherwise[:, None])
        self.likely = np.hstack([alone, both])

    def names(self) -> list[tuple[str, ...]]:
        """Return the causes of each hypothesis."""
        pairs = zip(self.first.tolist(), self.second.tolist(), strict=True)
        return [*((cause,) for cause in self.causes), *((self.causes[a], self.causes[b]) for a, b in pairs)]


class Diagnosis:
    """What is thought of all causes, at one moment.

    Args:
        runbooks: one for each cause.
        facts: what is known so far.
        memory: by cause, the factor by which past incidents raise its prior; it is bounded here.
        mended: causes that were repaired in this incident. As long as the runbook's conditions for its end hold, such a cause is
            no candidate, and signs of it that linger speak for no other cause.
    """

    def __init__(
        self,
        runbooks: Sequence[Runbook],
        facts: Mapping[str, FactValue],
        memory: Mapping[str, float] | None = None,
        mended: Iterable[str] = (),
    ) -> None:
        self._facts = dict(facts)
        gone = [book for book in runbooks if book.cause in set(mended) and self._is_gone(book)]
        standing = [book for book in runbooks if book not in gone]
        self._model = _Model(standing)
        self._requires = {runbook.cause: runbook.requires for runbook in standing}
        self._place = {condition: number for number, condition in enumerate(self._model.conditions)}
        likely = self._model.likely
        self._holds, self._fails = np.log(_within(self._explained(gone, likely))), np.log(1 - likely)
        self._log_priors = self._priors(standing, memory or {}) + self._ruled_out(standing)
        self._known = self._telling()
        self._scores = self._log_priors + sum(
            ((self._holds if holds else self._fails)[number] for number, holds in self._known),
            start=np.zeros(likely.shape[1]),
        )

    def hypotheses(self) -> list[Hypothesis]:
        """Return all causes and pairs of causes, the most probable first; their probabilities add up to 1."""
        found = zip(self._model.names(), _normalized(self._scores).tolist(), strict=True)
        return [Hypothesis(*each) for each in sorted(found, key=lambda item: (-item[1], item[0]))]

    def candidates(self) -> list[Candidate]:
        """Return all causes, the most probable first; ties in the order of their names."""
        model, weights = self._model, _normalized(self._scores)
        count = len(model.causes)
        both = np.zeros((count, count))
        both[model.first, model.second] = weights[count:]
        both += both.T
        marginal = np.minimum(weights[:count] + both.sum(axis=1), 1.0)
        order = sorted(range(count), key=lambda number: (-marginal[number], model.causes[number]))
        return [self._candidate(number, float(marginal[number]), both[number]) for number in order]

    def gain(self, facts: Iterable[str]) -> float:
        """Return by how many bits a look is expected to lessen the doubt, if it tells these facts."""
        wanted = set(facts)
        unknown = [
            number
            for number, condition in enumerate(self._model.conditions)
            if condition.fact in wanted and condition.holds(self._facts) is None
        ]
        # The most telling one of each fact: the others would count the same look twice.
        by_fact = {self._model.conditions[number].fact: number for number in sorted(unknown, key=self._spread)}
        chosen = sorted(by_fact.values(), key=self._spread, reverse=True)[:_MOST_AT_ONCE]
        likeliest = np.argsort(-self._scores, kind="stable")[:_MOST_WEIGHED]
        before = _normalized(self._scores[likeliest])
        outcomes = before[None, :]
        for number in chosen:
            likely = self._model.likely[number, likeliest]
            outcomes = np.vstack([outcomes * likely, outcomes * (1 - likely)])
        weights = outcomes.sum(axis=1)
        after = float(weights @ _entropies(outcomes / weights[:, None]))
        return max(float(_entropies(before[None, :])[0]) - after, 0.0) if chosen else 0.0

    def _is_gone(self, book: Runbook) -> bool:
        """Return whether a cause that was repaired is not known to be back."""
        return not any(condition.holds(self._facts) is False for condition in book.mended)

    def _explained(self, gone: Sequence[Runbook], likely: Numbers) -> Numbers:
        """Return how likely features are seen where causes that were repaired may have left their signs."""
        for book in gone:
            signs = self._model.otherwise.copy()
            for expectation in book.expects:
                number = self._place.get(expectation.condition)
                if number is not None:
                    # What it made rare is usual again by now.
                    signs[number] = max(expectation.likely, signs[number])
            likely = _either(likely, _within(signs)[:, None], self._model.otherwise[:, None])
        return likely

    def _priors(self, runbooks: Sequence[Runbook], memory: Mapping[str, float]) -> Numbers:
        raised = [min(max(memory.get(book.cause, 1.0), 1.0), MOST_FROM_MEMORY) for book in runbooks]
        usual = np.array([book.prior for book in runbooks])
        weights = usual * np.array(raised)
        first, second = self._model.first, self._model.second
        pairs = weights[first] * weights[second] * SECOND_PRIOR / (usual.sum() or 1.0)
        whole = (weights.sum() + pairs.sum()) or 1.0
        shares = np.concatenate([weights / whole, pairs / whole]) * (1 - UNKNOWN_PRIOR)
        return np.log(np.insert(shares, len(runbooks), UNKNOWN_PRIOR))

    def _ruled_out(self, runbooks: Sequence[Runbook]) -> Numbers:
        """Return what broken requirements take from each hypothesis: from two causes those of both."""
        broken = np.array([*(sum(each.holds(self._facts) is False for each in book.requires) for book in runbooks), 0])
        pairs = broken[self._model.first] + broken[self._model.second]
        found: Numbers = np.concatenate([broken, pairs]) * _RULED_OUT
        return found

    def _candidate(self, number: int, probability: float, both: Numbers) -> Candidate:
        cause = self._model.causes[number]
        weighed = sorted(
            ((self._weight(number, *item), self._model.conditions[item[0]]) for item in self._known), key=_by_weight
        )
        for_it = tuple(condition for weight, condition in weighed if weight > 0)
        against_it = tuple(condition for weight, condition in reversed(weighed) if weight < 0)
        requires = self._requires.get(cause, ())
        broken = [each for each in requires if each.holds(self._facts) is False]
        unproven = tuple(each for each in requires if each.holds(self._facts) is None)
        order = np.argsort(-both, kind="stable").tolist()
        together = {self._model.causes[other]: float(both[other]) for other in order if both[other] >= _LEAST_TOGETHER}
        return Candidate(cause, probability, for_it, (*broken, *against_it), unproven, together)

    def _telling(self) -> list[tuple[int, bool]]:
        """Return the features that are known: of each fact the one that differs most between causes."""
        best: dict[str, tuple[float, int, bool]] = {}
        for number, condition in enumerate(self._model.conditions):
            holds = condition.holds(self._facts)
            if holds is None:
                continue
            spread = self._spread(number, holds)
            kept = best.get(condition.fact)
            if kept is None or spread > kept[0]:
                best[condition.fact] = (spread, number, holds)
        return [(number, holds) for _, number, holds in best.values()]

    def _spread(self, number: int, holds: bool | None = None) -> float:
        count = len(self._model.causes)
        outcomes = (self._holds, self._fails) if holds is None else (self._holds if holds else self._fails,)
        return max(float(np.ptp(each[number, :count])) for each in outcomes)

    def _weight(self, cause: int, number: int, holds: bool) -> float:
        """Return how much more a feature speaks for a cause than for those that do not name it."""
        likely, otherwise = self._model.likely[number, cause], self._model.otherwise[number]
        return float(np.log(likely / otherwise) if holds else np.log((1 - likely) / (1 - otherwise)))


def _either(one: Numbers, other: Numbers, otherwise: Numbers) -> Numbers:
    """Return how likely features hold where two causes are at work, from how likely each of them alone makes them.

    One that makes a feature as likely as it is anyway changes nothing. Where one makes it likelier and the other one makes it
    rarer, the log odds add up: neither outcome speaks against both.
    """
    raised = 1 - (1 - one) * (1 - other) / (1 - otherwise)
    lowered = one * other / otherwise
    odds = one / (1 - one) * (other / (1 - other)) / (otherwise / (1 - otherwise))
    is_raised, is_lowered = (one >= otherwise) & (other >= otherwise), (one <= otherwise) & (other <= otherwise)
    found: Numbers = _within(np.where(is_raised, raised, np.where(is_lowered, lowered, odds / (1 + odds))))
    return found


def _within(probabilities: Numbers) -> Numbers:
    found: Numbers = np.clip(probabilities, 1 - _SUREST, _SUREST)
    return found


def _normalized(scores: Numbers) -> Numbers:
    weights = np.exp(scores - scores.max())
    found: Numbers = weights / weights.sum()
    return found


def _entropies(distributions: Numbers) -> Numbers:
    """Return the entropy of each row, in bits."""
    logs = np.log2(distributions, out=np.zeros_like(distributions), where=distributions > 0)
    found: Numbers = -(distributions * logs).sum(axis=1)
    return found


def _by_weight(item: tuple[float, Condition]) -> tuple[float, str]:
    return -item[0], str(item[1])
