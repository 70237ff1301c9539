"""Compute the probabilities of causes by naive Bayes over the conditions of all runbooks, for one cause or two at once.

Pure. A cause set is one cause, two causes at once, or an unknown cause, which no runbook describes. Every condition of
a runbook is a feature. A cause whose runbook does not name a condition has the base rate of that condition, so all
cause sets are judged by the same evidence. Features of one fact are highly dependent; only the most informative one of
them counts.

Two causes together show the signs of both (a noisy OR, J. Pearl, "Probabilistic Reasoning in Intelligent Systems",
1988, 4.3.2). So a sign that only one of them explains does not count against the pair. The prior probability of a pair
is lower than that of either cause, so a second cause must explain something that the first one does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate, CauseSet
from relab.knowledge.models import FactCondition, FactValue, Runbook

UNKNOWN_PRIOR: Final = 0.1
"""The prior probability that no runbook describes the cause."""
UNKNOWN_SHOWS: Final = 0.05
"""The least probability of any condition if the cause is unknown, also of conditions with a lower base rate."""
SECOND_PRIOR: Final = 0.05
"""The prior probability of a second cause at the same time."""
_SUREST: Final = 0.995
"""The upper bound of probabilities (1 less this is the lower one): probes err, and runbooks are written by people."""
_RULED_OUT: Final = math.log(1e-4)
"""The log factor of a cause for each requirement that is known not to hold.

