"""Find the cause of a build's failure. Failed builds with the same cause form a group, which has a key."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relab.builds.logs.blocks import is_noise
from relab.builds.logs.causes import is_generic
from relab.builds.logs.formats import FORMATS
from relab.builds.logs.models import BuildLine, LineRole, RelevantLine
from relab.core.error_templates import cause_of
from relab.core.masking import mask_secrets

MAX_SAMPLE_CHARS: Final = 300
_KEY_CHARS: Final = 24
_LAST_OUTPUT: Final = 3
_SEARCHED_BEFORE: Final = 30
_MAX_MESSAGE_LINES: Final = 200
_EQUAL_SCORE: Final = 0.1
"""Error lines whose scores differ by no more explain a failure about equally well."""
_MAX_ERRORS: Final = 2_000
"""Only this number of errors is read: the first errors contain a cause, and masking takes time."""

_MEASURED: Final = frozenset(
    {"out_of_memory", "timed_out", "process_limit", "open_files_limit", "log_limit", "disk_limit", "not_started"}
)
"""Kinds of failures that relab measured; for them, the cause is the kind itself, and no line of the log."""
_SHARED: Final = re.compile(
    r"(?i:no space left|disk quota|could not resolve host|name or service not known|temporary failure in name|connection (?:refused|reset|timed out)"
    r"|network is unreachable|rate ?limit|too many requests|service unavailable|bad gateway|gateway time-?out|certificate|tls handshake|\b(?:internal )?server error\b"
    r"|(?:\bhttps?(?:/[\d.]{1,4})?|\bstatus|\bcode|\berror|\berr!|\breturned|\bresponded with|\bresponse)[ :=]{1,3}50[0234]\b"
    r"|i/o timeout|\b(?:econn(?:reset|refused)|etimedout|enotfound|eai_again)\b|runner .{0,40}lost|received a shutdown signal)"
)
"""Signs of a cause outside of the project, such as a registry that is down; other causes belong to one project."""
_HEADER: Final = re.compile(
    r"_{3,} .{1,300} _{3,}$|-{4} .{1,300} stdout -{4}$|\s*Traceback \(most recent|# [\w./@-]{1,300}|Warning, treated as error:$|FAILED: \S|Execution failed for task|A problem occurred"
    r"|error: linking with|(?:\S{0,200}/)?ld(?:\.\w{1,20})?\s?: .{1,400}\.(?:o|a|so)\)?\s?: .{1,400}:$|\s*● |\s*--- FAIL: |thread '.{1,200}' (?:\(\d+\) )?panicked at \S{1,300}$"
    r"|\s*\xd7 .{1,200}(?: did not run successfully|generating package metadata)\.$|  [1-9]\d{0,8} failing$"
    r"| {2,5}\d{1,6}\) (?:test|property|doctest) \S|An (?:unexpected )?error has occurred: |patching file \S| > \[.{1,300}\] |\s*\[junit\]\s+(?:Testcase: .{1,400}:\t)?(?:FAILED|Caused an ERROR)$"
)
"""First lines of blocks whose message is in a line after them."""
_HEADERS: Final = re.compile(
    "|".join((_HEADER.pattern, *(each.headers.pattern for each in FORMATS if each.headers is not None)))
)
"""The same of all formats."""
_NAME_IN_HEADER: Final = re.compile(
    r"_{3,} (.{1,300}) _{3,}$|-{4} (.{1,300}) stdout -{4}$|\s*● (.{1,300})$|\s*--- FAIL: (\S{1,300})"
)
_COLLECTED: Final = re.compile(r"_{3,} ERROR collecting (.{1,300}) _{3,}$")
_EXCEPTION: Final = re.compile(r"(?:[A-Za-z_][\w.]{0,200})?(?:Error|Exception|Interrupt|Exit|Failure)\b(?:: |:?$)")
_NAME_ALONE: Final = re.compile(r"\s*[A-Za-z_][\w.:]{0,200}(?:Error|Exception):$")
_INDENT_OF_PIP: Final = re.compile(r"(?: {6})+")
"""pip indents the output of a program that it starts; that program may be pip, which indents once more."""
_NUMBERED: Final = re.compile(r"  1\) \S")
"""The first of Mocha's failed tests; its error is indented."""
_INDENTED_ERROR: Final = re.compile(r"\s+(?:Uncaught )?(?:[A-Za-z_]\w{0,80})?(?:Error|Exception)(?: \[\w{1,80}\])?: ")
_SUBTEST: Final = re.compile(r"\s*(?:--- (?:FAIL|PASS|SKIP)|=== )")
_PLACE: Final = re.compile(r"\s*[\w./-]{1,300}\.\w{1,10}:\d{1,7}:(?:\d{1,6}:)?$")
"""A line with nothing but a place in a file, such as Tasty writes before the message."""
_PYTEST_ERROR: Final = re.compile(r"E {3,}\S")
_PYTEST_PLACE: Final = re.compile(r"E {3,}File \"")
_PYTEST_EXCEPTION: Final = re.compile(r"E {3,}(?:[A-Za-z_][\w.]{0,200})?(?:Error|Exception)\b(?:: |$)")
_MESSAGE: Final = re.compile(
    r"> \S|\s*\*\* \(\w|(?i:.{0,300}(?:\berror\b[:\[ ]|undefined reference|cannot find|panicked|\bassert|expected|timed? ?out))"
)
_SUMMARY: Final = re.compile(
    r"(?:FAILED|ERROR) (?P<name>[\w./-]{1,300}\.py(?:::[^\s\[]{1,600}(?:\[.{0,1000}?\](?= - |$))?)?)(?: - (?P<message>.{0,2000}))?$"
)
_SYMBOL: Final = re.compile(r"\s*(?:\[ERROR\]\s+)?symbol: |\s+at: \S")
"""A detail by which errors with the same message differ: the symbol of javac, or the place of a failed assertion in
TAP."""


