"""Logs of test runners, linters, type checkers, bundlers and task runners, each cut to the lines that show its result."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest

from relab.builds.ingest.reading import read_source
from relab.builds.models import BuildStatus, BuildTestOutcome
from relab.builds.suggestions.service import shipped_failures, suggest
from support.builds.logs import as_github_step, chosen, log_of


@dataclass(frozen=True)
class Case:
    """A log of a failed tool, and what relab reads from it. `known` is the id of the known failure."""

    log: str
    cause: str
    known: str | None = None
    failed_tests: tuple[str, ...] = ()


FAILED = {
    "jasmine": Case(
        "Randomized with seed 4\nStarted\nF\n\nFailures:\n1) cart waits\n  Message:\n"
        "    Error: Timeout - Async function did not complete within 50ms (custom timeout)\n"
        "  Stack:\n        at <Jasmine>\n\n1 spec, 1 failure\nFinished in 0.8 seconds\n",
        "Error: Timeout - Async function did not complete within 50ms (custom timeout)",
        "time_limit",
        ("cart waits",),
    ),
    "uvu": Case(
        'cart.js\n✘   (0 / 1)\n\n   FAIL  "adds"\n    Expected values to be strictly equal:  (is)\n\n        ++3    (Expected)\n'
        "        --2    (Actual)\n\n  Total:     2\n  Passed:    1\n  Skipped:   0\n  Duration:  4.99ms\n",
        "Expected values to be strictly equal:  (is)",
        "test_assertion",
        ("adds",),
    ),
    "ava": Case(
        "\n  ✘ Timed out while running tests\n\n  Failed to exit when running cart.js\n",
        "  ✘ Timed out while running tests",
        "time_limit",
    ),
    "prettier": Case(
        "Checking formatting...\n[warn] cart.js\n[warn] Code style issues found in the above file. Run Prettier with --write to fix.\n",
        "[warn] cart.js",
        "generated_files_outdated",
    ),
    "oxlint": Case(
        "\n  \xd7 eslint(no-debugger): `debugger` statement is not allowed\n   ╭─[cart.js:1:1]\n 1 │ debugger;\n   ╰────\n\nFound 0 warnings and 1 error.\n",
        "  \xd7 eslint(no-debugger): `debugger` statement is not allowed",
        "lint_finding",
    ),
    "standard": Case(
        "standard: Use JavaScript Standard Style (https://standard.example)\n  /w/cart.js:1:16: Extra semicolon. (semi)\n",
        "  /w/cart.js:1:16: Extra semicolon. (semi)",
        "lint_finding",
    ),
    "markdownlint": Case(
        "Linting: 1 file(s)\nSummary: 1 error(s)\na.md:2 error MD001/heading-increment Heading levels should only increment by one level at a time\n",
        "a.md:2 error MD001/heading-increment Heading levels should only increment by one level at a time",
        "lint_finding",
    ),
    "cspell": Case(
        "a.txt:1:5 - Unknown word (qwzzrt)\nCSpell: Files checked: 1, Issues found: 1 in 1 file.\n",
        "a.txt:1:5 - Unknown word (qwzzrt)",
        "lint_finding",
    ),
    "commitlint": Case(
        "⧗   input: Fixed Stuff.\n✖   type may not be empty [type-empty]\n\n✖   found 1 problems, 0 warnings\n",
        "✖   type may not be empty [type-empty]",
        "lint_finding",
    ),
    "htmlhint": Case(
        "   /w/a.html\n      L1 |<html><div></html>\n           ^ Tag must be paired, missing: [ </div> ] (tag-pair)\n\nScanned 1 files, found 1 errors in 1 files (9 ms)\n",
        "           ^ Tag must be paired, missing: [ </div> ] (tag-pair)",
        "lint_finding",
    ),
    "knip": Case("Unused dependencies (1)\nleft-pad  package.json\n", "Unused dependencies (1)", "lint_finding"),
    "ty": Case(
        'error[invalid-assignment]: Object of type `Literal["three"]` is not assignable to `int`\n --> cart.py:1:10\n  |\n1 | n: int = "three"\n  |\n\nFound 1 diagnostic\n',
        'error[invalid-assignment]: Object of type `Literal["three"]` is not assignable to `int`',
        "type_mismatch",
    ),
    "pyrefly": Case(
        "ERROR Cannot find module `depot` [missing-import]\n --> cart.py:1:8\n  |\n1 | import depot\n  |\n INFO 1 error\n",
        "ERROR Cannot find module `depot` [missing-import]",
        "python_module_missing",
    ),
    "svelte-check": Case(
        "/w/A.svelte:1:23\nError: Type 'string' is not assignable to type 'number'. (ts)\n\nsvelte-check found 1 error and 0 warnings in 1 file\n",
        "Error: Type 'string' is not assignable to type 'number'. (ts)",
        "type_mismatch",
    ),
    "rspack": Case(
        "ERROR in ./src/index.js 1:1-30\n  \xd7 Module not found: Can't resolve './missing.js' in '/w/src'\n\nRspack compiled with 1 error in 693 ms\n",
        "\xd7 Module not found: Can't resolve './missing.js' in '/w/src'",
        "node_module_missing",
    ),
    "parcel": Case(
        "🚨 Build failed.\n\n@parcel/core: Failed to resolve './missing.js' from './i.js'\n\n  /w/i.js:1:15\n",
        "@parcel/core: Failed to resolve './missing.js' from './i.js'",
        "node_module_missing",
    ),
    "gulp": Case(
        "[07:16:03] Starting 'stock'...\n[07:16:03] 'stock' errored after 2.78 ms\n[07:16:03] Error: no stock\n    at stock (/w/gulpfile.js:1:33)\n",
        "[07:16:03] Error: no stock",
    ),
    "grunt": Case(
        'Running "stock" task\nWarning: no stock left Use --force to continue.\n\nAborted due to warnings.\n',
        "Warning: no stock left Use --force to continue.",
    ),
    "doit": Case(
        "DependencyError - taskid:pack\nERROR: Task 'pack' checking dependencies: Dependent file 'list.txt' does not exist.\n",
        "ERROR: Task 'pack' checking dependencies: Dependent file 'list.txt' does not exist.",
    ),
    "invoke": Case("No idea what 'pck' is!\n", "No idea what 'pck' is!"),
}
PASSED = {
    "jasmine": "Started\n.\n\n\n1 spec, 0 failures\nFinished in 0.005 seconds\n",
    "uvu": "cart.js\n•   (1 / 1)\n\n  Total:     1\n  Passed:    1\n  Skipped:   0\n  Duration:  1.57ms\n",
    "prettier": "Checking formatting...\nAll matched files use Prettier code style!\n",
    "oxlint": "Found 2 warnings and 0 errors.\n",
    "cspell": "CSpell: Files checked: 3, Issues found: 0 in 0 files.\n",
    "pyrefly": " INFO 0 errors\n",
    "svelte-check": "svelte-check found 0 errors and 2 warnings in 1 file\n",
    "rspack": "Rspack compiled with 1 warning in 693 ms\n",
    "gulp": "[07:16:11] Starting 'ok'...\n[07:16:12] Finished 'ok' after 185 ms\n",
    "grunt": 'Running "ok" task\n\nDone.\n',
}


def known_failure(text: str) -> str | None:
    return suggest(chosen(text), log_of(text), failures=shipped_failures()).incident


@pytest.mark.parametrize("tool", FAILED)
def test_log_of_a_failed_tool_shows_its_cause(tool: str) -> None:
    case = FAILED[tool]
    facts = read_source(io.BytesIO(case.log.encode()))
    failed = tuple(test.name for test in facts.tests if test.outcome is BuildTestOutcome.FAILED)

    assert facts.status is BuildStatus.FAILED
    assert facts.error == case.cause
    assert failed == case.failed_tests
    assert known_failure(case.log) == case.known


@pytest.mark.parametrize("tool", PASSED)
def test_log_of_a_tool_that_passed_is_a_success(tool: str) -> None:
    assert read_source(io.BytesIO(PASSED[tool].encode())).status is BuildStatus.SUCCESS


@pytest.mark.parametrize("tool", FAILED)
def test_line_ends_and_the_envelope_of_a_ci_system_do_not_change_the_reading(tool: str) -> None:
    case = FAILED[tool]
    in_github = as_github_step("make check", case.log)

    assert read_source(io.BytesIO(case.log.replace("\n", "\r\n").encode())).error == case.cause
    assert read_source(io.BytesIO(in_github.encode())).error == case.cause
    assert known_failure(in_github) == case.known


def test_output_of_an_unknown_tool_is_chosen_before_the_result_of_a_gitlab_job() -> None:
    text = "\x1b[32;1m$ depot check\x1b[0;m\nshelf 7 is empty\nsection_end:1700000009:step_script\r\x1b[0K\x1b[31;1mERROR: Job failed: exit code 1\n"

    assert "shelf 7 is empty" in [line.text for line in chosen(text)]


def test_registry_that_refuses_connections_is_a_failure_of_the_network() -> None:
    assert known_failure("npm error code ECONNREFUSED\nnpm error syscall connect\n") == "network_failed"


def test_code_that_vulture_finds_unused_is_the_cause_of_a_failed_step() -> None:
    finding = "cart.py:1: unused function 'total' (60% confidence)"
    text = as_github_step("vulture cart.py", f"{finding}\n")

    assert read_source(io.BytesIO(text.encode())).error == finding
    assert known_failure(text) == "lint_finding"


def test_memory_error_of_a_process_that_the_build_started_again_does_not_decide_its_status() -> None:
    text = "FATAL ERROR: CALL_AND_RETRY_LAST Allocation failed - JavaScript heap out of memory\nFinished building depot.js within 74.1 seconds\n"

    assert read_source(io.BytesIO(text.encode())).status is BuildStatus.UNKNOWN


def test_project_that_needs_a_newer_node_is_a_wrong_version_of_a_tool() -> None:
    assert known_failure("Node.js v20.20.2 is not supported by Astro!\n") == "tool_version"
