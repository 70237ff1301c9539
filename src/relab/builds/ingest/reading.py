"""Read facts about a build from its log or its JUnit XML file.

These facts are the status, times, commit, tests, and the lines that explain a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from relab.builds.ingest.ends import RememberingSource
from relab.builds.ingest.errors import BuildSourceEmptyError, BuildSourceInvalidError
from relab.builds.ingest.junit import is_junit, read_junit
from relab.builds.logs.bounded import MAX_LOG_BYTES, BoundedSource
from relab.builds.logs.encoding import as_utf8
from relab.builds.logs.errors import BuildLogUnreadableError
from relab.builds.logs.formats import FORMATS
from relab.builds.logs.groups import FailureCause, cause_of_tests, failure_cause, headline
from relab.builds.logs.models import BuildLine, BuildLog, ByteSource, LineRole, RelevantLine
from relab.builds.logs.named_tests import named_tests
from relab.builds.logs.reading import envelope_times_us, read_log
from relab.builds.logs.relevance import relevant_lines
from relab.builds.logs.results import log_result
from relab.builds.models import BuildStatus, BuildTest, BuildTestOutcome, RecordedLine
from relab.core.masking import mask_secrets

MAX_QUOTED_LINES: Final = 20
MAX_QUOTED_CHARS: Final = 300
_SEARCHED_LINES: Final = 2_000
_EDGE_BYTES: Final = 8_192
_REPOSITORY: Final = re.compile(r"Syncing repository: ([\w.-]{1,100}/[\w.-]{1,90})$")
_COMMITS: Final = (
    re.compile(r"'?(?P<commit>[0-9a-f]{40})'?$"),
    re.compile(r"Checking out (?P<commit>[0-9a-f]{7,40}) as (?:detached HEAD \(ref is (?P<branch>[^()\s]{1,200})\))?"),
    re.compile(r"HEAD is now at (?P<commit>[0-9a-f]{7,40})\b"),
)
"""The commit that a checkout prints: GitHub's `git log -1 --format=%H`, GitLab's runner, and git itself."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The facts about a build that its log or JUnit XML file (the source) contains.

    Attributes:
        kind: `junit` for a JUnit XML file; for a log, the CI system that wrote it, such as `github`, or else `log`.
        digest: the SHA-256 of the source's bytes, in hex. A source in UTF-16 is converted to UTF-8 first.
        size: the number of bytes, after this conversion.
        text: the log, shortened to about 1 MiB; empty for JUnit XML.
        status: how the build ended; `unknown` if the source does not say so.
        started_at: when the build started, in microseconds since 1970; None if unknown.
        duration_s: the duration of the build in seconds; None if unknown.
        repository, commit, branch: what was built, as the checkout step reports it in the log; None if unknown.
        tests: the results of tests.
        tests_left_out: the number of results that are missing from `tests`, because there were too many.
        lines: the lines that show a failure; empty if no line does.
        error: the text of the line that explains the failure best; None if no line explains it.
        cause: the cause of the failure; failed builds with the same cause form a group. None if unknown.
    """

    kind: str
    digest: str
    size: int
    text: str
    status: BuildStatus
    started_at: int | None = None
    duration_s: float | None = None
    repository: str | None = None
    commit: str | None = None
    branch: str | None = None
    tests: Sequence[BuildTest] = ()
    tests_left_out: int = 0
    lines: tuple[RecordedLine, ...] = ()
    error: str | None = None
    cause: FailureCause | None = None


def read_source(source: ByteSource, status: BuildStatus | None = None, most_bytes: int = MAX_LOG_BYTES) -> SourceFacts:
    """Read the facts about a build from its log or JUnit XML file, in bounded memory.

    Args:
        source: the bytes of the file.
        status: how the build ended, instead of the status in the log. None: read the status from the log. The status of
            a JUnit XML file is always read from the file.
        most_bytes: the largest size of the file in bytes.

    Raises:
        BuildSourceEmptyError: the source has no text.
        BuildSourceInvalidError: the source is binary or too large, or its XML is not accepted.
    """
    try:
        return _read_facts(BoundedSource(source, most_bytes), status)
    except BuildLogUnreadableError as error:
        raise BuildSourceInvalidError(error.message, remedy=error.remedy) from error


def _read_facts(source: ByteSource, status: BuildStatus | None) -> SourceFacts:
    remembering = RememberingSource(as_utf8(source))
    if is_junit(remembering.first):
        return _read_junit_facts(remembering)
    log = read_log(remembering)
    if not log.is_binary and not any(line.text for line in log.lines):
        raise BuildSourceEmptyError("The log is empty.", remedy="Give a file with the output of a build.")
    if log.is_binary:
        raise BuildSourceInvalidError(
            "The file is binary: it contains many NUL bytes.", remedy="Unpack it, or give a text file."
        )
    return _read_log_facts(remembering, log, status)


def quoted(lines: Iterable[RelevantLine]) -> tuple[RecordedLine, ...]:
    """Return the lines to store in the record of a failed build, sorted by line number, with secrets masked.

    Of more than `MAX_QUOTED_LINES` lines, only those that explain the failure best are returned.
    """
    kept = sorted(_ranked(lines)[:MAX_QUOTED_LINES], key=lambda line: line.number)
    return tuple(
        RecordedLine(number=line.number, text=mask_secrets(line.text)[:MAX_QUOTED_CHARS], why=line.why) for line in kept
    )


def _ranked(lines: Iterable[RelevantLine]) -> list[RelevantLine]:
    """Return the lines sorted by how well they explain the failure, the best first; lines without text are last."""
    return sorted(
        lines,
        key=lambda line: (
            not line.text,
            line.role is not LineRole.ERROR,
            line.role is LineRole.CONSEQUENCE,
            -line.score,
            line.number,
        ),
    )


def _read_junit_facts(source: RememberingSource) -> SourceFacts:
    report = read_junit(source)
    failed = [test for test in report.tests.values() if test.outcome is BuildTestOutcome.FAILED]
    status = BuildStatus.FAILED if report.failed else BuildStatus.SUCCESS
    lines = tuple(
        RecordedLine(
            number=test.line or 1,
            text=mask_secrets(f"{test.name}: {test.message or 'failed'}")[:MAX_QUOTED_CHARS],
            why="JUnit XML: failed test",
        )
        for test in failed[:MAX_QUOTED_LINES]
    )
    return SourceFacts(
        kind="junit",
        digest=source.digest(),
        size=source.size,
        text="",
        status=status if report.executed else BuildStatus.UNKNOWN,
        started_at=report.started_at,
        duration_s=report.duration_s,
        tests=tuple(report.tests.values()),
        tests_left_out=report.left_out,
        lines=lines,
        error=lines[0].text if lines else None,
        # A message is cut at a place that depends on the numbers in it; the cause must not.
        cause=cause_of_tests((test.name, report.failure_texts.get(test.name, test.message or "")) for test in failed),
    )


def _read_log_facts(source: RememberingSource, log: BuildLog, known: BuildStatus | None) -> SourceFacts:
    result = log_result(log.lines, is_whole=log.left_out is None)
    status = known or result.status
    chosen = relevant_lines(log) if status is BuildStatus.FAILED else []
    started_at, duration_s = _times(source)
    repository, commit, branch = _checkout(log.lines[:_SEARCHED_LINES])
    cause = failure_cause(chosen, log.lines) if status is BuildStatus.FAILED else None
    logged = named_tests(log.lines, has_succeeded=status is BuildStatus.SUCCESS)
    return SourceFacts(
        kind=_kind(log.lines[:_SEARCHED_LINES], result.format_name),
        digest=source.digest(),
        size=source.size,
        text=source.text(),
        status=status,
        started_at=started_at,
        duration_s=duration_s if duration_s is not None else result.duration_s,
        repository=repository,
        commit=commit,
        branch=branch,
        tests=tuple(logged.tests.values()),
        tests_left_out=logged.left_out,
        lines=quoted(chosen),
        error=_error(chosen, cause),
        cause=cause,
    )


def _error(chosen: Sequence[RelevantLine], cause: FailureCause | None) -> str | None:
    """Return the text of the line that explains the failure best, with secrets masked; None without relevant lines.

    `chosen` are the relevant lines; `cause` is the cause of the failure, None if unknown.
    """
    text = headline(chosen, cause) or next((line.text for line in _ranked(chosen)), None)
    return None if text is None else mask_secrets(text)[:MAX_QUOTED_CHARS]


def _times(source: RememberingSource) -> tuple[int | None, float | None]:
    """Return `(start, duration)` of a build, computed from the first and the last timestamp that the CI logged.

    The start is in microseconds since 1970, the duration in seconds; each is None if unknown.
    """
    head, tail = source.ends()
    first = envelope_times_us(head[:_EDGE_BYTES])
    last = envelope_times_us((tail or head)[-_EDGE_BYTES:])
    if not first or not last or last[-1] < first[0]:
        return None, None
    return first[0], (last[-1] - first[0]) / 1e6 if last[-1] > first[0] else None


def _kind(lines: Iterable[BuildLine], format_name: str | None) -> str:
    """Return the CI system that wrote a log; `log` if unknown.

    Args:
        lines: the first lines of the log.
        format_name: the name of the log format (of a tool or a CI system) of the line that reports the end of the
            build; None if no line reports it.
    """
    systems = [(each.name, each.ci, each.ci_sign) for each in FORMATS if each.ci is not None]
    for line in lines:
        for _, ci, sign in systems:
            if sign is not None and sign.match(line.text):
                return ci
    # Two CI systems may report the end in the same form, so the name of the format is the weaker sign.
    return next((ci for name, ci, _ in systems if name == format_name), "log")


def _checkout(lines: Iterable[BuildLine]) -> tuple[str | None, str | None, str | None]:
    repository = commit = branch = None
    for line in lines:
        found = _REPOSITORY.match(line.text)
        if found:
            repository = repository or found[1]
        for pattern in _COMMITS:
            checkout = pattern.match(line.text)
            if checkout and commit is None:
                commit = checkout["commit"]
                branch = checkout.groupdict().get("branch")
    return repository, commit, branch