@dataclass(frozen=True, slots=True)
class FailureCause:
    """The cause of a build's failure. Failed builds with the same cause form a group.

    Attributes:
        parts: texts that identify the cause; equal for builds that failed for the same cause.
        line: the line that shows the cause, at most 300 characters, secrets masked.
        is_shared: whether the cause lies outside of the project, such as a network that is down.
    """

    parts: tuple[str, ...]
    line: str
    is_shared: bool = False

    @property
    def is_reported(self) -> bool:
        """Whether the cause is from an error in the log or from a failed test.

        False: it is the last output before the failure, or relab measured it (such as a time-out).
        """
        return self.parts[0] == "cause"

    def group_of(self, project: str) -> str:
        """Return the key of the failure group for a build of a project that failed for this cause.

        Builds of different projects have the same key only if the cause lies outside of the projects (`is_shared`).
        """
        content = "\0".join(("" if self.is_shared else project, *self.parts))
        return hashlib.sha256(content.encode(errors="replace")).hexdigest()[:_KEY_CHARS]


@dataclass(frozen=True, slots=True)
class _Candidate:
    score: float
    cause: str
    line: str


def failure_cause(
    relevant: Sequence[RelevantLine],
    lines: Sequence[BuildLine] = (),
    *,
    kind: str | None = None,
    error: str | None = None,
) -> FailureCause | None:
    """Return the cause of a build's failure, for grouping failed builds; None if the log shows no specific cause.

    If relab itself measured the cause, such as a time-out (see `kind`), the log is not read.

    Args:
        relevant: the lines that explain the failure.
        lines: all lines of the log; read only if `relevant` shows no specific cause.
        kind: the kind of failure that relab measured, a value of `BuildFailure`; None if relab measured no failure.
        error: the error text of this measured failure; None if relab measured no failure.
    """
    if kind in _MEASURED:
        return FailureCause(("measured", kind or ""), _sample(error or kind or ""))
    # The order of the errors must not matter, because parallel workers write them in any order.
    return _surest(_candidates(relevant)) or _cause_by_output(relevant, lines)


