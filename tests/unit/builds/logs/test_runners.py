"""Logs of tools that run other tools, of further CI systems, and messages in other languages; real output, shortened."""

from __future__ import annotations

import io

import pytest

from relab.builds.ingest.reading import read_source
from relab.builds.logs.models import LineRole
from relab.builds.logs.results import log_result
from relab.builds.models import BuildStatus, BuildTestOutcome
from relab.builds.suggestions.service import shipped_failures, suggest
from support.builds.logs import chosen, log_of

NODE_WORKSPACES = """\
not ok 1 - adds two items
# fail 1
npm error Lifecycle script `test` failed with error:
npm error code 1
npm error workspace @shop/cart@1.0.0
ok 1 - charges
# fail 0
"""
NOX = """\
nox > Running session tests
nox > pytest -q
FAILED test_shop.py::test_total - assert (1 + 1) == 3
1 failed, 2 passed in 0.16s
nox > Command pytest -q failed with exit code 1
nox > Session tests failed.
nox > Running session good
nox > pytest -q good_test.py
1 passed in 0.00s
nox > Session good was successful in 2 seconds.
nox > Ran 2 sessions in 5 seconds:
nox > * tests: failed, took 2 seconds
nox > * good: success, took 2 seconds
"""
TOX = """\
check: commands[0]> python check.py
schema drift in orders.sql
check: exit 3 (0.02 seconds) /src> python check.py pid=30697
  check: FAIL code 3 (0.27=setup[0.25]+cmd[0.02] seconds)
  evaluation failed :( (0.32 seconds)
"""
PRE_COMMIT = """\
ruff.....................................................................Failed
- hook id: ruff
- exit code: 1

F401 [*] `os` imported but unused
Found 1 error.

tests....................................................................Passed
"""
DEBIAN_OK = """\
dpkg-deb: building package 'tree' in '../tree_2.1.0-1_amd64.deb'.
dpkg-buildpackage: info: binary-only upload (no source included)
"""
DEBIAN_DEPENDENCY = """\
dpkg-buildpackage: info: host architecture amd64
dpkg-checkbuilddeps: error: Unmet build dependencies: libfrobnicate-dev (>= 2)
dpkg-buildpackage: warning: build dependencies/conflicts unsatisfied; aborting
"""
PATCH = """\
patching file jobs.c
Hunk #1 succeeded at 4.
patching file tree.c
Hunk #1 FAILED at 1.
1 out of 1 hunk FAILED
"""
BUILDKITE = (
    "\x1b_bk;t=1732700000000\x07~~~ Running commands\r\n"
    "\x1b_bk;t=1732700000037\x07\x1b[90m$\x1b[0m go test\r\n"
    "\x1b_bk;t=1732700000074\x07--- FAIL: TestMap (0.00s)\r\n"
    "\x1b_bk;t=1732700000148\x07\x1b[31m🚨 Error: The command exited with status 1\x1b[0m\r\n"
)
AZURE = """\
2024-11-27T10:00:00.1123456Z ##[section]Starting: Bash
2024-11-27T10:00:00.2123456Z Task         : Bash
2024-11-27T10:00:00.3123456Z ##[section]Starting: tests
2024-11-27T10:00:01.0123456Z schema drift in orders.sql
2024-11-27T10:00:01.1123456Z ##[error]Bash exited with code '3'.
2024-11-27T10:00:01.2123456Z ##[section]Finishing: tests
"""


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (NODE_WORKSPACES, BuildStatus.FAILED),
        (NOX, BuildStatus.FAILED),
        (TOX, BuildStatus.FAILED),
        ("1 failed in 0.1s\n1 passed in 0.1s\n  good: OK (7.25 seconds)\n  congratulations :) (8 seconds)\n", BuildStatus.SUCCESS),
        (PRE_COMMIT, BuildStatus.FAILED),
        (DEBIAN_OK, BuildStatus.SUCCESS),
        (DEBIAN_DEPENDENCY, BuildStatus.FAILED),
        (PATCH, BuildStatus.FAILED),
        ("npm error code E503\nok 1 - charges\n# fail 0\n", BuildStatus.SUCCESS),
        ("error: failed to parse manifest at `/src/Cargo.toml`\n", BuildStatus.FAILED),
        ("a.ts(1,7): error TS2322: Type 'string' is not assignable.\n", BuildStatus.FAILED),
        ("Found 3 errors in 2 files (checked 2 source files)\n", BuildStatus.FAILED),
        ("Success: no issues found in 1 source file\n", BuildStatus.SUCCESS),
        ("  evaluation failed :(", BuildStatus.FAILED),
        ("3 tests, 2 failures\n", BuildStatus.FAILED),
        ("1 passed; 0 skipped; 1 failed.\n", BuildStatus.FAILED),
        ("FAILED: Build did NOT complete successfully\n", BuildStatus.FAILED),
        ("#5 ERROR: executor failed running [/bin/sh -c x]: exit code: 1\n", BuildStatus.FAILED),
        ("Successfully built 2f044ba912d1\n", BuildStatus.SUCCESS),
    ],
)  # fmt: skip
def test_end_of_a_tool_that_runs_other_tools_is_read(log: str, status: BuildStatus) -> None:
    assert log_result(log_of(log).lines).status is status


