"""Suggest a fix for a failed build: the door of this package."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

from relab.builds.logs import BuildLog, LineRole, RelevantLine, closing_lines, read_log, relevant_lines
from relab.builds.logs.reading import unwrap
from relab.builds.suggestions.matching import MAX_QUOTES, match_failure, most_telling
from relab.builds.suggestions.models import (
    ERROR_LINE,
    MAX_ERROR_CHARS,
    FixSuggestion,
    KnownFailure,
    QuotedLine,
    SuggestionRequest,
)
from relab.builds.suggestions.reading import shipped_failures
from relab.builds.suggestions.taught import known_failures, teach

__all__ = [
    "MAX_ERROR_CHARS",
    "FixSuggestion",
    "KnownFailure",
    "QuotedLine",
    "SuggestionRequest",
    "known_failures",
    "shipped_failures",
    "suggest",
    "suggest_for",
    "teach",
]

_NOT_KNOWN: Final = "No known failure has these lines, so no fix is suggested. The quoted lines report the errors."
_NOTHING_FOUND: Final = "No line explains a failure, so no fix is suggested."


def suggest_for(request: SuggestionRequest, failures: Sequence[KnownFailure]) -> FixSuggestion:
    """Return what to do about the failed build of a request. Texts of the request are data: they are only compared."""
    log = _log(request.log)
    passing = None if request.passing is None else _log(request.passing)
    return suggest([*_lines_of_error(request.error), *relevant_lines(log, passing)], log, passing, failures=failures)


def suggest(
    lines: Sequence[RelevantLine],
    log: BuildLog,
    passing: BuildLog | None = None,
    *,
    failures: Sequence[KnownFailure],
) -> FixSuggestion:
    """Return what to do about the failure that a log shows, or that it is not known.

    Args:
        lines: the relevant lines of the log; they are read first.
        log: the log of the failed build, whose last lines are read if the relevant lines show no known failure.
        passing: the log of a build of the same kind that passed, or None.
        failures: the known failures.
    """
    match = match_failure(lines, failures) or match_failure(closing_lines(log, passing), failures)
    if match is None:
        reported = most_telling(lines)[:MAX_QUOTES]
        return FixSuggestion(
            suggestion=_NOT_KNOWN if reported else _NOTHING_FOUND, is_known=False, quotes=_quoted(reported)
        )
    failure = match.failure
    return FixSuggestion(
        suggestion=failure.fix,
        is_known=True,
        incident=failure.id,
        title=failure.title,
        category=failure.category,
        confidence=match.confidence,
        quotes=_quoted(match.quotes),
    )


def _lines_of_error(error: str) -> list[RelevantLine]:
    texts = (unwrap(line)[1] for line in error.splitlines())
    return [RelevantLine(ERROR_LINE, text, LineRole.ERROR, 1.0, "the build's error") for text in texts if text]


def _log(text: str) -> BuildLog:
    return read_log(io.BytesIO(text.encode()))


def _quoted(lines: Iterable[RelevantLine]) -> tuple[QuotedLine, ...]:
    return tuple(QuotedLine(number=line.number, text=line.text) for line in lines)
