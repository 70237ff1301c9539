"""Read test results from JUnit XML as a stream, in bounded memory.

XML with a document type (`<!DOCTYPE`) is rejected, because a document type can declare entities of unlimited size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from relab.builds.ingest.errors import BuildSourceInvalidError
from relab.builds.logs.models import ByteSource
from relab.builds.logs.named_tests import bounded_test_name
from relab.builds.models import BuildTest, BuildTestOutcome
from relab.core.clock import parse_time

MAX_TESTS: Final = 20_000
MAX_LATE_FAILURES: Final = 5_000
"""The number of failed tests that are kept beyond `MAX_TESTS`."""
MAX_DEPTH: Final = 50
MAX_TOKEN_BYTES: Final = 4 << 20
"""The largest tag: the parser holds a whole tag in memory, and reads its beginning again with each chunk."""
MAX_MESSAGE_CHARS: Final = 300
MAX_FAILURE_CHARS: Final = 1_200
MAX_FAILURE_TEXTS: Final = 2_000
_CHUNK_BYTES: Final = 262_144
_ROOT: Final = re.compile(rb"\s{0,1000}(?:<\?xml|<!--|<!DOCTYPE|<testsuites?\b)")
_FAILURES: Final = frozenset({"failure", "error"})
_PASSED_LATER: Final = frozenset({"flakyFailure", "flakyError"})
"""A failed execution of a test that passed when Surefire or nextest repeated it."""


@dataclass
class JUnitReport:
    """The content of a JUnit XML file.

    Attributes:
        tests: `{name of the test: result}` of the first `MAX_TESTS` tests, and of at most `MAX_LATE_FAILURES` later
            tests that failed. Several executions of one test are joined to one result.
        failure_texts: `{name of the test: failure message}` for the first `MAX_FAILURE_TEXTS` tests that failed. These
            messages can be longer than those in `tests`: up to `MAX_FAILURE_CHARS` characters.
        left_out: the number of executions that are missing from `tests`.
        failed: the number of executions that failed, including those that are left out.
        executed: the number of all executions, including skipped ones and those that are left out.
        duration_s: the sum of the durations of the suites, in seconds; None if no suite has a duration. A suite inside
            a suite with a duration is not added, because the outer duration includes it.
        started_at: the earliest start of a suite, in microseconds since 1970; None if no suite has a start.
    """

    tests: dict[str, BuildTest] = field(default_factory=dict)
    failure_texts: dict[str, str] = field(default_factory=dict)
    left_out: int = 0
    failed: int = 0
    executed: int = 0
    duration_s: float | None = None
    started_at: int | None = None


def is_junit(first: bytes) -> bool:
    """Return whether a file that begins with the bytes `first` looks like XML; it is then read as JUnit XML."""
    start = first[:2_000].removeprefix(b"\xef\xbb\xbf")
    return _ROOT.match(start) is not None or start.startswith((b"\xff\xfe<\x00", b"\xfe\xff\x00<"))


def read_junit(source: ByteSource) -> JUnitReport:
    """Read a JUnit XML file, and return its tests, times and counts.

    Raises:
        BuildSourceInvalidError: the XML is malformed, has a document type, a tag of more than `MAX_TOKEN_BYTES`,
            elements that are nested deeper than `MAX_DEPTH`, or a root element that is not JUnit's.
    """
    reader = _Reader()
    reader.read(source)
    return reader.report


class _Reader:
    """Parses a JUnit XML file in chunks. Call `read`; afterwards, `report` has the content of the file."""

    def __init__(self) -> None:
        self.report = JUnitReport()
        self._parser = expat.ParserCreate()
        # Entities can be declared only in a document type.
        self._parser.StartDoctypeDeclHandler = self._reject_document_type
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._depth = 0
        self._suites: list[float | None] = []
        self._suite_names: list[str] = []
        self._suite_of: dict[str, str] = {}
        self._shared_names: set[str] = set()
        self._test: tuple[str, float | None] | None = None
        self._outcome = BuildTestOutcome.PASSED
        self._message = ""
        self._line: int | None = None
        self._has_message = True

    def read(self, source: ByteSource) -> None:
        fed = 0
        try:
            while chunk := source.read(_CHUNK_BYTES):
                self._parser.Parse(chunk, False)
                fed += len(chunk)
                if fed - self._parser.CurrentByteIndex > MAX_TOKEN_BYTES:
                    raise self._invalid(f"it has a tag of more than {MAX_TOKEN_BYTES:,} bytes")
            self._parser.Parse(b"", True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise self._invalid(str(error)) from error

    def _reject_document_type(self, *_declaration: object) -> None:
        raise self._invalid("it declares a document type, which JUnit XML has not, and which can declare entities")

    def _invalid(self, reason: str) -> BuildSourceInvalidError:
        line = self._parser.CurrentLineNumber
        return BuildSourceInvalidError(
            f"The XML is not accepted (line {line:,}): {reason}.",
            remedy="Give a JUnit XML file as the test runner wrote it.",
        )

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._depth == 0 and name not in {"testsuites", "testsuite"}:
            raise self._invalid(f"its root is <{name[:40]}>, not <testsuites> or <testsuite>")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._invalid(f"its elements are nested deeper than {MAX_DEPTH}")
        if name in {"testsuites", "testsuite"}:
            self._start_suite(attributes)
        elif name == "testcase":
            self._test = _name(attributes), _seconds(attributes.get("time"))
            self._outcome, self._message, self._line, self._has_message = BuildTestOutcome.PASSED, "", None, True
        elif self._test is not None and name in _FAILURES | _PASSED_LATER | {"skipped"}:
            self._start_result(name, attributes)

    def _start_suite(self, attributes: Mapping[str, str]) -> None:
        report = self.report
        # The outer suite counts: its time contains those inside it.
        seconds = _seconds(attributes.get("time"))
        if seconds is not None and not any(each is not None for each in self._suites):
            report.duration_s = (report.duration_s or 0.0) + seconds
        self._suites.append(seconds)
        self._suite_names.append(attributes.get("name") or "")
        started = _time(attributes.get("timestamp"))
        if started is not None:
            report.started_at = started if report.started_at is None else min(started, report.started_at)

    def _start_result(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "skipped":
            if self._outcome is BuildTestOutcome.PASSED:
                self._outcome = BuildTestOutcome.SKIPPED
            return
        self._outcome = BuildTestOutcome.FAILED if name in _FAILURES else BuildTestOutcome.FLAKY
        if self._line is None:
            self._line = self._parser.CurrentLineNumber
            kind, message = attributes.get("type", ""), attributes.get("message", "")
            self._message = f"{kind} {message}"[:MAX_FAILURE_CHARS]
            self._has_message = bool(message)

    def _text(self, text: str) -> None:
        if not self._has_message and self._line is not None and len(self._message) < MAX_FAILURE_CHARS:
            self._message += text[:MAX_FAILURE_CHARS]

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name in {"testsuites", "testsuite"}:
            self._suites.pop()
            self._suite_names.pop()
        elif name in _FAILURES | _PASSED_LATER:
            self._has_message = True
        elif name == "testcase" and self._test is not None:
            self._add(*self._test)
            self._test = None

    def _add(self, name: str, duration_s: float | None) -> None:
        report = self.report
        report.executed += 1
        report.failed += self._outcome is BuildTestOutcome.FAILED
        name = self._distinguished(name)
        before = report.tests.get(name)
        limit = MAX_TESTS + MAX_LATE_FAILURES * (self._outcome is BuildTestOutcome.FAILED)
        if before is None and len(report.tests) >= limit:
            report.left_out += 1
            return
        text = " ".join(self._message.split())
        message = text[:MAX_MESSAGE_CHARS] or None
        if self._outcome is BuildTestOutcome.FAILED and len(report.failure_texts) < MAX_FAILURE_TEXTS:
            report.failure_texts.setdefault(name, text[:MAX_FAILURE_CHARS])
        new = BuildTest(name=name, outcome=self._outcome, duration_s=duration_s, message=message, line=self._line)
        report.tests[name] = new if before is None else merged(before, new)

    def _distinguished(self, name: str) -> str:
        """Return the name of a test; if another suite has a test of this name, begin it with the names of its suites.

        The test that was read first gets the names of its suites too. Equal names are frequent: Node.js, for example,
        writes the same class name for all tests. Equal names in one suite mean several executions of one test.
        """
        suite = " > ".join(filter(None, self._suite_names))
        first = self._suite_of.get(name)
        if first is None and len(self._suite_of) < MAX_TESTS:
            self._suite_of[name] = suite
        if name not in self._shared_names:
            if first is None or first == suite:
                return name
            self._shared_names.add(name)
            # If several tests have the same name, tests in suites without a name keep the plain name.
            if first:
                self._rename(name, bounded_test_name(f"{first}::{name}"))
        return bounded_test_name(f"{suite}::{name}") if suite else name

    def _rename(self, old: str, new: str) -> None:
        test = self.report.tests.pop(old, None)
        if test is not None:
            self.report.tests[new] = test.model_copy(update={"name": new})
        text = self.report.failure_texts.pop(old, None)
        if text is not None:
            self.report.failure_texts[new] = text


def merged(first: BuildTest, second: BuildTest) -> BuildTest:
    """Join the results of two executions of the same test in one build.

    If one execution was skipped, the result has the outcome of the other one. If both have the same outcome, the result
    has this outcome. Otherwise the outcome is `flaky`.
    """
    outcomes = {first.outcome, second.outcome} - {BuildTestOutcome.SKIPPED}
    if not outcomes:
        return first
    outcome = outcomes.pop() if len(outcomes) == 1 else BuildTestOutcome.FLAKY
    reported = first if first.outcome in {BuildTestOutcome.FAILED, BuildTestOutcome.FLAKY} else second
    return reported.model_copy(update={"outcome": outcome})


def _name(attributes: Mapping[str, str]) -> str:
    scope = attributes.get("classname") or attributes.get("class") or attributes.get("file") or ""
    name = attributes.get("name") or "(a test without a name)"
    return bounded_test_name(f"{scope}::{name}" if scope and scope != name else name)


def _seconds(text: str | None) -> float | None:
    """Return the value of a time attribute of JUnit XML, in seconds; None if it is not a number from 0 to a billion."""
    try:
        # Some writers group digits: "1,234.56".
        value = float((text or "").replace(",", "")[:40])
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 1e9 else None


def _time(text: str | None) -> int | None:
    try:
        return parse_time(text[:40]) if text else None
    except ValueError:
        # A time that is not ISO 8601 is of no use; the report is still good.
        return None
