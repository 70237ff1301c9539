"""Logs that other people's software wrote, whole, from `fixtures/builds/tools`; and rules that depend on earlier lines."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from relab.builds.ingest.reading import read_source
from relab.builds.logs.go_events import event_output
from relab.builds.logs.named_tests import named_tests
from relab.builds.logs.results import log_result
from relab.builds.models import BuildStatus, BuildTestOutcome
from relab.builds.suggestions.service import shipped_failures, suggest
from support.builds.logs import chosen, log_of

FOLDER = Path(__file__).parents[3] / "fixtures" / "builds" / "tools"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "expected.yaml").read_text(encoding="utf-8"))
UMBRELLA = """\
==> one
  1) test greets (OneTest)
     left:  1
1 doctest, 1 test, 1 failure
==> two
1 doctest, 1 test, 0 failures
"""


def test_every_recorded_log_is_judged() -> None:
    assert {path.stem for path in FOLDER.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_reading_of_a_recorded_log_is_the_expected_one(name: str) -> None:
    text = (FOLDER / f"{name}.log").read_text(encoding="utf-8")
    expected = EXPECTED[name]
    facts = read_source(io.BytesIO(text.encode()))
    failed = [test.name for test in facts.tests if test.outcome is BuildTestOutcome.FAILED]

    assert facts.status == expected["status"]
    assert facts.error == expected.get("cause")
    assert failed == expected.get("failed_tests", [])
    if facts.status is BuildStatus.FAILED:
        log = log_of(text)
        fix = suggest(chosen(text), log, failures=shipped_failures())
        assert fix.incident == expected.get("known_failure")


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if "right" in expected])
def test_reading_that_is_marked_as_wrong_still_differs_from_the_right_one(name: str) -> None:
    expected = EXPECTED[name]

    assert expected["differs_because"]
    assert [field for field, value in expected["right"].items() if expected.get(field) == value] == []


def go_test(*lines: str, package: str = "example.com/shop") -> str:
    events = (
        {"Time": "2026-11-27T17:32:13Z", "Action": "output", "Package": package, "Output": f"{line}\n"}
        for line in lines
    )
    return "".join(f"{json.dumps(event, separators=(',', ':'))}\n" for event in events)


def test_events_of_go_are_read_as_the_output_in_them() -> None:
    log = log_of(
        '{"Time":"2026-11-27T17:32:13Z","Action":"start","Package":"example.com/shop"}\n'
        + go_test(
            "--- FAIL: TestTotal (0.00s)",
            "    total_test.go:12: want 1, got 2",
            "FAIL",
            "FAIL\texample.com/shop\t0.007s",
        )
    )
    tests = named_tests(log.lines).tests

    assert log_result(log.lines).status is BuildStatus.FAILED
    assert {name: test.line for name, test in tests.items()} == {"example.com/shop::TestTotal": 2}
    assert [line.text for line in log.lines[:3]] == [
        "",
        "--- FAIL: TestTotal (0.00s)",
        "    total_test.go:12: want 1, got 2",
    ]


def test_events_of_packages_that_alternate_do_not_mix() -> None:
    text = (
        go_test("--- FAIL: TestTotal (0.00s)", package="a")
        + go_test("=== RUN   TestB", package="b")
        + go_test("    x_test.go:1: want 1", package="a")
    )

    assert [line.number for line in chosen(text)] == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        '{"Action":"output"}',
        '{"Time":"x","Action":"buy","Package":"p","Output":"FAIL"}',
        '{"level":"info","Action":"output"}',
    ],
)
def test_other_objects_are_no_events_of_go(text: str) -> None:
    assert event_output(text) is None


def test_output_of_an_event_has_no_escape_sequences() -> None:
    assert log_of(go_test("\x1b[31m--- FAIL: TestTotal (0.00s)\x1b[0m")).lines[0].text == "--- FAIL: TestTotal (0.00s)"


def test_event_that_was_cut_keeps_the_beginning_of_its_output() -> None:
    assert event_output('{"Action":"output","Package":"p","Output":"panic: \\"no') == ("p", 'panic: "no')


def test_failed_application_of_an_umbrella_project_counts_although_later_ones_succeed() -> None:
    assert log_result(log_of(UMBRELLA).lines).status is BuildStatus.FAILED


def test_second_run_of_mix_decides() -> None:
    text = "1 test, 1 failure\nRunning ExUnit with seed: 1\n1 test, 0 failures\n"

    assert log_result(log_of(text).lines).status is BuildStatus.SUCCESS


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("# example.com/shop\n./cart.go:3:16: undefined: total\n", BuildStatus.FAILED),
        # A linter whose findings were tolerated.
        ("./cart.go:3:16: exported function Total should have comment\nlint is advisory\n", BuildStatus.UNKNOWN),
        ('File "lib/core.ml", line 3, characters 2-5:\nError: Unbound value x\n', BuildStatus.FAILED),
        ("Error: deploy skipped\n", BuildStatus.UNKNOWN),
        # Dune runs several programs of tests.
        (
            "Ran: 2 tests in: 0.10 seconds.\nFAILED: Cases: 2 Tried: 2\nRan: 3 tests in: 0.10 seconds.\nOK\n",
            BuildStatus.FAILED,
        ),
        ("OK\n", BuildStatus.UNKNOWN),
        (" 2 fail\n", BuildStatus.UNKNOWN),
        (
            "localhost : ok=2    changed=0    unreachable=0    failed=1    skipped=0\nother : ok=2    changed=0    unreachable=0    failed=0\n",
            BuildStatus.FAILED,
        ),
        ("Output written on doc.pdf (1 page, 22959 bytes).\n", BuildStatus.UNKNOWN),
    ],
)
def test_line_that_several_tools_write_counts_only_in_its_context(text: str, status: BuildStatus) -> None:
    assert log_result(log_of(text).lines).status is status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        # `go vet`, whose failure the build tolerated, and then `go test`.
        ("# shop\n./cart.go:3:16: result of fmt.Sprint is not used\nok  \tshop\t0.010s\n", BuildStatus.SUCCESS),
        ("# shop\n# [shop]\n./cart.go:3:16: result of fmt.Sprint is not used\n", BuildStatus.FAILED),
        ("# shop\n./cart.go:5:12: warning: 'total' defined but not used [-Wunused-function]\n", BuildStatus.UNKNOWN),
        # Mix names an application before a single run, too: a second run decides.
        ("==> shop\n1 test, 1 failure\n1 test, 0 failures\n", BuildStatus.SUCCESS),
        # After a step that npm reports as failed, and whose failure the build tolerated.
        ("npm error workspace a@1.0.0\n  1 test failed\n+ npx ava\n  3 tests passed\n", BuildStatus.SUCCESS),
        # A warning, and much later a line in the form of an error.
        ('File "a.ml", line 3, characters 6-7:\nWarning 26\n' + "x\n" * 12 + "Error: no stock\n", BuildStatus.UNKNOWN),
        # Installations that were repeated.
        ("Could not find gem 'rake' in locally installed gems.\nBundle complete! 3 Gemfile dependencies, 10 gems now installed.\n", BuildStatus.UNKNOWN),
        (" ERR_PNPM_OUTDATED_LOCKFILE  Cannot install\nDone in 1.2s using pnpm v9.1.0\n", BuildStatus.UNKNOWN),
        ("➤ YN0000: · Failed with errors in 1s 20ms\n➤ YN0000: · Done in 1s 200ms\n", BuildStatus.UNKNOWN),
        ("error: Failed to fetch `https://packages.example/x`\nInstalled 3 packages in 2ms\n", BuildStatus.UNKNOWN),
        ("Done in 1.2s\nInstalled 3 packages in 2ms\nBundle complete! 3 Gemfile dependencies\n", BuildStatus.UNKNOWN),
        # Lines with which other programs report something else.
        ("== 1 failed, 3 passed in 0.12s ==\nbenchmark of the cache\nResult: PASS\n", BuildStatus.FAILED),
        ("sample 3\nResult: FAIL\nthe samples were written\n", BuildStatus.UNKNOWN),
        ("Files=2, Tests=5,  1 wallclock secs ( 0.01 usr )\nResult: PASS\n", BuildStatus.SUCCESS),
        ("== 1 failed, 3 passed in 0.12s ==\ncreated report.html in 12ms\n", BuildStatus.FAILED),
        ("src/a.js → dist/a.js...\n(!) Circular dependency\ncreated dist/a.js in 20ms\n", BuildStatus.SUCCESS),
        ("Parse error: unclosed tag in sample 3 (skipped)\n12 templates written\n", BuildStatus.UNKNOWN),
        ("Parse error: syntax error, unexpected token \"}\" in /app/a.php on line 3\n", BuildStatus.FAILED),
        ("PHP Fatal error:  Uncaught Exception: first line\n", BuildStatus.FAILED),
        # Ends with an error that the count of failures does not contain, or in other words.
        (" 3 pass\n 0 fail\n 1 error\n 4 expect() calls\n", BuildStatus.FAILED),
        ("scons: *** [a.o] Error 1\nscons: done building targets (errors occurred during build).\n", BuildStatus.FAILED),
        ("All 2 tests passed (0.00s)\nError: [S-7282]\n       Stack failed to execute the build plan.\n", BuildStatus.FAILED),
        ("1 file left unchanged, 1 file failed to reformat.\n", BuildStatus.FAILED),
        ("0 errors, 1 warning, 0 informations \n", BuildStatus.SUCCESS),
        ("Successfully built shop-1.0.tar.gz and shop-1.0-py3-none-any.whl\n", BuildStatus.SUCCESS),
        ('File "a.ml", line 3, characters 6-7:\n3 |   let x = 1\n          ^\nError (warning 26 [unused-var]): unused variable x.\n', BuildStatus.FAILED),
        ('File "a.ml", lines 3-12, characters 6-7:\n' + "3 | x\n" * 10 + "Error: This expression has type int\n", BuildStatus.FAILED),
    ],
)  # fmt: skip
def test_result_is_the_one_of_the_tool_that_wrote_it(text: str, status: BuildStatus) -> None:
    assert log_result(log_of(text).lines).status is status


def test_ignored_failure_of_ansible_is_not_the_cause() -> None:
    text = (FOLDER / "ansible_play.log").read_text(encoding="utf-8")

    assert all('"cmd": ["false"]' not in line.text for line in chosen(text))


def test_names_of_levels_in_brackets_are_no_codes_of_errors() -> None:
    text = "[INFO] Building shop\n[WARNING] old\n[ERROR] package x does not exist\n"

    assert [line.text for line in chosen(text)][-1].startswith("[ERROR]")
    assert all("[INFO]" not in line.text for line in chosen(text))


@pytest.mark.parametrize(
    "line",
    [
        " " * 1_990 + "x", "at y line " * 190, "A\\" * 990 + "(", "a.t " + " " * 1_900 + "(Wstat: ", '[junit] <testcase name="' + "x" * 1_900,
        "Error in " + "f " * 900, "Error: " + "a:1:" * 450, "a.hs:1:1: " * 180, '{"Action":"output","Package":"p","Output":"' + "\\\\" * 950,
        "➤ YN0000: │ " + "a STDERR " * 200, "Because " + "x doesn " * 230, "x " * 980 + "| FAIL |", "A#" + "b = " * 480, "rspec a # " + "b " * 900,
        "h : ok=1 changed=1 " + " " * 1_900, "scons: *** [" + "] Error " * 240, "a.py:1:" + ":docstring " * 170, "created " + "x in " * 390,
    ],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_hostile_lines_of_these_tools_take_linear_time(line: str) -> None:
    facts = read_source(io.BytesIO(f"{line}\nend\n".encode() * 300))

    assert len(facts.tests) <= 1
