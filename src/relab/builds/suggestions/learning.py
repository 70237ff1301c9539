"""Estimate from people's verdicts how probably the suggestion of a known failure is right.

There is one Beta-Bernoulli model for each pair of a known failure and a template. A template is the log line that
showed the failure, with `#` in place of numbers. The prior is Beta(3, 1): without verdicts, the probability is 0.75.
This prior is a choice, not a measurement.

A verdict about a build of the same project counts as one observation. A verdict from another project counts as a quarter
of an observation. All verdicts from other projects together count as at most one observation, so they alone never
suppress a suggestion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from relab.builds.suggestions.models import FailureMatch, PastVerdict

PRIOR_RIGHT: Final = 3.0
PRIOR_WRONG: Final = 1.0
PRIOR_MEAN: Final = PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG)
OTHER_PROJECT_WEIGHT: Final = 0.25
MAX_OTHER_PROJECTS: Final = 1.0
WITHHELD_AT: Final = 0.5
"""A known failure is suggested only if its chance to be right is higher. After two more rejections than acceptances, it
is not."""


def chance_right(verdicts: Iterable[PastVerdict]) -> float:
    """Return the probability, 0 to 1, that the suggestion of one known failure is right, given the verdicts about it.

    It is the posterior mean of a Beta-Bernoulli model; 0.75 without verdicts. A verdict of the same project counts as
    one observation, a verdict of another project as at most a quarter of one.

    Args:
        verdicts: people's verdicts about earlier suggestions of this known failure, for builds that failed with the
            same log line (apart from numbers in it) as the present build.
    """
    own: list[bool] = []
    others: list[bool] = []
    for verdict in verdicts:
        (own if verdict.is_same_project else others).append(verdict.is_accepted)
    weight = min(OTHER_PROJECT_WEIGHT, MAX_OTHER_PROJECTS / len(others)) if others else 0.0
    right = PRIOR_RIGHT + sum(own) + weight * sum(others)
    return right / (PRIOR_RIGHT + PRIOR_WRONG + len(own) + weight * len(others))


def rank(matches: Sequence[FailureMatch], verdicts: Sequence[PastVerdict]) -> list[FailureMatch]:
    """Adjust matches to people's verdicts, and return them, best first; leave out those that people mostly rejected.

    `chance_right` gives the probability that a match is right, from the verdicts about its known failure. A match with
    a probability of at most 0.5 is left out. The strength and the confidence of each other match are multiplied by
    probability / 0.75. Without verdicts the probability is 0.75, so nothing changes. The confidence is at most 1.

    Args:
        matches: the known failures that the lines of a log show, the best match first.
        verdicts: people's verdicts about earlier suggestions for builds that failed with the same log line (apart from
            numbers in it) as the present build.
    """
    ranked = []
    for match in matches:
        chance = chance_right(verdict for verdict in verdicts if verdict.incident == match.failure.id)
        if chance <= WITHHELD_AT:
            continue
        # Without verdicts, the probability is 0.75, so nothing changes.
        factor = chance / PRIOR_MEAN
        confidence = round(min(1.0, match.confidence * factor), 2)
        ranked.append(replace(match, confidence=confidence, strength=match.strength * factor))
    return sorted(ranked, key=lambda match: -match.strength)
