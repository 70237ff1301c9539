"""Learn from accepted and rejected suggestions: a Beta-Bernoulli model for each known failure and template of lines.

The model gives the chance that it is right to suggest this known failure for lines with this template. Its prior is
Beta(3, 1), as if three of four earlier suggestions had been right; this prior is a choice, not a measurement. A verdict
about a build of the same project counts as one observation. A verdict of another project counts as a quarter, and all
verdicts of other projects together as at most one: verdicts of other projects alone never suppress a suggestion.
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
    """Return the probability, 0 to 1, that a suggestion of one known failure is right, given the verdicts about it.

    It is the posterior mean of a beta-Bernoulli model; 0.75 without verdicts. A verdict of another project counts at
    most a quarter as much as a verdict of the same project.

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
    """Return the matches that earlier verdicts do not contradict, with adjusted strength and confidence, best first.

    `chance_right` gives the probability that a match is right, from the verdicts about its known failure. Matches with
    a probability of at most 0.5 are left out. The strength and the confidence of the other matches are multiplied by
    probability / 0.75, where 0.75 is the probability without verdicts. The confidence is at most 1.

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
