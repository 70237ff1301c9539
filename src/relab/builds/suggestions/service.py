"""Suggest a fix for a failed build, from its log, past fixes and people's verdicts; the entry point of the package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from relab.builds.logs.models import BuildLog, LineRole, RelevantLine
from relab.builds.logs.reading import unwrap
from relab.builds.logs.relevance import closing_lines, relevant_lines
from relab.builds.logs.shortened import read_shortened_log
from relab.builds.models import RecordedLine
from relab.builds.suggestions.errors import KnownFailuresInvalidError
from relab.builds.suggestions.learning import rank
from relab.builds.suggestions.matching import MAX_QUOTES, match_failures, most_telling
from relab.builds.suggestions.models import (
    ERROR_LINE,
    MAX_ERROR_CHARS,
    Examination,
    FixSuggestion,
    KnownFailure,
    PastFix,
    PastFixKind,
    PastVerdict,
    QuotedLine,
    SuggestionRequest,
)
from relab.builds.suggestions.past_fixes import past_fixes
from relab.builds.suggestions.reading import shipped_failures
from relab.builds.suggestions.signature import failure_key, failure_template
from relab.builds.suggestions.taught import known_failures, teach

__all__ = [
    "MAX_ERROR_CHARS",
    "Examination",
    "FixSuggestion",
    "KnownFailure",
    "PastFix",
    "PastFixKind",
    "PastVerdict",
    "QuotedLine",
    "SuggestionRequest",
    "answer",
    "examine",
    "examine_lines",
    "failure_template",
    "key_of_recorded",
    "known_failures",
    "past_fixes",
    "shipped_failures",
    "suggest",
    "teach",
]

_NOT_KNOWN: Final = "No known failure has these lines, so no fix is suggested. The quoted lines report the errors."
_REJECTED: Final = (
    "The known failure {title!r} has these lines, but it was rejected for them, so no fix is suggested. "
    "The quoted lines show it."
)
_NOTHING_FOUND: Final = "No line explains a failure, so no fix is suggested."


def suggest(
    lines: Sequence[RelevantLine],
    log: BuildLog,
    passing: BuildLog | None = None,
    *,
    failures: Sequence[KnownFailure],
) -> FixSuggestion:
    """Return a suggestion for the failure that a log shows. Past builds and people's verdicts are not considered.

    Args:
        lines: the relevant lines of the log.
        log: the log of the failed build. If `lines` show no known failure, the last lines of this log are compared
            with the known failures.
        passing: the log of a build of the same kind that passed; None if no such log is known.
        failures: the known failures (kinds of failures, with their fixes).
    """
    return answer(examine_lines(lines, log, passing, failures=failures))


def examine(request: SuggestionRequest, failures: Sequence[KnownFailure]) -> Examination:
    """Return the known failures that match the log and the error in a request, and the template of the failure.

    The template is the line that shows the failure, with `#` in place of numbers.
    """
    log = read_shortened_log(request.log)
    passing = None if request.passing is None else read_shortened_log(request.passing)
    lines = [*_lines_of_error(request.error), *relevant_lines(log, passing)]
    return examine_lines(lines, log, passing, failures=failures)


def examine_lines(
    lines: Sequence[RelevantLine],
    log: BuildLog | None = None,
    passing: BuildLog | None = None,
    *,
    failures: Sequence[KnownFailure],
) -> Examination:
    """Return the known failures in a log, and the template of the line that shows the failure.

    A template is a line with `#` in place of numbers. These comparisons are tried in this order, until one finds a
    known failure:

    - the relevant lines with the signs (words of typical lines) of the known failures;
    - the last lines of `log` with the signs;
    - the relevant lines with the hints (weaker signs) of the known failures.

    Args:
        lines: the relevant lines of the log.
        log: the log of the failed build; None if only the relevant lines are available.
        passing: the log of a build of the same kind that passed, or None. Last lines of `log` that also occur in
            `passing` are ignored.
        failures: the known failures.
    """
    matches = match_failures(lines, failures)
    if not matches and log is not None:
        matches = match_failures(closing_lines(log, passing), failures)
    if not matches:
        matches = match_failures(lines, failures, by_hints=True)
    reported = most_telling(lines)[:MAX_QUOTES]
    deciding = matches[0].decisive if matches else next(iter(reported), None)
    template = failure_template(deciding.text) if deciding is not None else None
    return Examination(
        matches=tuple(matches),
        reported=tuple(reported),
        template=template or None,
        key=failure_key(template) if template else None,
    )


def key_of_recorded(lines: Iterable[RecordedLine], taught: Path) -> str | None:
    """Return the key that identifies how a recorded build failed; None if no line shows the failure.

    Builds that failed in the same way have the same key.

    Args:
        lines: the relevant lines of the build's log.
        taught: the folder of the known failures (kinds of failures, with fixes) that people have added. If a file in
            this folder is invalid, the folder is ignored.
    """
    try:
        failures = known_failures(taught)
    except KnownFailuresInvalidError:
        # An invalid file must not prevent the recording of a build.
        failures = shipped_failures()
    read = [RelevantLine(line.number, line.text, LineRole.ERROR, 1.0, line.why) for line in lines]
    return examine_lines(read, failures=failures).key


def answer(examined: Examination, verdicts: Sequence[PastVerdict] = (), past: Sequence[PastFix] = ()) -> FixSuggestion:
    """Return the advice for the known failure that matches best. If there is none, return an abstention: no advice.

    A known failure is not suggested if people have mostly rejected its earlier suggestions.

    Args:
        examined: the known failures that the log of the build shows.
        verdicts: people's verdicts about earlier suggestions for builds that failed with the same log line (apart from
            numbers in it) as the present build.
        past: past fixes of the project. Their texts are appended to the advice or the abstention.
    """
    ranked = rank(examined.matches, verdicts)
    if not ranked:
        return _abstention(examined, verdicts, past)
    best = ranked[0]
    accepted, rejected = _counts(verdicts, best.failure)
    return FixSuggestion(
        suggestion=_with_past(best.failure.fix, past),
        is_known=True,
        incident=best.failure.id,
        title=best.failure.title,
        category=best.failure.category,
        confidence=best.confidence,
        quotes=_quoted(best.quotes),
        accepted=accepted,
        rejected=rejected,
        past_fixes=tuple(past),
    )


def _abstention(examined: Examination, verdicts: Sequence[PastVerdict], past: Sequence[PastFix]) -> FixSuggestion:
    withheld = examined.matches[0] if examined.matches else None
    quotes = withheld.quotes if withheld is not None else examined.reported
    if withheld is not None:
        text = _REJECTED.format(title=withheld.failure.title)
    else:
        text = _NOT_KNOWN if quotes else _NOTHING_FOUND
    accepted, rejected = (0, 0) if withheld is None else _counts(verdicts, withheld.failure)
    return FixSuggestion(
        suggestion=_with_past(text, past),
        is_known=False,
        quotes=_quoted(quotes),
        accepted=accepted,
        rejected=rejected,
        past_fixes=tuple(past),
    )


def _counts(verdicts: Iterable[PastVerdict], failure: KnownFailure) -> tuple[int, int]:
    """Return `(accepted, rejected)`: the numbers of accepting and of rejecting verdicts about a known failure."""
    found = [verdict.is_accepted for verdict in verdicts if verdict.incident == failure.id]
    return sum(found), len(found) - sum(found)


def _with_past(text: str, past: Sequence[PastFix]) -> str:
    return " ".join((text, *(("Seen before:",) if past else ()), *(each.text for each in past)))


def _lines_of_error(error: str) -> list[RelevantLine]:
    texts = (unwrap(line)[1] for line in error.splitlines())
    return [RelevantLine(ERROR_LINE, text, LineRole.ERROR, 1.0, "the build's error") for text in texts if text]


def _quoted(lines: Iterable[RelevantLine]) -> tuple[QuotedLine, ...]:
    return tuple(QuotedLine(number=line.number, text=line.text) for line in lines)