Its probability is not zero, because probes err.
"""
_MAX_CAUSES_AT_ONCE: Final = 6
_MAX_HYPOTHESES: Final = 80
"""How many of the most probable cause sets are used to compute the gain of a probe."""
_MIN_PAIR_PROBABILITY: Final = 1e-4
"""Pairs that are less probable are not listed."""
MAX_HISTORY_FACTOR: Final = 4.0
"""The largest factor by which past incidents raise a prior, so that they never outweigh current evidence."""

Numbers = NDArray[np.float64]


class _Model:
    """Arrays with the probability of each feature given each cause set.

    A feature is a condition that a runbook names. Its probability is the probability that the condition is true. A
    cause set is one cause or a pair of causes: first the single causes in the order of `causes`, then the pairs.

    Attributes:
        causes: the causes of the runbooks, and `UNKNOWN` last.
        conditions: the conditions of all runbooks, one for each feature.
        likely: the probability of each feature if a cause set is present; shape (features, cause sets).
        otherwise: the base rate: the probability of each feature if no cause that affects it is present; shape
            (features,).
        first, second: for each pair, the indices of its two causes in `causes`.
    """

    def __init__(self, runbooks: Sequence[Runbook]) -> None:
        self.causes = [*(runbook.cause for runbook in runbooks), UNKNOWN]
        place = {cause: number for number, cause in enumerate(self.causes)}
        likely: dict[FactCondition, dict[str, float]] = {}
        otherwise: dict[FactCondition, list[float]] = {}
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
        # The unknown cause is in no pair: alone, it can explain any sign.
        self.first, self.second = np.triu_indices(len(runbooks), 1)
        both = _either(alone[:, self.first], alone[:, self.second], self.otherwise[:, None])
        self.likely = np.hstack([alone, both])

    def names(self) -> list[tuple[str, ...]]:
        """Return the names of the causes in each cause set: first the single causes, then the pairs."""
        pairs = zip(self.first.tolist(), self.second.tolist(), strict=True)
        return [*((cause,) for cause in self.causes), *((self.causes[a], self.causes[b]) for a, b in pairs)]


class Diagnosis:
    """The posterior probabilities of causes, given the facts of one moment.

    Args:
        runbooks: one for each cause.
        facts: the facts that are known so far, by name.
        memory: `{cause: factor}`, from past incidents. The prior probability of each cause is multiplied by its factor,
            limited to the range from 1 to `MAX_HISTORY_FACTOR`.
        mended: causes repaired in this incident. Such a cause is left out of the results, and the signs that it left
            are not evidence for other causes. If a condition in `Runbook.mended` (true while the cause is gone) is
            known to be false, the cause is a candidate like any other again.
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

    def hypotheses(self) -> list[CauseSet]:
        """Return the causes and pairs of causes, the most probable first; their probabilities add up to 1."""
        found = zip(self._model.names(), _normalized(self._scores).tolist(), strict=True)
        return [CauseSet(*each) for each in sorted(found, key=lambda item: (-item[1], item[0]))]

    def candidates(self) -> list[Candidate]:
        """Return the causes, the most probable first; causes of equal probability are sorted by name."""
        model, weights = self._model, _normalized(self._scores)
        count = len(model.causes)
        both = np.zeros((count, count))
        both[model.first, model.second] = weights[count:]
        both += both.T
        marginal = np.minimum(weights[:count] + both.sum(axis=1), 1.0)
        order = sorted(range(count), key=lambda number: (-marginal[number], model.causes[number]))
        return [self._candidate(number, float(marginal[number]), both[number]) for number in order]

    def gain(self, facts: Iterable[str]) -> float:
        """Return the expected information gain about the cause, in bits, of a probe.

        `facts` are the names of the facts that the probe can find. The gain is 0 if no runbook has a condition on one
        of these facts that is still undecided.
        """
        wanted = set(facts)
        unknown = [
            number
            for number, condition in enumerate(self._model.conditions)
            if condition.fact in wanted and condition.holds(self._facts) is None
        ]
        # Only the most informative feature of each fact: the others would count the same look twice.
        by_fact = {self._model.conditions[number].fact: number for number in sorted(unknown, key=self._spread)}
        chosen = sorted(by_fact.values(), key=self._spread, reverse=True)[:_MAX_CAUSES_AT_ONCE]
        likeliest = np.argsort(-self._scores, kind="stable")[:_MAX_HYPOTHESES]
        before = _normalized(self._scores[likeliest])
        outcomes = before[None, :]
        for number in chosen:
            likely = self._model.likely[number, likeliest]
            outcomes = np.vstack([outcomes * likely, outcomes * (1 - likely)])
        weights = outcomes.sum(axis=1)
        after = float(weights @ _entropies(outcomes / weights[:, None]))
        return max(float(_entropies(before[None, :])[0]) - after, 0.0) if chosen else 0.0

    def _is_gone(self, book: Runbook) -> bool:
        """Return whether a cause that was repaired is still absent, as far as the facts show.

        The conditions in `book.mended` are all true after the repair. The cause is absent if none of them is known to
        be false.
        """
        return not any(condition.holds(self._facts) is False for condition in book.mended)

    def _explained(self, gone: Sequence[Runbook], likely: Numbers) -> Numbers:
        """Return `likely`, corrected for the signs that repaired causes may have left behind.

        A sign is a feature (a condition of a runbook) that a cause makes more probable. The probability of such a
        feature is computed as if the repaired cause were still present together with the cause set (one cause or two).

        Args:
            gone: the runbooks of the repaired causes.
            likely: the probability of each feature if a cause set is present; shape (features, cause sets).
        """
        for book in gone:
            signs = self._model.otherwise.copy()
            for expectation in book.expects:
                number = self._place.get(expectation.condition)
                if number is not None:
                    # A feature that the cause made rarer is back at its base rate.
                    signs[number] = max(expectation.likely, signs[number])
            likely = _either(likely, _within(signs)[:, None], self._model.otherwise[:, None])
        return likely

    def _priors(self, runbooks: Sequence[Runbook], memory: Mapping[str, float]) -> Numbers:
        raised = [min(max(memory.get(book.cause, 1.0), 1.0), MAX_HISTORY_FACTOR) for book in runbooks]
        usual = np.array([book.prior for book in runbooks])
        weights = usual * np.array(raised)
        first, second = self._model.first, self._model.second
        pairs = weights[first] * weights[second] * SECOND_PRIOR / (usual.sum() or 1.0)
        whole = (weights.sum() + pairs.sum()) or 1.0
        shares = np.concatenate([weights / whole, pairs / whole]) * (1 - UNKNOWN_PRIOR)
        return np.log(np.insert(shares, len(runbooks), UNKNOWN_PRIOR))

    def _ruled_out(self, runbooks: Sequence[Runbook]) -> Numbers:
        """Return, for each set of one or two causes, a number to add to the log probability of the set.

        The number is -ln(10,000), multiplied by the number of violated conditions. A condition is violated if the
        runbook of a cause in the set requires it and it is known to be false. Each violated condition thus makes the
        set 10,000 times less probable.
        """
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
        together = {
            self._model.causes[other]: float(both[other]) for other in order if both[other] >= _MIN_PAIR_PROBABILITY
        }
        return Candidate(cause, probability, for_it, (*broken, *against_it), unproven, together)

    def _telling(self) -> list[tuple[int, bool]]:
        """Return the features that determine the probabilities, as `(index, whether the condition holds)`.

        A feature is a condition of a runbook on one fact. For each known fact, only one feature is used: the one that
        separates the causes best.
        """
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
        """Return the log likelihood ratio of a feature: log(its probability with a cause / its base rate).

        A feature is a condition of a runbook. Its base rate is its probability without the causes that affect it.

        Args:
            cause: the index of the cause.
            number: the index of the feature.
            holds: whether the condition is true. If it is false, the ratio uses the probabilities that the condition is
                false.
        """
        likely, otherwise = self._model.likely[number, cause], self._model.otherwise[number]
        return float(np.log(likely / otherwise) if holds else np.log((1 - likely) / (1 - otherwise)))


def _either(one: Numbers, other: Numbers, otherwise: Numbers) -> Numbers:
    """Return the probability of each feature (a condition of a runbook) if two causes are present at once.

    For each feature, the first case that applies decides:
    1. If one cause leaves the feature at its base rate, the result is the probability with the other cause.
    2. If both causes raise it, or both lower it, the causes are assumed to act independently (a noisy OR).
    3. If one cause raises it and the other lowers it, their log odds are added.

    Args:
        one: the probabilities of the features with the first cause alone.
        other: the probabilities of the features with the second cause alone.
        otherwise: the base rates of the features.
    """
    raised = 1 - (1 - one) * (1 - other) / (1 - otherwise)
    lowered = one * other / otherwise
    odds = one / (1 - one) * (other / (1 - other)) / (otherwise / (1 - otherwise))
    is_raised, is_lowered = (one >= otherwise) & (other >= otherwise), (one <= otherwise) & (other <= otherwise)
    # Adding log odds keeps either outcome from being strong evidence against the pair.
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
    """Return the entropy of each row, a probability distribution, in bits."""
    logs = np.log2(distributions, out=np.zeros_like(distributions), where=distributions > 0)
    found: Numbers = -(distributions * logs).sum(axis=1)
    return found


def _by_weight(item: tuple[float, FactCondition]) -> tuple[float, str]:
    return -item[0], str(item[1])
