"""Search error texts for typical phrases. The module also defines the phrases that several detectors use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from relab.rca.evidence import ErrorText, TextMatch


@dataclass(frozen=True, slots=True)
class Phrase:
    """A typical wording of an error, as a pattern.

    Attributes:
        detail: the finer kind of problem (`DetectedProblem.detail`) that the wording indicates; None if it indicates
            none.
        hints: lower-case substrings. Each match of the pattern contains at least one of them, so that texts without any
            can be skipped quickly.
        pattern: the regular expression.
    """

    detail: str | None
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def phrase(detail: str | None, hints: str, pattern: str) -> Phrase:
    """Build a `Phrase` (a typical wording of an error); its pattern ignores case and lets `.` match line breaks.

    `hints` are separated by `|`: a text is searched only if it contains one of them. `detail` is the finer kind of
    problem, within the category, that the wording indicates.
    """
    return Phrase(detail, tuple(hints.split("|")), re.compile(pattern, re.IGNORECASE | re.DOTALL))


@dataclass(frozen=True, slots=True)
class PhraseMatch:
    """The first phrase (typical wording of an error) that was found in a text.

    `detail` is the finer kind of problem that the phrase indicates; None if it indicates none. `where` is the place of
    the phrase in the original text.
    """

    detail: str | None
    where: TextMatch


class Phrases:
    """A list of typical wordings of errors. `find` returns the first wording that matches a text."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self._phrases = tuple(phrases)

    def find(self, text: ErrorText) -> PhraseMatch | None:
        """Return the match of the first phrase that matches `text`; None without a match.

        The result is cached in `text.memo`.
        """
        key = id(self)
        if key in text.memo:
            return cast("PhraseMatch | None", text.memo[key])
        found = text.memo[key] = self._search(text)
        return found

    def _search(self, text: ErrorText) -> PhraseMatch | None:
        lowered = text.lowered
        for item in self._phrases:
            for hint in item.hints:
                if hint in lowered:
                    match = item.pattern.search(text.masked)
                    if match is not None:
                        return PhraseMatch(item.detail, text.place(match))
                    break
        return None

    def found_in(self, text: ErrorText) -> bool:
        """Return whether any phrase matches `text`."""
        return self.find(text) is not None


CONTEXT_LENGTH = Phrases(
    (
        phrase(
            "context_length",
            "context|prompt is too long|too many tokens|reduce the length|maximum number of tokens|input is too long",
            r"context[ _-]?(?:length|window|size)[ _]?.{0,40}(?:exceed|limit|too|larger|is \d)|maximum context"
            r"|(?:exceed\w*|larger than|over).{0,40}context[ _-]?(?:length|window|size)|context_length_exceeded"
            r"|prompt is too long|too many tokens|reduce the length of|input is too long for"
            r"|maximum number of tokens",
        ),
    )
)

CONTENT_POLICY = Phrases(
    (
        phrase(
            "content_filter",
            "content|safety|moderation|flagged|polic|model refused",
            r"content[ _-]?(?:policy|filter|management|moderation)|(?:safety|moderation) (?:system|filter|policy)"
            r"|blocked by .{0,20}(?:safety|moderation)|flagged (?:as|by|for)|violat\w+ .{0,30}(?:usage"
            r"|content) polic|\bmodel refused to (?:produce|answer|respond|give)",
        ),
    )
)

NO_RESULTS = Phrases(
    (
        phrase(
            "no_results",
            "no |0 |nothing|zero| any|empty|found no|returned no|retrieved no|got no|found 0|returned 0|retrieved 0|got 0",
            r"\b(?:no|zero|0) (?:\w+ ){0,2}(?:results?|documents?|docs|matches|matching|hits|records?|rows|entries|"
            r"items|passages?|chunks|articles?|pages|sources|data)\b(?: (?:were|was|have been|could be))? ?"
            r"(?:found|returned|available|retrieved|match\w*|for\b|in\b|[.!]|$)"
            r"|\b(?:found|returned|retrieved|got) (?:no|zero|0)\b(?! (?:error|problem|issue))"
            r"|\bnothing (?:was )?found|(?:did not|didn't|could not|couldn't|unable to) (?:find|return|retrieve) any"
            r"|\bno (?:results?|matches|documents?|hits|records?)\s*[.!]?\s*$"
            r"|\bempty (?:(?:search|retrieval|query) results?\b|retrieval\s*(?:[.!,:;]|$))|\bretrieval (?:was |is )?empty"
            r"|^\W*empty (?:results?|result set|list)\W*$"
            r"|\b(?:search|retrieval|query|look-?up) (?:has )?(?:returned|gave|yielded) (?:an )?empty"
            r"(?: (?:list|array|set|results?)\b|\s*(?:[.!,:;]|$))",
        ),
    )
)
