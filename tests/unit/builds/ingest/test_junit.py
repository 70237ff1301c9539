"""The JUnit XML reader: reads reports of all tools, and rejects malformed and malicious files."""

from __future__ import annotations

import io

import pytest

from relab.builds.ingest.errors import BuildSourceInvalidError
from relab.builds.ingest.junit import MAX_DEPTH, MAX_TESTS, MAX_TOKEN_BYTES, JUnitReport, is_junit, read_junit
from relab.builds.ingest.reading import read_source
from relab.builds.models import BuildTestOutcome

PYTEST = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="1.5"
 timestamp="2024-05-01T10:00:00+00:00" hostname="ci">
<testcase classname="tests.test_a" name="test_good" time="0.5" />
<testcase classname="tests.test_a" name="test_bad" time="0.25"><failure message="assert 1 == 2">trace</failure></testcase>
<testcase classname="tests.test_a" name="test_later" time="0.0"><skipped type="pytest.skip" message="later" /></testcase>
</testsuite></testsuites>"""

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE testsuites [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + ']><testsuites><testsuite><testcase name="&i;"/></testsuite></testsuites>'
)


def read(text: str) -> JUnitReport:
    return read_junit(io.BytesIO(text.encode()))


def test_report_of_pytest_is_read() -> None:
    report = read(PYTEST)

    assert [(test.name, test.outcome.value, test.duration_s) for test in report.tests.values()] == [
        ("tests.test_a::test_good", "passed", 0.5),
        ("tests.test_a::test_bad", "failed", 0.25),
        ("tests.test_a::test_later", "skipped", 0.0),
    ]
    assert report.tests["tests.test_a::test_bad"].message == "assert 1 == 2"
    assert report.tests["tests.test_a::test_bad"].line == 5
    assert report.duration_s == 1.5
    assert report.started_at == 1_714_557_600_000_000


def test_failure_message_is_the_element_text_if_the_attribute_is_missing() -> None:
    for text in ("  disk\n full ", "disk full"):
        report = read(f'<testsuite><testcase name="a"><error type="IOError">{text}</error></testcase></testsuite>')

        assert report.tests["a"].message == "IOError disk full"


def test_long_failure_text_without_a_message_has_one_cause_in_all_builds() -> None:
    causes = set()
    for folder, took in (("/builds/a", "7.5 ms"), ("/home/runner/work/shop/shop", "1234.5 ms")):
        frames = "\n".join(f"  at call{name} ({folder}/src/{name}.php:{took[0]}1)" for name in "abcdefghijklmnop")
        text = f"Failed after {took}: the stock of the shop is not what the order needs\n{frames}"
        xml = f'<testsuite><testcase name="a"><failure type="Error">{text}</failure></testcase></testsuite>'
        cause = read_source(io.BytesIO(xml.encode())).cause
        assert cause is not None
        causes.add(cause.group_of("shop"))

    assert len(causes) == 1


def test_repeated_test_with_two_outcomes_is_flaky() -> None:
    twice = read(
        '<testsuite><testcase name="a"><failure/></testcase><testcase name="a"/>'
        '<testcase name="b"><flakyFailure message="late"/></testcase>'
        '<testcase name="c"><failure/><rerunFailure/></testcase></testsuite>'
    )

    assert twice.tests["a"].outcome is BuildTestOutcome.FLAKY
    assert twice.tests["b"].outcome is BuildTestOutcome.FLAKY
    assert twice.tests["c"].outcome is BuildTestOutcome.FAILED


@pytest.mark.parametrize("first", ["pass", "fail"])
def test_tests_of_two_suites_with_one_name_are_different_tests(first: str) -> None:
    suites = {
        "pass": '<testsuite name="a"><testcase classname="test" name="adds"/></testsuite>',
        "fail": '<testsuite name="b"><testcase classname="test" name="adds"><failure message="1 == 2"/></testcase></testsuite>',
    }
    text = suites[first] + "".join(text for name, text in suites.items() if name != first)

    found = read(f"<testsuites>{text}</testsuites>").tests

    assert {test.name: test.outcome.value for test in found.values()} == {
        "a::test::adds": "passed",
        "b::test::adds": "failed",
    }
    assert set(found) == {"a::test::adds", "b::test::adds"}


def test_test_in_a_suite_without_a_name_keeps_its_name() -> None:
    for outcome, text in (
        ("a first", '<testsuite name="a"><testcase name="t"/></testsuite><testsuite><testcase name="t"/></testsuite>'),
        ("a last", '<testsuite><testcase name="t"/></testsuite><testsuite name="a"><testcase name="t"/></testsuite>'),
    ):
        assert set(read(f"<testsuites>{text}</testsuites>").tests) == {"t", "a::t"}, outcome


def test_time_of_an_outer_suite_contains_the_inner_ones() -> None:
    nested = '<testsuites time="3"><testsuite time="1"/><testsuite time="2"/></testsuites>'
    siblings = '<testsuites><testsuite time="1"/><testsuite time="2,000.5"/></testsuites>'

    assert read(nested).duration_s == 3
    assert read(siblings).duration_s == 2_001.5


@pytest.mark.parametrize("time", ["nan", "inf", "-1", "soon", "1e300", ""])
def test_impossible_time_is_unknown(time: str) -> None:
    assert read(f'<testsuite><testcase name="a" time="{time}"/></testsuite>').tests["a"].duration_s is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "document type"),
        ('<!DOCTYPE testsuite SYSTEM "file:///etc/passwd"><testsuite/>', "document type"),
        ("<testsuite><testcase name='a'>", "no element found"),
        ("<testsuite><testcase></testsuite>", "mismatched tag"),
        ("<html></html>", "its root is <html>"),
        ("<testsuite>&unknown;</testsuite>", "undefined entity"),
        ('<?xml version="1.0" encoding="no-such"?><testsuite/>', "unknown encoding"),
        ("<testsuite>" * (MAX_DEPTH + 1), "nested deeper"),
        (f'<testsuite><testcase name="{"a" * (MAX_TOKEN_BYTES + 600_000)}"/></testsuite>', "a tag of more than"),
    ],
    ids=["bomb", "external", "truncated", "mismatched", "html", "entity", "encoding", "deep", "long-tag"],
)  # fmt: skip
def test_harmful_file_is_rejected_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BuildSourceInvalidError, match=reason):
        read(text)


def test_tests_over_the_limit_are_counted() -> None:
    cases = "".join(f'<testcase name="t{number}"/>' for number in range(MAX_TESTS + 7))
    report = read(f"<testsuite>{cases}</testsuite>")

    assert len(report.tests) == MAX_TESTS
    assert report.left_out == 7
    assert report.executed == MAX_TESTS + 7


def test_long_failure_text_is_truncated() -> None:
    report = read(f'<testsuite><testcase name="a"><failure>{"x " * 3_000_000}</failure></testcase></testsuite>')

    assert len(report.tests["a"].message or "") <= 300


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"<?xml version='1.0'?><testsuites>", True), (b"\xef\xbb\xbf<testsuite name='a'>", True), (b"\n <testsuites/>", True),
        (b"<!DOCTYPE testsuites [", True), (b"<testsuitesque>", False), (b"make all\n<testsuite>", False), (b"", False),
    ],
)  # fmt: skip
def test_junit_is_distinguished_from_logs(first: bytes, expected: bool) -> None:
    assert is_junit(first) is expected
