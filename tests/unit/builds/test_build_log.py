"""Truncation of long logs, and the choice of the line that reports the failure."""

from __future__ import annotations

from pathlib import Path

from relab.builds.monitor.build_log import HEAD_BYTES, TAIL_BYTES, bounded_log, error_and_cause


def error_line(log: str) -> str | None:
    """Return the error line chosen for a failed build with this log."""
    return error_and_cause(log)[0]


def test_short_log_is_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\n\xfftwo\n")

    assert bounded_log(tmp_path / "log") == ("one\n\ufffdtwo\n", 9)


def test_middle_of_a_long_log_is_left_out_by_whole_lines(tmp_path: Path) -> None:
    lines = [f"line {number:07d}\n" for number in range(200_000)]
    (tmp_path / "log").write_text("".join(lines))

    text, size = bounded_log(tmp_path / "log")

    found = text.splitlines(keepends=True)
    (mark,) = [line for line in found if line.startswith("[relab left out")]
    kept = [line for line in found if line != mark]
    left_out = int(mark.split()[3].replace(",", ""))
    assert size == 13 * 200_000
    assert set(kept) <= set(lines)
    assert kept[0] == lines[0]
    assert kept[-1] == lines[-1]
    assert left_out == size - 13 * len(kept)


def test_long_log_without_lines_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x00" * 5_000_000)

    text, size = bounded_log(tmp_path / "log")

    assert size == 5_000_000
    assert len(text) <= HEAD_BYTES + TAIL_BYTES + 100


def test_line_with_a_word_of_failure_wins_over_later_lines() -> None:
    log = "make: Entering\n\x1b[31mmain.c:1: error: expected ';'\x1b[0m\nmake: leaving\n"

    assert error_line(log) == "main.c:1: error: expected ';'"


def test_error_of_the_compiler_wins_over_the_last_line_of_make() -> None:
    log = "main.c:5:32: error: 'offset' undeclared\nmake: *** [Makefile:3: main.o] Error 1\n"

    assert error_line(log) == "main.c:5:32: error: 'offset' undeclared"


def test_first_of_several_errors_is_chosen() -> None:
    log = "a.c:1:1: error: unknown type name 'x'\nb.c:2:2: error: unknown type name 'y'\n"

    assert error_line(log) == "a.c:1:1: error: unknown type name 'x'"


def test_no_escape_sequence_is_left_in_the_line() -> None:
    log = "error: \x1b]8;;http://x\x07bad\x1b]8;;\x07 \x1b(0thing\x1bPq\x1b\\\x9b2J\x08\n"

    line = error_line(log)

    assert line is not None
    assert line.startswith("error: bad thing")
    assert not [each for each in line if ord(each) < 32 or 127 <= ord(each) < 160]


def test_last_line_is_used_without_a_word_of_failure() -> None:
    assert error_line("one\ntwo\n\n") == "two"


def test_empty_log_has_no_line() -> None:
    assert error_line("\n \n") is None


def test_header_without_a_message_is_replaced_by_the_message_that_follows_it() -> None:
    log = (
        "____ test_total ____\n>   assert total() == 3\nE   assert 4 == 3\n"
        "==== short test summary info ====\nFAILED t.py::test_total - assert 4 == 3\n"
    )

    assert error_line(log) == "t.py::test_total: assert 4 == 3"


def test_warning_of_the_linker_is_not_the_error() -> None:
    log = (
        "/usr/bin/ld: ./libbz2.a(decompress.o): warning: relocation against `rNums' in read-only section `.text'\n"
        "/usr/bin/ld: ./libbz2.a(bzlib.o): in function `unRLE':\n"
        "/workspace/bzlib.c:565: undefined reference to `rNums'\n"
        "collect2: error: ld returned 1 exit status\n"
    )

    assert error_line(log) == "/workspace/bzlib.c:565: undefined reference to `rNums'"


def test_note_of_the_linker_is_not_the_error() -> None:
    log = (
        "/usr/bin/ld: NOTE: This behaviour is deprecated and will be removed in a future version of the linker\n"
        "/usr/bin/ld: cannot find -lfoo: No such file or directory\n"
    )

    assert error_line(log) == "/usr/bin/ld: cannot find -lfoo: No such file or directory"


PIP = (
    "  error: subprocess-exited-with-error\n"
    "  \n"
    "  \xd7 {step} did not run successfully.\n"
    "  │ exit code: 1\n"
    "  ╰─> [2 lines of output]\n"
    "{output}\n"
    "      [end of output]\n"
    "  \n"
    "  note: This error originates from a subprocess, and is likely not a problem with pip.\n"
    "error: {name}\n\n"
    "\xd7 {last}\n"
    "╰─> See above for output.\n"
)


def test_error_of_pip_is_what_the_program_that_it_started_reports() -> None:
    log = PIP.format(
        step="pip subprocess to install build dependencies",
        output="      ERROR: No matching distribution found for setuptools>=999",
        name="subprocess-exited-with-error",
        last="pip subprocess to install build dependencies did not run successfully.",
    )

    line, cause = error_and_cause(log)

    assert line == "ERROR: No matching distribution found for setuptools>=999"
    assert cause is not None
    assert cause.line == line


def test_error_of_pip_is_the_last_exception_of_the_traceback_in_its_output() -> None:
    log = PIP.format(
        step="Preparing metadata (pyproject.toml)",
        output=(
            "      Traceback (most recent call last):\n"
            '        File "<string>", line 2, in <module>\n'
            "      RuntimeError: libfoo is not configured"
        ),
        name="metadata-generation-failed",
        last="Encountered error while generating package metadata.",
    )

    line, cause = error_and_cause(log)

    assert line == "RuntimeError: libfoo is not configured"
    assert cause is not None
    assert cause.line == line


def test_error_of_pip_is_found_in_the_output_of_a_pip_that_it_started() -> None:
    outer = PIP.format(
        step="pip subprocess to install build dependencies",
        output=(
            "        error: subprocess-exited-with-error\n"
            "      \n"
            "        \xd7 Preparing metadata (pyproject.toml) did not run successfully.\n"
            "        │ exit code: 1\n"
            "        ╰─> [3 lines of output]\n"
            "            Traceback (most recent call last):\n"
            '              File "<string>", line 2, in <module>\n'
            "            ModuleNotFoundError: No module named 'distutils'\n"
            "            [end of output]\n"
            "      \n"
            "        note: This error originates from a subprocess, and is likely not a problem with pip."
        ),
        name="subprocess-exited-with-error",
        last="pip subprocess to install build dependencies did not run successfully.",
    )
    outer += "\nnote: This error originates from a subprocess, and is likely not a problem with pip.\n"

    line, cause = error_and_cause(outer)

    assert line == "ModuleNotFoundError: No module named 'distutils'"
    assert cause is not None
    assert cause.line == line


def test_error_of_pip_without_an_exception_is_a_line_of_the_output() -> None:
    log = PIP.format(
        step="Preparing metadata (pyproject.toml)",
        output="      the licence file is missing",
        name="metadata-generation-failed",
        last="Encountered error while generating package metadata.",
    )

    assert error_line(log) == "the licence file is missing"


def test_indented_line_of_a_message_is_not_taken_for_the_exception() -> None:
    log = (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in <module>\n'
        "ValueError: the child failed\n"
        "      RuntimeError: in the child\n"
    )

    assert error_line(log) == "ValueError: the child failed"
