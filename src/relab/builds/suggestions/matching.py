"""Compare the relevant lines of a build's log with the known failures, and return those that match."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from relab.builds.logs.models import LineRole, RelevantLine
from relab.builds.suggestions.models import FailureMatch, KnownFailure
from relab.builds.suggestions.reading import words
from relab.builds.suggestions.translations import in_english

MAX_QUOTES: Final = 3
MAX_LINES: Final = 2_000
MIN_COVERAGE: Final = 0.85
"""The least share of a sign's words, by weight, in one line; below it, nothing is suggested."""
_ROUNDING: Final = 1e-9
_SHORT: Final = 2
"""The maximum number of words of a short sign. Many unrelated lines contain the words of such a sign, but not as
neighbours."""
_TITLED: Final = 5
"""The maximum number of words of a sign whose first and last word must be in the line. These words of so short a sign say
what kind of message it is, such as `error … found`. They are often common, so the share of the weights alone would do
without one of them."""
HINT_CONFIDENCE: Final = 0.5
"""The confidence of a match by a hint is multiplied by this factor."""


def match_failures(
    lines: Sequence[RelevantLine], failures: Sequence[KnownFailure], *, by_hints: bool = False
) -> list[FailureMatch]:
    """Return the known failures that match at least one line, the best match first.

    A known failure has signs. A sign is a sequence of words from a typical log line. Each word has a weight: the fewer
    signs contain the word, the higher its weight. The weight of a sign is the sum for its words.

    A line matches a sign if it contains words of the sign in the same order, and if these words have at least 85 % of
    the sign's weight. Short signs have further conditions. If a sign has at most five words, the line must contain its
    first and its last word. If it has at most two words, they must be neighbours in the line; numbers between them are
    ignored. If a line matches several signs of a failure, the one with the heaviest words in the line counts.

    Args:
        lines: the relevant lines of a log; at most `MAX_LINES` different ones are compared, errors first.
        failures: the known failures.
        by_hints: if true, compare with the hints (weaker signs) instead of the signs, and halve the confidence.
    """
    signs = [(failure, sign) for failure in failures for sign in (failure.hints if by_hints else failure.signs)]
    weights = _weights(failures)
    index = _SignIndex([sign for _, sign in signs], weights)
    matched: dict[str, list[tuple[float, float, RelevantLine]]] = {}
    for line in most_telling(lines):
        best: dict[str, tuple[float, float]] = {}
        for number, coverage in index.matches(words(in_english(line.text))):
            failure_id = signs[number][0].id
            best[failure_id] = max(best.get(failure_id, (0.0, 0.0)), (coverage * index.totals[number], coverage))
        for failure_id, (strength, coverage) in best.items():
            matched.setdefault(failure_id, []).append((strength, coverage, line))
    found = [_match_of(failure, matched[failure.id]) for failure in failures if failure.id in matched]
    if by_hints:
        found = [replace(match, confidence=round(match.confidence * HINT_CONFIDENCE, 2)) for match in found]
    return sorted(found, key=lambda match: -match.strength)


def _match_of(failure: KnownFailure, matched: Sequence[tuple[float, float, RelevantLine]]) -> FailureMatch:
    """Combine the log lines that match a known failure to one match, with its confidence and quotes.

    Args:
        failure: the known failure.
        matched: `(weight, share, line)` for each line that matches a sign of the failure; at least one. The weight is
            the total weight of the sign's words that the line contains. The share is this weight divided by the total
            weight of all words of the sign (0 to 1).
    """
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
    """Return the lines that are compared with known failures: first those that report errors, then their details.

    Blank lines, repeated lines and consequences of errors are left out. At most `MAX_LINES` lines are returned.
    """
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


class _SignIndex:
    """Finds the signs that a log line matches. A sign is a sequence of words from a typical line of a known failure.

    Args:
        signs: the words of each sign.
        weights: `{word: weight}` with every word of the signs.

    Attributes:
        totals: for each sign, in the order of `signs`, the sum of the weights of its words.
    """

    def __init__(self, signs: Sequence[Sequence[str]], weights: dict[str, float]) -> None:
        self._signs = signs
        self._weights = weights
        self.totals = [sum(weights[word] for word in sign) for sign in signs]
        # A line is compared only with signs that share words with it.
        self._by_word: dict[str, list[tuple[int, float]]] = {}
        for number, sign in enumerate(signs):
            for word, count in Counter(sign).items():
                self._by_word.setdefault(word, []).append((number, count * weights[word]))

    def matches(self, line: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Yield `(index of the sign, share)` for each sign that a log line matches.

        The share is the total weight of the sign's words that the line contains in the same order, divided by the
        total weight of all words of the sign. A line with a share below `MIN_COVERAGE` does not match. A line must
        contain the first and the last word of a sign with at most five words, and the words of a sign with at most two
        words as neighbours.

        Args:
            line: the words of the log line.
        """
        known = [word for word in line if word in self._by_word]
        present: dict[int, float] = {}
        for word in set(known):
            for number, weight in self._by_word[word]:
                present[number] = present.get(number, 0.0) + weight
        for number, weight in present.items():
            # The order is compared only where it matters, because that takes time.
            if weight >= MIN_COVERAGE * self.totals[number] - _ROUNDING:
                sign = self._signs[number]
                coverage = _common_weight(sign, known, self._weights) / self.totals[number]
                if coverage < MIN_COVERAGE or (len(sign) <= _TITLED and (sign[0] not in line or sign[-1] not in line)):
                    continue
                if len(sign) > _SHORT or _is_part(sign, line):
                    yield number, coverage


def _is_part(sign: Sequence[str], line: Sequence[str]) -> bool:
    """Return whether the words of `line` contain the words of `sign` side by side, in the same order.

    Numbers of the line that are not in the sign are ignored: many are positions, as in `main.go:12:5: undefined`.
    """
    rest = [word for word in line if word in sign or not word.isdigit()]
    return any(rest[start : start + len(sign)] == list(sign) for start in range(len(rest) - len(sign) + 1))


def _common_weight(sign: Sequence[str], found: Sequence[str], weights: dict[str, float]) -> float:
    """Return the weight of the heaviest common subsequence of a sign and a log line.

    The weight of a subsequence is the sum of the weights of its words.

    Args:
        sign: the words of the sign.
        found: the words of the log line.
        weights: `{word: weight}`.
    """
    best = [0.0] * (len(sign) + 1)
    for word in found:
        before = best[0]
        for place, wanted in enumerate(sign, start=1):
            above = best[place]
            best[place] = max(above, best[place - 1], before + weights[word] if wanted == word else 0.0)
            before = above
    return best[-1]