@pytest.mark.parametrize(
    "log",
    [
        "npm error code 1\nnpm error workspace @shop/cart@1.0.0\n+ true\n+ node --test\n# fail 0\n",
        PRE_COMMIT + "  lint: OK (3.20 seconds)\n  congratulations :) (3.50 seconds)\n",
        PRE_COMMIT + "nox > Session lint was successful in 2 seconds.\n",
        PRE_COMMIT + "make: [Makefile:3: lint] Error 1 (ignored)\n1 passed in 0.00s\n",
        PRE_COMMIT + "$ pre-commit run\n" + PRE_COMMIT.splitlines()[-1],
    ],
)
def test_failure_that_the_build_tolerated_does_not_last(log: str) -> None:
    assert log_result(log_of(log).lines).status is BuildStatus.SUCCESS


@pytest.mark.parametrize(
    "log",
    [
        "1 passed in 0.00s\nFound 3 errors (3 fixed, 0 remaining).\n",
        "1 passed in 0.00s\nStatus: skipped\n",
        "1 passed in 0.00s\nerror: failed to load the cache\n",
        "1 passed in 0.00s\nfailed to build the cache key\n",
        "1/2 main.test.a...OK\n2/2 main.test.b...SKIP\n1 passed; 1 skipped; 0 failed.\n",
    ],
)
def test_lines_that_resemble_a_failure_of_a_tool_leave_the_success(log: str) -> None:
    assert log_result(log_of(log).lines).status is BuildStatus.SUCCESS


@pytest.mark.parametrize(
    "log",
    [
        "parser.........Passed\nlexer........Failed\n",
        "##[section]Finishing: checkout\n##[section]Starting: tests\nrunning\n",
    ],
)
def test_log_without_the_result_of_its_last_part_is_no_success(log: str) -> None:
    assert log_result(log_of(log).lines).status is BuildStatus.UNKNOWN


@pytest.mark.parametrize(
    "line", ["ERROR: Error cloning remote repo 'origin'", "ERROR: Error during SonarScanner execution"]
)
def test_errors_of_other_tools_are_not_those_of_bazel(line: str) -> None:
    assert [each.why for each in chosen(f"{line}\njava.lang.IllegalStateException: x\n")] == [
        "Jenkins: error of a Jenkins plugin"
    ] * 2


def test_output_of_programs_that_log_as_bazel_does_is_no_noise() -> None:
    log = 'INFO:     127.0.0.1:41 - "GET /metrics HTTP/1.1" 404\nDEBUG: schema drift\n'

    assert [line.number for line in chosen(log)] == [1, 2]


def test_command_whose_failure_tox_ignores_is_not_the_failed_step() -> None:
    log = """\
lint: commands[0]> - flake8
a.py:1:1: F401 'os' imported but unused
lint: exit 1 (0.10 seconds) /src> flake8 pid=1
lint: command failed but is marked ignore outcome so handling it as success
py: commands[0]> pytest
FAILED t.py::x - assert 1 == 2
py: exit 1 (1.00 seconds) /src> pytest pid=3
  evaluation failed :( (1.20 seconds)
"""
    assert [line.number for line in chosen(log)] == [6]


def test_output_before_the_skipped_stages_of_jenkins_explains_a_failure() -> None:
    log = 'schema drift\nStage "deploy" skipped due to earlier failure(s)\nremoved the workspace\nFinished: FAILURE\n'

    assert [line.text for line in chosen(log)] == ["schema drift"]


def test_clean_up_after_a_failed_stage_of_jenkins_does_not_hide_the_failure() -> None:
    log = """\
[Pipeline] sh
FAILED t.py::x - assert 1 == 2
[Pipeline] { (Declarative: Post Actions)
[Pipeline] sh
Error response from daemon: No such container: x
Finished: FAILURE
"""
    assert 2 in [line.number for line in chosen(log)]


@pytest.mark.parametrize(("log", "kind"), [(BUILDKITE, "buildkite"), (AZURE, "azure")])
def test_log_of_another_ci_system_is_recognised(log: str, kind: str) -> None:
    found = read_source(io.BytesIO(log.encode()))

    assert found.kind == kind
    assert found.status is BuildStatus.FAILED


def test_log_of_buildkite_that_succeeded_is_recognised() -> None:
    assert read_source(io.BytesIO(b"~~~ Running commands\n1 passed in 0.00s\n")).kind == "buildkite"


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (PATCH, "Hunk #1 FAILED at 1."),
        (
            "  1) test raises (CartTest)\n     test/cart_test.exs:9\n     ** (ArgumentError) no price\n1 test, 1 failure\n",
            "** (ArgumentError) no price",
        ),
    ],
)
def test_error_of_a_build_is_the_message_below_its_header(log: str, error: str) -> None:
    assert read_source(io.BytesIO(log.encode())).error == error


