"""Read from a log which tests ran, and how each one ended."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relab.builds.logs.alternatives import Alternatives
from relab.builds.logs.formats import FORMATS
from relab.builds.logs.listed_tests import FailedTestLists
from relab.builds.logs.models import BuildLine
from relab.builds.logs.results import seconds
from relab.builds.models import BuildTest, BuildTestOutcome

MAX_TESTS: Final = 20_000
MAX_NAME_CHARS: Final = 500
MAX_MESSAGE_CHARS: Final = 300
_DIGEST_CHARS: Final = 8
_GROUP: Final = re.compile(r"\?P<\w+>")


def _lines() -> tuple[list[tuple[int, int | None]], Alternatives]:
    """Join `_PARTS` and the patterns for lines about tests, of all log formats; return `(places, joined patterns)`.

    `places[n]` says which pattern is the one with the index `n + len(_PARTS)`:

    - `(i, k)`: `FORMATS[i].tests[k].line`, the result of a test.
    - `(i, -1 - k)`: `FORMATS[i].tests[k].named_before`, the name of a test without its result.
    - `(i, None)`: `FORMATS[i].test_scope.line`, the file, package or crate of tests.
    """
    places: list[tuple[int, int | None]] = []
    patterns = [pattern.pattern for _, pattern in _PARTS]
    for number, each in enumerate(FORMATS):
        # A line with a scope may look like a result of another tool.
        if each.test_scope is not None:
            places.append((number, None))
            patterns.append(each.test_scope.line.pattern)
        for index, rule in enumerate(each.tests):
            places.append((number, index))
            patterns.append(rule.line.pattern)
            if rule.named_before is not None:
                places.append((number, -1 - index))
                patterns.append(rule.named_before.pattern)
    return places, Alternatives(_GROUP.sub("?:", pattern) for pattern in patterns)


_PARTS: Final = tuple(
    (number, rule.part_edges)
    for number, each in enumerate(FORMATS)
    for rule in each.tests
    if rule.part_edges is not None
)
"""`(index of the format, its pattern of lines that start a part of the log or end a run)`."""
_PLACES, _LINES = _lines()
_SEVERITY: Final = (
    BuildTestOutcome.SKIPPED,
    BuildTestOutcome.PASSED,
    BuildTestOutcome.FLAKY,
    BuildTestOutcome.FAILED,
)


@dataclass
class LoggedTests:
    """The results of tests that a log reports.

    Attributes:
        tests: `{name: result}`, at most `MAX_TESTS`, in the order of the log. Tests that only a list of failed tests
            names (`FailedListRule`) come last.
        left_out: the number of results that are not in `tests`, because it is full.
    """

    tests: dict[str, BuildTest] = field(default_factory=dict)
    left_out: int = 0


def named_tests(lines: Iterable[BuildLine], *, has_succeeded: bool = False) -> LoggedTests:
    """Return the tests whose results these lines name. Most tools name only the tests that failed.

    A test with several outcomes gets the worst one, unless its tool reports later that it passed when repeated.

    Args:
        lines: the lines of the log.
        has_succeeded: whether the build succeeded. If True, a test that failed and passed is flaky, because the tool
            must have repeated it. If False, such a test is failed, because two tests may have the same name; it is
            flaky only if its format says that names are unique (`NamedTestRule.part_edges`).
    """
    reader = _Reader(has_succeeded)
    lists = FailedTestLists()
    for line in lines:
        lists.read(line)
        if line.text:
            reader.read(line)
    return reader.finished(lists)


def bounded_test_name(text: str) -> str:
    """Return a test's name on one line, at most 500 characters long.

    A longer name becomes a digest of the name, followed by the end of the name. A blank name becomes "(a test without a
    name)".
    """
    name = " ".join(text.split())
    if len(name) <= MAX_NAME_CHARS:
        return name or "(a test without a name)"
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:_DIGEST_CHARS]
    # A shared beginning is less telling than the end.
    return f"…{digest}…{name[-MAX_NAME_CHARS + _DIGEST_CHARS + 2 :]}"


_Part: TypeAlias = tuple[str, int, str]
"""A part of a log: `(worker, number of the line before the run of the tool, name)`."""


def _groups(pattern: re.Pattern[str] | None, text: str) -> dict[str, str]:
    """Return the named groups of a match at the start of `text`; empty without a match."""
    found = None if pattern is None else pattern.match(text)
    return {} if found is None else {name: value for name, value in found.groupdict().items() if value is not None}


class _Reader:
    def __init__(self, has_succeeded: bool) -> None:
        self._has_succeeded = has_succeeded
        self._passed: set[str] = set()
        self._found = LoggedTests()
        self._scopes: dict[tuple[int, str], str] = {}
        self._named: dict[tuple[int, str], dict[str, str]] = {}
        self._waiting: list[BuildTest] = []
        self._with_failures: set[int] = set()
        self._run_starts: dict[tuple[int, str], int] = {}
        self._parts: dict[tuple[int, str], _Part] = {}
        self._failing: dict[str, set[_Part | None]] = {}
        self._repeated: set[str] = set()

    def read(self, line: BuildLine) -> None:
        first = _LINES.first(line.text)
        if first is None:
            return
        if first < len(_PARTS):
            number, pattern = _PARTS[first]
            self._read_edge((number, line.worker), _groups(pattern, line.text).get("part"), line.number)
            return
        number, index = _PLACES[first - len(_PARTS)]
        each = FORMATS[number]
        if index is None:
            self._read_scope(number, line)
            return
        if index < 0:
            self._named[number, line.worker] = _groups(each.tests[-1 - index].named_before, line.text)
            return
        rule = each.tests[index]
        groups = _groups(rule.line, line.text)
        if rule.named_before is not None:
            groups = self._named.get((number, line.worker), {}) | groups
        scope = self._scopes.get((number, line.worker))
        if "name" not in groups or (rule.needs_scope and scope is None):
            return
        name = groups["name"] if scope is None else f"{scope}::{groups['name']}"
        message = " ".join((groups.get("message") or "").split())[:MAX_MESSAGE_CHARS]
        test = BuildTest(
            name=bounded_test_name(name),
            outcome=rule.outcomes[groups["outcome"]],
            duration_s=seconds(groups.get("duration") or ""),
            message=message or None,
            line=line.number,
        )
        if test.outcome is BuildTestOutcome.FAILED:
            self._with_failures.add(number)
        if rule.part_edges is not None:
            self._note_repetition(test, self._parts.get((number, line.worker)))
        if rule.corrects:
            self._correct(test)
        elif each.test_scope is not None and each.test_scope.ends_tests and len(self._waiting) < MAX_TESTS:
            self._waiting.append(test)
        else:
            self._add(test)

    def finished(self, lists: FailedTestLists) -> LoggedTests:
        self._flush(None)
        for each in lists:
            if not each.is_fallback or each.format_number not in self._with_failures:
                name = bounded_test_name(each.name)
                self._add(BuildTest(name=name, outcome=BuildTestOutcome.FAILED, line=each.line))
        tests = self._found.tests
        for name in self._passed if self._has_succeeded else self._repeated:
            if name in tests and tests[name].outcome is BuildTestOutcome.FAILED:
                tests[name] = tests[name].model_copy(update={"outcome": BuildTestOutcome.FLAKY})
        return self._found

    def _read_edge(self, source: tuple[int, str], part: str | None, line: int) -> None:
        """Apply a line that starts a part of the log (`NamedTestRule.part_edges`), or that ends the run of a tool.

        Args:
            source: `(index of the format in FORMATS, worker)`; the worker is the parallel process that wrote the line.
            part: the name of the part that starts; None if the line ends the run.
            line: the line number.
        """
        if part is None:
            self._run_starts[source] = line
            self._parts.pop(source, None)
        else:
            self._parts[source] = source[1], self._run_starts.get(source, 0), part

    def _note_repetition(self, test: BuildTest, part: _Part | None) -> None:
        """Update `_repeated`, the names of the tests that failed and then passed when repeated.

        A test that failed in several parts of the log is in `_repeated` only if it passed later in each of these parts.

        Args:
            test: the result that was just read.
            part: the part of the log that contains the result; None outside of all parts.
        """
        if test.outcome is BuildTestOutcome.FAILED:
            if test.name in self._failing or len(self._failing) < MAX_TESTS:
                self._failing.setdefault(test.name, set()).add(part)
                self._repeated.discard(test.name)
        elif test.outcome is BuildTestOutcome.PASSED and part is not None:
            failing = self._failing.get(test.name, set())
            if part in failing:
                failing.remove(part)
                if not failing:
                    self._repeated.add(test.name)

    def _correct(self, test: BuildTest) -> None:
        before = self._found.tests.get(test.name)
        if before is not None:
            self._found.tests[test.name] = before.model_copy(update={"outcome": test.outcome})

    def _read_scope(self, number: int, line: BuildLine) -> None:
        rule = FORMATS[number].test_scope
        found = None if rule is None else rule.line.match(line.text)
        if rule is None or found is None:
            return
        if rule.ends_tests:
            self._flush(found["scope"])
        else:
            self._scopes[number, line.worker] = found["scope"]

    def _flush(self, scope: str | None) -> None:
        for test in self._waiting:
            name = test.name if scope is None else bounded_test_name(f"{scope}::{test.name}")
            self._add(test.model_copy(update={"name": name}))
        self._waiting.clear()

    def _add(self, test: BuildTest) -> None:
        tests = self._found.tests
        before = tests.get(test.name)
        if test.outcome is BuildTestOutcome.PASSED:
            self._passed.add(test.name)
        if before is None and len(tests) >= MAX_TESTS:
            self._found.left_out += 1
        elif before is None:
            tests[test.name] = test
        else:
            worst = max(before, test, key=lambda each: _SEVERITY.index(each.outcome))
            tests[test.name] = worst.model_copy(update={"message": worst.message or before.message or test.message})