def headline(relevant: Sequence[RelevantLine], cause: FailureCause | None) -> str | None:
    """Return the text of the line that says most about a build's failure; None if no line reports an error.

    - In general, the error line with the highest score.
    - If this line only says that something failed, such as "npm error code 1": the first error line that says more and
      has about the same score. If there is no such line: the line that shows the cause, provided that it reports an
      error (`FailureCause.is_reported`).
    - If the line only announces a message, such as "Traceback": the line that shows the cause.
    - If the cause that is needed is unknown: the error line with the highest score.

    Args:
        relevant: the lines that explain the failure.
        cause: the cause of the failure, as `failure_cause` returns it for these lines; None if unknown.
    """
    errors = [line for line in relevant if line.role is LineRole.ERROR and line.text]
    if not errors:
        return None
    best = max(errors, key=lambda line: line.score)
    if is_generic(best.text) and not is_header(best.text):
        equals = islice((line for line in errors if line.score >= best.score - _EQUAL_SCORE), _MAX_ERRORS)
        best = next((line for line in equals if not is_generic(line.text)), best)
    is_vague = is_header(best.text) or (is_generic(best.text) and cause is not None and cause.is_reported)
    return cause.line if cause is not None and is_vague else best.text


def is_header(text: str) -> bool:
    """Return whether a line is only the header of an error, such as "Traceback"; the message is in a later line."""
    return _HEADERS.match(text) is not None


def cause_of_tests(failed: Iterable[tuple[str, str]]) -> FailureCause | None:
    """Return the cause of a build's failure, from its failed tests alone; None without failed tests.

    `failed` has `(name, failure message)` of each failed test.
    """
    return _surest([_of_test(1.0, name, message) for name, message in islice(failed, _MAX_ERRORS)])


def _surest(found: Sequence[_Candidate]) -> FailureCause | None:
    """Return the candidate cause with the highest score; None without candidates.

    Of causes with equal scores, the most frequent one is returned, then the alphabetically first.
    """
    if not found:
        return None
    counted = Counter(each.cause for each in found)
    best = max(each.score for each in found)
    chosen = min((each for each in found if each.score == best), key=lambda each: (-counted[each.cause], each.cause))
    return FailureCause(
        ("cause", chosen.cause), _sample(chosen.line), is_shared=_SHARED.search(chosen.line) is not None
    )


def _sample(line: str) -> str:
    return mask_secrets(line.strip())[:MAX_SAMPLE_CHARS]


def _candidates(relevant: Sequence[RelevantLine]) -> list[_Candidate]:
    found: list[_Candidate] = []
    reports: list[_Candidate] = []
    collecting: dict[str, str] = {}
    errors = ((index, line) for index, line in enumerate(relevant) if line.role is LineRole.ERROR and line.text)
    for index, line in islice(errors, _MAX_ERRORS):
        if _HEADERS.match(line.text):
            details = _details(relevant, index)
            candidate = _of_header(line, details)
            if file := _COLLECTED.match(line.text):
                collecting[file[1]] = _message(details).removeprefix("E").strip()
            if candidate is not None and line.text.startswith("___"):
                reports.append(candidate)
        elif summary := _SUMMARY.match(line.text):
            # For a file that it cannot import, pytest writes the message in the report alone.
            message = summary["message"] or collecting.get(summary["name"], "")
            candidate = _of_test(line.score, summary["name"], message)
        elif is_generic(line.text):
            continue
        else:
            symbol = next((each.text for each in _details(relevant, index) if _SYMBOL.match(each.text)), "")
            candidate = _Candidate(line.score, f"{cause_of(line.text)} {cause_of(symbol)}".strip(), line.text)
        if candidate is not None:
            found.append(candidate)
    # The summary of pytest names the tests of its reports once more, with their files.
    has_summary = len(found) > len(reports) and any(_SUMMARY.match(line.text) for line in relevant)
    return [each for each in found if each not in reports] if has_summary else found


def _details(relevant: Sequence[RelevantLine], index: int) -> list[RelevantLine]:
    """Return the lines of detail (such as a stack trace) that follow the error line at `index`; at most 199 lines."""
    details = []
    for line in relevant[index + 1 : index + _MAX_MESSAGE_LINES]:
        if line.role is not LineRole.DETAIL:
            break
        details.append(line)
    return details