def test_job_of_azure_without_an_error_succeeded() -> None:
    log = AZURE.replace("##[error]Bash exited with code '3'.", "done")

    assert read_source(io.BytesIO(log.encode())).status is BuildStatus.SUCCESS


@pytest.mark.parametrize("log", [TOX, AZURE])
def test_output_of_the_failed_command_explains_and_not_its_exit_code(log: str) -> None:
    lines = chosen(log)

    assert lines[-1].text == "schema drift in orders.sql"
    assert not [line for line in lines if line.role is LineRole.ERROR]


def test_output_of_a_silent_command_of_nox_follows_the_line_that_reports_its_failure() -> None:
    log = """\
nox > python -m pip install pluggy==99.0
nox > Command python -m pip install pluggy==99.0 failed with exit code 1:
ERROR: No matching distribution found for pluggy==99.0
nox > Session tests failed.
"""
    assert [line.text for line in chosen(log)] == ["ERROR: No matching distribution found for pluggy==99.0"]


def test_patch_that_does_not_apply_is_chosen_with_its_file() -> None:
    assert [line.text for line in chosen(PATCH)][:2] == ["patching file tree.c", "Hunk #1 FAILED at 1."]
    assert _suggested(PATCH) == "patch_failed"


def test_tests_that_ran_at_a_time_out_of_go_are_named() -> None:
    log = """\
panic: test timed out after 2s
\trunning tests:
\t\tTestA (2s)
\t\tTestB/deep_one (1m0s)

goroutine 17 [running]:
FAIL\texample.org/shop/cart\t2.083s
"""
    assert _failed(log) == ["example.org/shop/cart::TestA", "example.org/shop/cart::TestB/deep_one"]


def test_failed_tests_of_ant_are_named_with_their_suite() -> None:
    log = """\
    [junit] Testsuite: CartTest
    [junit] Testcase: loadsPrices took 0.004 sec
    [junit] \tCaused an ERROR
    [junit] no price list
    [junit] Testcase: addsItems took 0.001 sec
    [junit] Testcase: computesTotal took 0.001 sec
    [junit] \tFAILED
    [junit] expected:<30> but was:<20>
"""
    assert _failed(log) == ["CartTest::loadsPrices", "CartTest::computesTotal"]


def test_failed_tests_of_zig_and_exunit_are_named() -> None:
    zig = "1/2 main.test.adds items...expected 3, found 2\nFAIL (TestExpectedEqual)\n2/2 main.test.empty...OK\n"
    exunit = "  1) test raises (CartTest)\n     test/cart_test.exs:9\n     ** (ArgumentError) no price list\n"

    assert _failed(zig) == ["main.test.adds items"]
    assert _failed(exunit) == ["test raises (CartTest)"]


def test_package_of_pnpm_is_the_worker_of_its_lines() -> None:
    log = log_of("packages/cart test: not ok 1 - adds two items\npackages/cart test: Failed\nunit test: passed\n")

    assert [line.worker for line in log.lines] == ["packages/cart test", "packages/cart test", ""]


@pytest.mark.parametrize(
    ("log", "incident"),
    [
        ("main.c:2:47: Fehler: »total« nicht deklariert (erste Verwendung in dieser Funktion)", "name_not_declared"),
        ("main.c:1:10: erreur fatale: lib/api.h : Aucun fichier ou dossier de ce type", "c_header_missing"),
        ("make: *** No hay ninguna regla para construir el objetivo 'parser.o', necesario para 'app'.  Alto.", "make_no_rule"),
        ("fatal: репозиторий «/srv/nowhere.git» не существует", "git_fetch"),
        ("dd: 写入 '/mnt/x' 时出错: 设备上没有空间\nmake: *** [Makefile:3: gen] 错误 1", "disk_full"),
        ("protoc --out=. a.proto\nmake: protoc: Datei oder Verzeichnis nicht gefunden\nmake: *** [Makefile:2: all] Fehler 127", "command_missing"),
        ("main.c:(.text+0xa) : référence indéfinie vers « frob »\ncollect2: erreur: ld a retourné le statut de sortie 1", "linker_undefined"),
    ],
)  # fmt: skip
def test_known_failure_is_found_by_its_message_in_another_language(log: str, incident: str) -> None:
    assert _suggested(log) == incident


def test_output_before_a_failed_target_is_chosen_if_no_format_describes_it() -> None:
    log = "dd: 写入 '/mnt/x' 时出错: 设备上没有空间\nmake: *** [Makefile:3: gen] 错误 1\n"

    assert [(line.number, line.role) for line in chosen(log)] == [(1, LineRole.DETAIL), (2, LineRole.ERROR)]


def test_surer_rule_wins_over_a_vague_rule_that_matches_too() -> None:
    (line,) = chosen("/bin/sh: pipx-tool: not found\n")

    assert line.why == "shell: missing command"


def _failed(log: str) -> list[str]:
    tests = read_source(io.BytesIO(log.encode()), BuildStatus.FAILED).tests
    return [test.name for test in tests if test.outcome is BuildTestOutcome.FAILED]


def _suggested(log: str) -> str | None:
    read = log_of(log)
    return suggest(chosen(log), read, failures=shipped_failures()).incident
