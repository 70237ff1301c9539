"""The status and duration of a build, read from its log."""

from __future__ import annotations

import pytest

from relab.builds.logs.reading import envelope_times_us
from relab.builds.logs.results import log_result, seconds
from relab.builds.models import BuildStatus
from support.builds.logs import as_github_step, log_of, recorded

GITHUB_PASSED = (
    "2024-05-01T10:00:00.1234567Z ##[group]Run make\n2024-05-01T10:00:09.1234567Z Cleaning up orphan processes\n"
)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (as_github_step("make", "oops"), BuildStatus.FAILED),
        (GITHUB_PASSED, BuildStatus.SUCCESS),
        ("##[error]The operation was canceled.\nCleaning up orphan processes\n", BuildStatus.INTERRUPTED),
        ("Running with gitlab-runner 16\n\x1b[32;1mJob succeeded\x1b[0;m\n", BuildStatus.SUCCESS),
        ("\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m\n", BuildStatus.FAILED),
        ("ERROR: Job failed: canceled\n", BuildStatus.INTERRUPTED),
        ("Finished: SUCCESS\n", BuildStatus.SUCCESS),
        ("3 failed, 8 passed, 1 skipped, 2 subtests passed, 1 rerun in 1.73s\n", BuildStatus.FAILED),
        ("2 skipped, 1 error in 0.10s\n", BuildStatus.FAILED),
        ("8 passed, 1 skipped in 1.73s\n", BuildStatus.SUCCESS),
        ("= 3 failed, 8 passed in 1.73s =\n", BuildStatus.FAILED),
        ("copied 3 failed, 8 passed in 1.73s\n", BuildStatus.UNKNOWN),
        ("Test Suites: 2 failed, 2 total\nTests:       3 failed, 3 passed, 6 total\n", BuildStatus.FAILED),
        ("Test Suites: 1 failed, 1 passed, 2 total\nTests:       3 passed, 3 total\n", BuildStatus.FAILED),
        ("Test Suites: 1 skipped, 2 passed, 2 of 3 total\nTests:       3 passed, 3 total\n", BuildStatus.SUCCESS),
        (" Test Files  1 failed | 2 passed (3)\n      Tests  1 failed | 2 passed (3)\n", BuildStatus.FAILED),
        (" Test Files  2 passed (2)\n      Tests  9 passed (9)\n", BuildStatus.SUCCESS),
        (" Test Files  2 passed (2)\n      Tests  9 passed (9)\n     Errors  1 error\n", BuildStatus.FAILED),
        ("# tests 4\n# pass 3\n# fail 1\n# cancelled 0\n", BuildStatus.FAILED),
        ("\u2139 fail 0\n\u2139 cancelled 1\n", BuildStatus.FAILED),
        ("\u2139 fail 0\n\u2139 cancelled 0\n", BuildStatus.SUCCESS),
        ("DONE 5 tests, 1 skipped, 2 failures in 9.839s\n", BuildStatus.FAILED),
        ("DONE 5 tests, 1 skipped in 9.839s\n", BuildStatus.SUCCESS),
        ("DONE 2 runs, 3 tests, 1 failure in 3.306s\n", BuildStatus.UNKNOWN),
        ("DONE 2 runs, 3 tests, 1 failure in 3.306s\nmake: *** [test] Error 1\n", BuildStatus.FAILED),
        ("ok  \tx.org/y\t0.007s\n", BuildStatus.SUCCESS),
        ("ok  \tx.org/y\t(cached)\nok  \tx.org/z\t0.1s\tcoverage: 80.1% of statements\n", BuildStatus.SUCCESS),
        ("FAIL\tx.org/y\t0.02s\nok  \tx.org/z\t0.1s\n", BuildStatus.FAILED),
        ("FAIL\tx.org/y [build failed]\nok  \tx.org/z\t0.1s\n", BuildStatus.FAILED),
        ("100% tests passed, 0 tests failed out of 2\n", BuildStatus.SUCCESS),
        ("50% tests passed, 1 tests failed out of 2\n", BuildStatus.FAILED),
        ("Ok:                 1\nFail:               1\nTimeout:            0\n", BuildStatus.FAILED),
        ("Ok:                 1\nFail:               0\nTimeout:            2\n", BuildStatus.FAILED),
        ("Ok:                 3\nFail:               0\nTimeout:            0\n", BuildStatus.SUCCESS),
        ("Ok:                    1\nFail:                  0\nTimeout:               2\n", BuildStatus.FAILED),
        ("Ok:                 1\nFail:               0\nUnexpected Pass:    1\n", BuildStatus.FAILED),
        ("[INFO] BUILD SUCCESS\nTimeout:  30\nFail: 1\n", BuildStatus.SUCCESS),
        ("Ok: 2\n", BuildStatus.UNKNOWN),
        ("1..2\n# tests 2\n# pass  1\n# fail  1\n", BuildStatus.FAILED),
        ("1..2\n# tests 2\n# pass  2\n\n# ok\n", BuildStatus.SUCCESS),
        ("  2 passing (31ms)\n", BuildStatus.SUCCESS),
        ("  1 passing (31ms)\n  1 failing\n", BuildStatus.FAILED),
        ("  1 test passed\n  1 test failed\n", BuildStatus.FAILED),
        ("  1 test failed\n  1 test passed\n", BuildStatus.FAILED),
        ("  3 tests passed\n", BuildStatus.SUCCESS),
        ("  1 failed\n    p/x.spec.js:1:104 \u203a breaks ───\n  1 passed (17.0s)\n", BuildStatus.FAILED),
        ("  1 flaky\n    p/x.spec.js:2:1 \u203a flaky ───\n  1 passed (11.4s)\n", BuildStatus.SUCCESS),
        ("Finished: UNSTABLE\n", BuildStatus.FAILED),
        ("Finished: ABORTED\n", BuildStatus.INTERRUPTED),
        ("Done. Your build exited with 0.\n", BuildStatus.SUCCESS),
        (
            '[INFO] BUILD SUCCESS\nThe command "x" failed and exited with 1 during .\n\nYour build has been stopped.\n',
            BuildStatus.FAILED,
        ),
        (
            "3 passed in 1.73s\nNo output has been received in the last 10 minutes\n\nThe build has been terminated\n",
            BuildStatus.FAILED,
        ),
        (
            "3 passed in 1.73s\n\nThe job exceeded the maximum time limit for jobs, and has been terminated.\n",
            BuildStatus.FAILED,
        ),
        ("Done: Job Cancelled\n", BuildStatus.INTERRUPTED),
        ("FAILURE: Build failed with an exception.\n", BuildStatus.FAILED),
        ("BUILD SUCCESSFUL\nFAILURE: Build completed with 2 failures.\n", BuildStatus.FAILED),
        ("!!!!!! KeyboardInterrupt !!!!!!\n==== 5 passed in 3.1s ====\n", BuildStatus.INTERRUPTED),
        ("!!!!!! KeyboardInterrupt !!!!!!\n==== 1 failed, 5 passed in 3.1s ====\n", BuildStatus.FAILED),
        ("Ran 2 tests in 0.000s\n\nOK (skipped=1)\n", BuildStatus.SUCCESS),
        ("Ran 2 tests in 0.000s\n\nOK\n", BuildStatus.SUCCESS),
        ("Ran 2 tests in 0.000s\n\nFAILED (failures=1)\n", BuildStatus.FAILED),
        ("Ran 2 tests in 0.010s\n\nPASSED (skips=1, successes=1)\n", BuildStatus.SUCCESS),
        ("OK\n", BuildStatus.UNKNOWN),
        ("make: *** [Makefile:3: all] Error 2\nOK\n", BuildStatus.FAILED),
        ("Ran 2 tests in 0.000s\n\nFAILED (failures=1)\nOK\n", BuildStatus.FAILED),
        ("[INFO] BUILD SUCCESS\n[INFO] Total time:  12.3 s\n", BuildStatus.SUCCESS),
        ("[INFO] BUILD FAILURE\n", BuildStatus.FAILED),
        ("BUILD SUCCESSFUL in 1m 3s\n", BuildStatus.SUCCESS),
        ("make: *** [all] Error 2\n", BuildStatus.FAILED),
        ("make: *** [all] Error 2 (ignored)\n", BuildStatus.UNKNOWN),
        ("===== 3 passed in 0.12s =====\n", BuildStatus.SUCCESS),
        ("===== 1 failed, 3 passed in 0.12s =====\n", BuildStatus.FAILED),
        ("test result: ok. 3 passed; 0 failed\n", BuildStatus.SUCCESS),
        ("error: could not compile `x`\n", BuildStatus.FAILED),
        ("nothing is said about the end\n", BuildStatus.UNKNOWN),
    ],
)
def test_status_is_read_from_the_log(text: str, status: BuildStatus) -> None:
    assert log_result(log_of(text).lines).status is status