def _of_header(line: RelevantLine, details: Sequence[RelevantLine]) -> _Candidate | None:
    """Return the cause of an error that has only a header, such as "Traceback", in its first line (`line`).

    The cause is the message in `details`, the lines after the header. If the header names a test, the name is added.
    None without a message.
    """
    text = _message(details)
    if not text:
        return None
    named = _NAME_IN_HEADER.match(line.text)
    if named is not None:
        return _of_test(line.score, next(group for group in named.groups() if group), text)
    return _Candidate(line.score, cause_of(text), text.strip())


def _message(details: Sequence[RelevantLine]) -> str:
    """Return the message of an error whose first line is only a header, such as "Traceback"; empty if there is none.

    `details` are the lines that follow the header; the message is the text of one of them.
    """
    spoken = [
        each.text
        for each in details
        if each.text.strip()
        and not is_generic(each.text)
        and not _SUBTEST.match(each.text)
        and not _PLACE.match(each.text)
    ]
    if not spoken:
        return ""
    # Of pytest's lines with E, the first is the cause; the last exception of a traceback is the one that ended it.
    of_pytest = [text for text in spoken if _PYTEST_ERROR.match(text)]
    if of_pytest and _PYTEST_PLACE.match(of_pytest[0]):
        # A syntax error begins with its place and the line of the source.
        of_pytest = [text for text in of_pytest if _PYTEST_EXCEPTION.match(text)] or of_pytest
    if of_pytest:
        return of_pytest[0]
    if _NUMBERED.match(spoken[0]):
        return next((text for text in spoken if _INDENTED_ERROR.match(text)), spoken[0])
    exceptions = _exceptions(spoken) or _exceptions(_INDENT_OF_PIP.sub("", text, count=1) for text in spoken)
    found = exceptions[-1] if exceptions else next((text for text in spoken if _MESSAGE.match(text)), spoken[0])
    plain = [text.strip() for text in spoken]
    if _NAME_ALONE.match(found) and found.strip() in plain[:-1]:
        # RSpec writes the message of an exception on the line after its name.
        return spoken[plain.index(found.strip()) + 1]
    return found


def _exceptions(lines: Iterable[str]) -> list[str]:
    return [text for text in lines if _EXCEPTION.match(text)]


def _of_test(score: float, name: str, message: str) -> _Candidate:
    """Return the cause for a failed test: the test's name and its failure message.

    If the message shows a problem outside of the project, such as a network failure, the cause is the message alone.

    Args:
        score: how surely the cause explains the failure of the build, from 0 to 1.
        name: the name of the test.
        message: the failure message; empty if unknown.
    """
    if message.endswith(("...", "…")):
        # pytest cut the message at a width that depends on the numbers in it, so only the kind of the error is certain.
        message = message.partition(":")[0]
    said = cause_of(message)
    if _SHARED.search(message) and not is_generic(message):
        return _Candidate(score, said, message.strip())
    return _Candidate(score, f"{name} {said}".strip(), f"{name}: {message.strip()}" if message else name)


def _cause_by_output(relevant: Sequence[RelevantLine], lines: Sequence[BuildLine]) -> FailureCause | None:
    """Return the last three specific lines before the failure as its cause; None without a specific line.

    Used for a build whose log shows no specific error. A line is specific if it is neither noise nor a text that any
    failure may show, such as "build failed".

    Args:
        relevant: the lines that explain the failure. If one of these lines reports an error (`LineRole.ERROR`), the
            function searches the 30 lines of the log before the first error. Otherwise, it searches the lines of
            `relevant` that give details (`LineRole.DETAIL`), such as the last output before the failure.
        lines: all lines of the log.
    """
    reported = [line.number for line in relevant if line.role is LineRole.ERROR]
    if reported:
        before = [line.text for line in lines if line.number < reported[0]][-_SEARCHED_BEFORE:]
    else:
        before = [line.text for line in relevant if line.role is LineRole.DETAIL]
    spoken = [text for text in before if text.strip() and not is_noise(text) and not is_generic(text)][-_LAST_OUTPUT:]
    if not spoken:
        return None
    return FailureCause(("output", *map(cause_of, spoken)), _sample(spoken[-1]))
