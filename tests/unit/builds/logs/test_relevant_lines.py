"""The choice of the lines that explain a failure, on logs of real tools."""

from __future__ import annotations

import pytest

from relab.builds.logs.models import LineRole
from support.builds.logs import as_github_step, chosen, numbers, recorded


@pytest.mark.parametrize(
    ("name", "first", "expected"),
    [
        ("gcc_undeclared", "C and C++ compilers", [2, 3, 4, 5, 6, 7, 11]),
        ("linker_undefined", "C and C++ compilers", [4, 5, 6, 7]),
        ("make_no_rule", "make", [2]),
        ("python_module", "Python", [1, 2, 3, 4]),
        ("javac", "Java", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("cargo", "Rust", [2, 3, 4, 5, 6, 7, 8, 11]),
        ("npm_test", "Node.js", list(range(10, 27))),
        ("pytest_failed", "pytest", [*range(9, 37), 38, 39, 40]),
    ],
)
def test_errors_of_each_tool_are_found(name: str, first: str, expected: list[int]) -> None:
    lines = chosen(recorded(name))

    assert numbers(lines) == expected
    assert lines[0].why.startswith(first)


def test_lines_that_the_passing_build_has_too_are_left_out() -> None:
    lines = chosen(recorded("gcc_undeclared"), recorded("make_passing"))

    assert numbers(lines) == [3, 4, 5, 6, 7, 11]
    assert not [line for line in lines if "unused variable" in line.text]


def test_new_lines_beside_an_error_are_chosen_although_no_format_describes_them() -> None:
    passing = "start\nlint\nall files are clean\ndone\n"
    failed = "start\nlint\nrule 7 in shop.cfg\n  > price = -1\nvalue is invalid\ndone\n"

    lines = chosen(failed, passing)

    assert numbers(lines) == [3, 4, 5]
    assert lines[0].why == "not in the passing log, beside an error"


def test_only_the_failed_step_is_explained() -> None:
    text = as_github_step("make", recorded("gcc_undeclared"))

    lines = chosen(text)

    assert numbers(lines) == [9, 10, 11, 12, 13, 14, 18]
    assert (
        lines[1].text == "main.c:5:32: error: 'offset' undeclared (first use in this function); did you mean 'off_t'?"
    )


def test_step_without_a_known_error_is_explained_by_its_last_output() -> None:
    lines = chosen(as_github_step("./check.sh", "checking a\nchecking b\nb.cfg differs from the template"))

    assert [line.text for line in lines][-1] == "b.cfg differs from the template"
    assert {line.why for line in lines} == {"last output before the failure"}


def test_exit_by_a_signal_is_an_error() -> None:
    lines = chosen(as_github_step("make", "compiling", code=137))

    assert [line.text for line in lines] == ["##[error]Process completed with exit code 137."]


def test_block_of_each_interleaved_worker_is_followed() -> None:
    log = (
        "#7 0.1 Traceback (most recent call last):\n"
        "#9 0.1 downloading wheels\n"
        '#7 0.2   File "setup.py", line 1\n'
        "#9 0.3 downloaded 12 wheels\n"
        "#7 0.3 ImportError: cannot import name 'x'\n"
    )

    assert numbers(chosen(log)) == [1, 3, 5]


def test_warnings_of_rustc_and_their_notes_do_not_explain_a_failure() -> None:
    log = """\
warning: unexpected `cfg` condition value: `serde`
  --> src/lib.rs:98:7
   |
98 | #[cfg(feature = "serde")]
   |       ^^^^^^^^^^^^^^^^^
   |
   = note: expected values for `feature` are: `default` and `std`

error[E0382]: borrow of moved value: `v`
"""
    assert numbers(chosen(log)) == [9]


def test_failed_test_of_automake_is_chosen_and_not_its_count() -> None:
    log = "PASS: parse\nFAIL: run-suites\n# XFAIL: 0\n# FAIL:  1\nmake[4]: *** [Makefile:678: test-suite.log] Error 1\n"

    assert numbers(chosen(log)) == [2, 5]


def test_failed_test_of_ctest_is_chosen_with_its_output_and_not_a_failed_probe_of_cmake() -> None:
    log = """\
-- Performing Test HAS_WCOMMA - Failed
      Start  3: parse_number
 3/19 Test  #3: parse_number .....................***Failed    0.00 sec
parse_number.c:35:zero:FAIL: boom

      Start  4: parse_string
"""
    assert numbers(chosen(log)) == [3, 4]


def test_findings_of_biome_are_chosen_with_their_source() -> None:
    log = """\
src/index.ts:245:46 lint/suspicious/noDoubleEquals  FIXABLE  ━━━━━━━━━━━━━━━

  \xd7 Using == may be unsafe if you are relying on type coercion.

  > 245 │ if (a == 2) {}
        │       ^^
"""
    assert numbers(chosen(log)) == [1, 2, 3, 4, 5, 6]


def test_advice_of_maven_is_a_consequence() -> None:
    log = (
        "[INFO] Scanning for projects...\n"
        "[ERROR] /src/Cart.java:[7,9] cannot find symbol\n"
        "  symbol:   class Price\n"
        "[INFO] BUILD FAILURE\n"
        "[ERROR] Failed to execute goal compile (default) on project shop: Compilation failure -> [Help 1]\n"
        "[ERROR] \n"
        "[ERROR] Re-run Maven using the -X switch to enable full debug logging.\n"
    )

    roles = {line.number: line.role for line in chosen(log)}

    assert roles == {
        2: LineRole.ERROR,
        3: LineRole.DETAIL,
        5: LineRole.ERROR,
        6: LineRole.CONSEQUENCE,
        7: LineRole.CONSEQUENCE,
    }


def test_only_the_last_of_several_maven_builds_is_explained() -> None:
    build = "[INFO] Scanning for projects...\n[ERROR] {}\n[INFO] Finished at: 2024-05-01T10:00:00Z\n"

    lines = chosen(build.format("Failed to resolve a") + build.format("Failed to resolve b"))

    assert [line.text for line in lines] == ["[ERROR] Failed to resolve b"]


@pytest.mark.parametrize("text", ["", "\n\n\n", "\x00\x01\x02" * 50, "0 errors, 0 failures\n"])
def test_log_without_text_or_failure_has_only_detail_lines(text: str) -> None:
    assert all(line.role is LineRole.DETAIL for line in chosen(text))


@pytest.mark.parametrize(
    "line",
    [
        "error " * 20_000, "a.b" * 30_000, "at " * 30_000, "/" * 60_000, "x: " * 30_000, "[ERROR] " * 10_000,
        "E   " * 20_000, "#" * 60_000, "0x" * 30_000, "a" * 60_000, " " * 60_000, "\x1b[" * 30_000, "f" * 60_000 + "7",
    ],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_hostile_lines_take_linear_time(line: str) -> None:
    text = f"{line}\n" * 40

    assert len(chosen(text, passing="ok\n")) <= 60


def test_failed_installation_of_an_old_pip_is_quoted_although_a_later_one_succeeds() -> None:
    failed = "ERROR: Command errored out with exit status 1: python setup.py egg_info Check the logs for full command output."
    lines = chosen(
        f"Collecting foo\n{failed}\nCollecting bar\nSuccessfully installed bar-1\nModuleNotFoundError: no foo\n"
    )

    assert failed in [line.text for line in lines]


def test_failures_of_mocha_are_chosen_with_their_titles() -> None:
    text = (
        "  adder\n    ✔ adds\n    1) breaks\n\n\n  1 passing (31ms)\n  1 failing\n\n  1) adder\n       breaks:\n\n"
        "      AssertionError [ERR_ASSERTION]: 1 == 2\n      + expected - actual\n\n      -1\n      +2\n"
    )

    assert [line.text.strip() for line in chosen(text)][:4] == ["1 failing", "", "1) adder", "breaks:"]
    assert "AssertionError [ERR_ASSERTION]: 1 == 2" in [line.text.strip() for line in chosen(text)]


@pytest.mark.parametrize(
    ("line", "tool"),
    [
        (
            "The log length has exceeded the limit of 4 MB (this usually means that the tests repeat an error).",
            "Travis CI",
        ),
        ("The job exceeded the maximum log length, and has been terminated.", "Travis CI"),
        ("meson.build:12:0: ERROR: Dependency is not known", "Meson"),
        ("2/3 lib:x / breaks FAIL            0.01s   killed by signal 6 SIGABRT", "Meson"),
    ],
)
def test_error_line_is_chosen_with_its_tool(line: str, tool: str) -> None:
    (error,) = (each for each in chosen(f"$ ./test.sh\n{line}\n") if each.role is LineRole.ERROR)

    assert error.text == line
    assert error.why.startswith(f"{tool}: ")


def test_comment_of_tap_is_not_a_package_of_go() -> None:
    tap = "TAP version 13\n# adds\nok 1 fine\n# breaks\nnot ok 2 equal\n  ---\n    expected: 2\n  ...\n"
    go = "# command-line-arguments\nruntime.main_main·f: function main is undeclared in the main package\n"

    assert numbers(chosen(tap))[0] == 5
    assert chosen(go)[0].text == "# command-line-arguments"
    assert numbers(chosen(go)) == [1, 2]


def test_failed_test_of_playwright_is_chosen_with_its_error() -> None:
    text = (
        "Running 3 tests using 1 worker\n..F\n\n  1) p/x.spec.js:1:104 \u203a breaks ────\n\n"
        "    Error: expect(received).toBe(expected)\n\n    Expected: 2\n  1 failed\n    p/x.spec.js:1:104 \u203a breaks ────\n"
    )

    lines = chosen(text)

    assert lines[0].why == "Playwright: failed test"
    assert numbers(lines)[:5] == [4, 5, 6, 7, 8]