@pytest.mark.parametrize("name", ["cargo", "make_no_rule", "pytest_failed"])
def test_recorded_failures_are_failures(name: str) -> None:
    assert log_result(log_of(recorded(name)).lines).status is BuildStatus.FAILED


def test_status_of_the_ci_overrides_that_of_a_tool() -> None:
    tolerated = "===== 1 failed in 0.12s =====\nJob succeeded\n"
    later = "ERROR: Job failed: exit code 1\n===== 3 passed in 0.12s =====\n"

    assert log_result(log_of(tolerated).lines).status is BuildStatus.SUCCESS
    assert log_result(log_of(later).lines).status is BuildStatus.FAILED


def test_success_is_not_concluded_from_a_log_with_a_gap() -> None:
    lines = log_of(GITHUB_PASSED).lines

    assert log_result(lines).status is BuildStatus.SUCCESS
    assert log_result(lines, is_whole=False).status is BuildStatus.UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1m 3s", 63), ("850ms", 0.85), ("12.5 s", 12.5), ("01:23 min", 83), ("01:02 h", 3_720), ("1:02:03 h", 3_723),
        ("0.12s", 0.12), ("soon", None),
    ],
)  # fmt: skip
def test_duration_of_a_tool_is_read(text: str, expected: float | None) -> None:
    found = seconds(text)

    assert found == (None if expected is None else pytest.approx(expected))


def test_last_duration_of_a_tool_counts() -> None:
    assert log_result(log_of("[INFO] Total time:  12.3 s\n[INFO] Total time:  01:23 min\n").lines).duration_s == 83


def test_times_of_envelopes_are_read() -> None:
    github = "build\tRun make\t2024-05-01T10:00:00.1234567Z make\n"
    gitlab = "section_start:1714557600:prepare\r\x1b[0KPreparing\n2024-05-01T10:00:03.000000Z 00O make\n"

    (first,) = envelope_times_us(github.encode())
    section, line = envelope_times_us(gitlab.encode())

    assert first == 1_714_557_600_123_456
    assert section == 1_714_557_600_000_000
    assert line == 1_714_557_603_000_000


def test_invalid_envelope_time_is_ignored() -> None:
    assert envelope_times_us(b"2024-13-41T10:00:00Z make\n") == []
