"""Failure groups: one per cause, and none for a generic line that all failures share."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.builds.logs.causes import is_generic
from relab.builds.logs.groups import FailureCause, failure_cause, headline
from relab.builds.logs.models import LineRole, RelevantLine
from relab.builds.logs.relevance import relevant_lines
from relab.core.error_templates import cause_of
from support.builds.logs import as_github_step, log_of, recorded

FAILED = (
    "cargo", "gcc_undeclared", "javac", "linker_undefined", "make_no_rule", "npm_missing_command", "npm_test", "pytest_failed", "python_module",
)  # fmt: skip
GENERIC = (
    "make: *** [all] Error 1",
    "make[2]: *** [CMakeFiles/Makefile2:100: src/all] Error 2",
    "##[error]Process completed with exit code 1.",
    "ERROR: Job failed: exit code 1",
    "[ERROR] BUILD FAILURE",
    "BUILD FAILURE",
    "BUILD FAILED in 12s",
    "FAILURE: Build failed with an exception.",
    "ninja: build stopped: subcommand failed.",
    "collect2: error: ld returned 1 exit status",
    'error: could not compile `shop` (bin "shop") due to 1 previous error',
    "npm ERR! code ELIFECYCLE",
    "npm ERR! errno 1",
    "npm ERR! Test failed.  See above for more details.",
    "error Command failed with exit code 1.",
    "ERROR: script returned exit code 1",
    "[ERROR] Failed to execute goal org.apache.maven.plugins:maven-surefire-plugin:2.22:test (default-test) on project x: There are test failures.",
    "Execution failed for task ':test'.",
    "FAIL",
    "exit status 1",
    "test result: FAILED. 3 passed; 1 failed; 0 ignored",
    "========================= 2 failed, 1 passed in 1.00s ==========================",
    "Error: Process completed with exit code 2.",
    "error: test failed, to rerun pass `--lib`",
    "error: subprocess-exited-with-error",
    "error: metadata-generation-failed",
    "error: failed-wheel-build-for-install",
    "\xd7 Failed to build installable wheels for some pyproject.toml based projects",
    "note: This error originates from a subprocess, and is likely not a problem with pip.",
    "note: This is an issue with the package mentioned above, not pip.",
    "hint: See above for details.",
    "╰─> [12 lines of output]",
    "[end of output]",
    "exit code 1",
)


def cause(text: str, kind: str | None = None) -> FailureCause | None:
    log = log_of(text)
    return failure_cause(relevant_lines(log), log.lines, kind=kind)


def key(text: str, project: str = "engine", kind: str | None = None) -> str | None:
    found = cause(text, kind)
    return None if found is None else found.group_of(project)


@pytest.mark.parametrize("line", GENERIC)
def test_line_that_all_failures_share_is_generic(line: str) -> None:
    assert is_generic(line)


@pytest.mark.parametrize(
    "line",
    [
        "make: *** No rule to make target 'table.o', needed by 'report'.  Stop.",
        "main.c:4:5: error: 'x' undeclared",
        "error[E0308]: mismatched types",
        "KeyError: 'price'",
        "fatal: unable to access 'https://github.com/x/y/': Could not resolve host: github.com",
        "npm ERR! 404 Not Found - GET https://registry.example/left-pad",
        "sh: 1: tsc-missing: not found",
        "Killed",
        "[ERROR] Failed to execute goal on project x: Could not resolve dependencies for project a:b:1",
    ],
)
def test_line_with_a_cause_is_not_generic(line: str) -> None:
    assert not is_generic(line)


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(FAILED, 2)])
def test_recorded_failures_are_groups_of_their_own(first: str, second: str) -> None:
    ends = "make: *** [all] Error 1\nERROR: Job failed: exit code 1\n"

    keys = {key(recorded(first) + ends), key(recorded(second) + ends)}

    assert len(keys) == 2
    assert None not in keys


@pytest.mark.parametrize(
    "ending", ["", "\n\xd7 Failed to build installable wheels for some pyproject.toml based projects\n╰─> {}"]
)
def test_failed_wheels_are_grouped_by_their_package(ending: str) -> None:
    log = "  ERROR: Failed building wheel for {}\nFailed to build {}\nerror: failed-wheel-build-for-install\n" + ending

    assert key(log.replace("{}", "numpy")) == key("Collecting numpy\n" + log.replace("{}", "numpy"))
    assert key(log.replace("{}", "numpy")) != key(log.replace("{}", "lxml"))


def test_warnings_of_sphinx_that_are_errors_are_groups_by_their_message() -> None:
    keys = {
        key(f"Warning, treated as error:\n/w/docs/{page}\n")
        for page in ("a.rst:1:undefined label: 'x'", "b.rst:2:unknown document")
    }

    assert len(keys) == 2
    assert None not in keys


@pytest.mark.parametrize("name", FAILED)
def test_same_failure_in_another_ci_and_another_checkout_is_one_group(name: str) -> None:
    text = recorded(name)
    elsewhere = text.replace("/builds/shop", "/home/runner/work/shop/shop").replace(
        "Compiling shop v0.1.0", "Compiling shop v0.1.1"
    )

    assert key(as_github_step("make ci", elsewhere)) == key(text)
    assert key(as_github_step("make ci", elsewhere, code=2)) == key(text)


@pytest.mark.parametrize("line", GENERIC)
def test_failures_with_one_generic_line_and_different_output_stay_apart(line: str) -> None:
    keys = {key(f"building {part}\nthe {part} could be better\n{line}\n") for part in ("widget", "gadget")}

    assert len(keys) == 2


@pytest.mark.parametrize("line", GENERIC)
def test_log_with_a_generic_line_alone_has_no_group(line: str) -> None:
    assert cause(f"{line}\n") is None


def test_log_without_text_has_no_group() -> None:
    assert cause("") is None


def test_sample_is_the_line_that_shows_the_cause() -> None:
    found = [
        cause(recorded(name) + "make: *** [all] Error 1\n")
        for name in ("python_module", "make_no_rule", "pytest_failed")
    ]

    assert [None if each is None else each.line for each in found] == [
        "ModuleNotFoundError: No module named 'yamlx'",
        "make: *** No rule to make target 'table.o', needed by 'report'.  Stop.",
        "test_orders.py::test_missing_price: KeyError: 'price'",
    ]


def not_imported(file: str, *said: str) -> str:
    """Return a log of pytest that could not import a file of tests: its summary has no message."""
    report = "\n".join(f"E   {line}" for line in said)
    header = (
        f"____ ERROR collecting {file} ____\n/lib/_pytest/python.py:528: in importtestmodule\n    mod = import_path("
    )
    return f"==== ERRORS ====\n{header}\n{report}\n==== short test summary info ====\nERROR {file}\n1 error in 0.58s\n"


def test_file_that_pytest_cannot_import_is_grouped_by_the_message_of_its_report() -> None:
    module = cause(not_imported("t/test_a.py", "ModuleNotFoundError: No module named 'yamlx'"))
    syntax = cause(
        not_imported("t/test_a.py", '  File "/s/t/test_a.py", line 5', "  def x(:", "SyntaxError: invalid syntax")
    )

    assert module is not None
    assert syntax is not None
    assert module.line == "t/test_a.py: ModuleNotFoundError: No module named 'yamlx'"
    assert syntax.line == "t/test_a.py: SyntaxError: invalid syntax"
    assert module.group_of("shop") != syntax.group_of("shop")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("error[E0308]: mismatched types", "error[E0425]: cannot find value"),
        ("FAILED t.py::test_1 - KeyError: 'a'", "FAILED t.py::test_2 - KeyError: 'a'"),
        ("FAILED t.py::test_1 - KeyError: 'a'", "FAILED t.py::test_1 - ValueError: b"),
        ("ModuleNotFoundError: No module named 'a'", "ModuleNotFoundError: No module named 'b'"),
        ("npm ERR! 404 Not Found - GET https://r.example/x", "npm ERR! 503 Not Found - GET https://r.example/x"),
        ("npm ERR! 404 Not Found - GET https://r.example/x", "npm ERR! 404 Not Found - GET https://r.example/y"),
        ("main.c:4: undefined reference to `total'", "main.c:4: undefined reference to `mean'"),
        ("error: HTTP 404 of the mirror", "error: HTTP 503 of the mirror"),
        ("--- FAIL: TestA (0.1s)\n    a_test.go:3: got 4", "--- FAIL: TestB (0.1s)\n    a_test.go:3: got 4"),
        ("[ERROR] /s/A.java:[3,4] cannot find symbol\n  symbol:   class B", "[ERROR] /s/A.java:[3,4] cannot find symbol\n  symbol:   class C"),
    ],
)  # fmt: skip
def test_different_causes_stay_apart(first: str, second: str) -> None:
    assert key(f"{first}\nmake: *** [all] Error 1\n") != key(f"{second}\nmake: *** [all] Error 1\n")


def test_assertions_of_tap_with_one_message_are_grouped_by_their_place() -> None:
    failed = "TAP version 13\n# {name}\nnot ok 1 should be equal\n  ---\n    operator: equal\n    at: Test.run (/w/{name}.js:9:3)\n  ...\n"

    assert key(failed.format(name="num")) == key(failed.format(name="num").replace(":9:3", ":12:3"))
    assert key(failed.format(name="num")) != key(failed.format(name="dash"))


def test_internal_cause_is_grouped_per_project_and_external_cause_across_projects() -> None:
    own, shared = "main.c:4:5: error: 'x' undeclared\n", "curl: (6) Could not resolve host: mirror.example\n"

    assert key(own, "a") != key(own, "b")
    assert key(shared, "a") == key(shared, "b")


@pytest.mark.parametrize(
    "line", ["ModuleNotFoundError: No module named 'yamlx'", "FileNotFoundError: [Errno 2] No such file: 'orders.csv'"]
)
def test_name_of_an_exception_that_contains_a_network_code_is_an_internal_cause(line: str) -> None:
    assert key(f"{line}\n", project="shop") != key(f"{line}\n", project="engine")


def test_measured_failure_is_a_group_of_its_kind_and_project() -> None:
    keys = [key(log, project, "out_of_memory") for log, project in (("x.c:1: error: a\n", "a"), ("", "a"), ("", "b"))]

    assert keys[0] == keys[1] != keys[2]
    assert key("", "a", "timed_out") not in keys


def test_test_that_fails_for_an_external_cause_is_grouped_by_that_cause() -> None:
    logs = [
        f"FAILED t.py::test_{name} - ConnectionError: connection refused by db.example:{port}\n"
        for name, port in (("a", 51_234), ("b", 8))
    ]

    assert key(logs[0]) == key(logs[1])


FOLDERS = st.sampled_from(
    ["/builds/shop/", "/home/runner/work/s/s/", "/tmp/tmpk3x9q2ab/", "C:\\a\\s\\", "/Users/x y/".replace(" ", "")]
)
# A longer number is no number of a worker.
NUMBERS = st.integers(0, 10**9 - 1)
HASHES = st.text("0123456789abcdef", min_size=7, max_size=40)
TEMPLATES = (
    "{folder}src/main.c:{number}:{number}: error: 'total' undeclared (first use in this function)",
    "error: checksum of parser is {hash}, and expected was {other} after {seconds}",
    "error: worker {number} lost the lock of registry after {seconds} ({number} bytes)",
    "fatal: reference is not a tree: {hash}",
    "error: the job {uuid} was refused at {time} by 10.0.{small}.7:{port}",
    "FAILED tests/t.py::test_total - AssertionError: total of {number} orders was {number}",
    "{folder}tool.py:{number}: error: cannot open {folder}data.bin (0x{hash})",
)


@st.composite
def written(draw: st.DrawFn, template: str) -> str:
    seconds = draw(st.sampled_from(["{}s", "{} ms", "1,0{:02}.5 ms", "1m {}s", "{}.5 seconds", "2h 3m {}s"])).format(
        draw(st.integers(0, 59))
    )
    moment = f"2026-0{draw(st.integers(1, 9))}-1{draw(st.integers(0, 9))}T1{draw(st.integers(0, 9))}:00:{draw(st.integers(10, 59))}Z"
    return template.format(
        folder=draw(FOLDERS), number=draw(NUMBERS), hash=draw(HASHES), other=draw(HASHES), seconds=seconds, time=moment,
        uuid=draw(st.uuids()), small=draw(st.integers(0, 255)), port=draw(st.integers(1, 65_535)),
    )  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
@given(data=st.data())
def test_paths_numbers_hashes_and_times_do_not_change_the_group(template: str, data: st.DataObject) -> None:
    first, second = (data.draw(written(template)) for _ in range(2))

    assert cause_of(first) == cause_of(second)
    assert key(f"{first}\nmake: *** [all] Error 1\n") == key(f"{second}\nmake: *** [all] Error 2\n")


@pytest.mark.parametrize(
    "line",
    ["tool.py:{}: error: no such table", "error: worker {} lost its lock", "error: total of {} orders was wrong"],
)
def test_number_that_only_looks_like_an_http_status_is_not_an_external_cause(line: str) -> None:
    assert key(line.format(503), "a") == key(line.format(7), "a")
    assert key(line.format(503), "a") != key(line.format(503), "b")


@pytest.mark.parametrize(
    "line",
    [
        "npm ERR! 503 Not Found - GET https://r.example/x",
        "fatal: unable to access 'https://r.example/x/': The requested URL returned error: 502",
        "error: unexpected status code 500 from https://r.example/x",
        "Could not transfer artifact x from r.example: HTTP/1.1 504",
    ],
)
def test_http_server_error_is_an_external_cause(line: str) -> None:
    assert key(line, "a") == key(line, "b")


@given(st.randoms(use_true_random=False))
def test_order_of_workers_does_not_change_the_group(order: random.Random) -> None:
    errors = [
        f"src/{name}.c:{line}:1: error: '{name}' undeclared"
        for line, name in enumerate(("alpha", "beta", "gamma", "delta"))
    ]
    shuffled = order.sample(errors, len(errors))

    assert key("\n".join(shuffled) + "\nmake: *** [all] Error 1\n") == key(
        "\n".join(errors) + "\nmake: *** [all] Error 1\n"
    )


@given(st.text(max_size=300))
def test_cause_and_key_of_any_text_have_bounded_length(text: str) -> None:
    masked = cause_of(text)

    assert len(masked) <= 300
    assert len(key(text) or 24 * "x") == 24


def test_hostile_line_is_masked_in_linear_time() -> None:
    for text in (
        "/a" * 4_000,
        "1 " * 4_000,
        "a1" * 4_000,
        "0" * 8_000,
        "- [" * 3_000,
        "FAILED t.py::t[" + "]" * 7_000,
        "\\" * 8_000,
    ):
        assert len(cause_of(text)) <= 300
        is_generic(text)
        cause(text)


def test_headline_is_an_error_line_with_about_the_same_score_if_the_best_says_nothing() -> None:
    vague, specific, weak = (
        RelevantLine(number, text, LineRole.ERROR, score, "error")
        for number, (text, score) in enumerate(
            [("npm error code 1", 0.95), ("a.c:3:5: error: 'x' undeclared", 0.9), ("cannot open port 3", 0.5)], start=1
        )
    )

    assert headline([vague, weak, specific], None) == specific.text
    assert headline([vague, weak], None) == vague.text


@pytest.mark.timeout(20)
def test_headline_of_many_lines_that_say_nothing_takes_bounded_time() -> None:
    lines = [RelevantLine(1, "Error: " + "failed " * 90, LineRole.ERROR, 0.9, "error")] * 60_000

    assert headline(lines, None) == lines[0].text
