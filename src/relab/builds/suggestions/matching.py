"""Find the known failures that the relevant lines of a log show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from relab.builds.logs import LineRole, RelevantLine
from relab.builds.suggestions.models import FailureMatch, KnownFailure
from relab.builds.suggestions.reading import words

MAX_QUOTES: Final = 3
MAX_LINES: Final = 2_000
MIN_COVERAGE: Final = 0.85
"""The least share of a sign's words, by weight, in one line; below it, nothing is suggested."""
HINT_CONFIDENCE: Final = 0.5
"""A match by a hint has this share of the confidence that a sign would give."""


def match_failures(
    lines: Sequence[RelevantLine], failures: Sequence[KnownFailure], *, by_hints: bool = False
) -> list[FailureMatch]:
    """Return the known failures that the lines show, the best match first; empty if they show no known failure.

    A line matches a sign by the share of the sign's words that it has in their order; a word counts more the fewer signs
    have it. Failures are ranked by the most matched weight; of equals, the first one comes first.

    Args:
        lines: the relevant lines of a log; at most `MAX_LINES` different ones are read, those that report errors first.
        failures: the known failures.
        by_hints: whether lines are compared with the hints of the failures instead of their signs.
    """
    weights = _weights(failures)
    read = [(line, [word for word in words(line.text) if word in weights]) for line in most_telling(lines)]
    found = [
        match
        for failure in failures
        if (match := _match_failure(failure, failure.hints if by_hints else failure.signs, read, weights)) is not None
    ]
    if by_hints:
        found = [replace(match, confidence=round(match.confidence * HINT_CONFIDENCE, 2)) for match in found]
    return sorted(found, key=lambda match: -match.strength)


def _match_failure(
    failure: KnownFailure,
    signs: Sequence[tuple[str, ...]],
    read: Sequence[tuple[RelevantLine, list[str]]],
    weights: dict[str, float],
) -> FailureMatch | None:
    """Return the match of one failure, by these signs, with the lines and their weighted words; None without a match."""
    matched = [
        (coverage * total, coverage, line)
        for line, found in read
        if found and signs
        for coverage, total in [max(_match(sign, found, weights) for sign in signs)]
        if coverage >= MIN_COVERAGE
    ]
    if not matched:
        return None
    ranked = sorted(matched, key=lambda each: -each[0])
    strength, coverage, decisive = ranked[0]
    quotes = sorted((line for _, _, line in ranked[:MAX_QUOTES]), key=lambda line: line.number)
    return FailureMatch(
        failure=failure,
        confidence=round(coverage * (1 + decisive.score) / 2, 2),
        quotes=tuple(quotes),
        decisive=decisive,
        strength=strength,
    )


def most_telling(lines: Sequence[RelevantLine]) -> list[RelevantLine]:
    """Return the lines to read, each text once: those that report errors, then their details; no consequences."""
    chosen: dict[str, RelevantLine] = {}
    for role in (LineRole.ERROR, LineRole.DETAIL):
        for line in lines:
            if line.role is role and line.text and len(chosen) < MAX_LINES:
                chosen.setdefault(line.text, line)
    return list(chosen.values())


def _weights(failures: Sequence[KnownFailure]) -> dict[str, float]:
    signs = [sign for failure in failures for sign in (*failure.signs, *failure.hints)]
    counts = Counter(word for sign in signs for word in sign)
    return {word: math.log(1 + len(signs) / count) for word, count in counts.items()}


def _match(sign: Sequence[str], found: Sequence[str], weights: dict[str, float]) -> tuple[float, float]:
    """Return the share of the sign's weight that a line has in the sign's order, and the sign's whole weight."""
    total = sum(weights[word] for word in sign)
    present = set(found)
    # The order is compared only where it matters, because that takes time.
    if sum(weights[word] for word in sign if word in present) < MIN_COVERAGE * total:
        return 0.0, total
    return _common_weight(sign, found, weights) / total, total


def _common_weight(sign: Sequence[str], found: Sequence[str], weights: dict[str, float]) -> float:
    """Return the weight of the heaviest common subsequence."""
    best = [0.0] * (len(sign) + 1)
    for word in found:
        before = best[0]
        for place, wanted in enumerate(sign, start=1):
            above = best[place]
            best[place] = max(above, best[place - 1], before + weights[word] if wanted == word else 0.0)
            before = above
    return best[-1]
