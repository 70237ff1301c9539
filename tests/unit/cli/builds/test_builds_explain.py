"""`lab builds explain`: prints the lines that explain a failed build, read from log files."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from support.builds.logs import FOLDER, recorded
from support.lab.cli import Lab

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_explanation_prints_numbers_lines_and_reasons(empty: Lab) -> None:
    out = empty.run("builds", "explain", str(FOLDER / "gcc_undeclared.log")).out

    assert "C and C++ compilers: compiler error" in out
    assert re.search(r"^ +3  main\.c:5:32: error: 'offset' undeclared", out, re.MULTILINE)
    assert "unused variable" not in out


def test_lines_of_the_passing_log_are_left_out(empty: Lab) -> None:
    failed, passed = str(FOLDER / "pytest_failed.log"), str(FOLDER / "pytest_passing.log")

    printed = empty.json("builds", "explain", failed, "--passing", passed)

    texts = [line["text"] for line in printed["lines"]]
    assert "E       AssertionError: assert 5 == 6" in texts
    assert not [text for text in texts if "test session starts" in text]


def test_json_has_all_lines_with_roles_and_reasons(empty: Lab) -> None:
    printed = empty.json("builds", "explain", str(FOLDER / "make_no_rule.log"))

    assert printed["total_lines"] == 2
    assert printed["left_out"] is None
    (line,) = printed["lines"]
    assert line["number"] == 2
    assert line["role"] == "error"
    assert line["why"] == "make: missing prerequisite"


def test_log_is_read_from_standard_input(empty: Lab) -> None:
    out = empty.run("builds", "explain", "-", stdin=recorded("python_module")).out

    assert "ModuleNotFoundError: No module named 'yamlx'" in out


def test_escape_sequences_of_a_log_do_not_reach_the_terminal(empty: Lab) -> None:
    log = b"\x1b[2J\x1b]0;owned\x07error: \x1b[31mbad\x9b2J\x08 thing\x1b(0\x00\n[bold]error: [/bold] markup\n"

    out = empty.run("builds", "explain", "-", stdin=log).out

    assert not OBEYED.search(out)
    assert "[bold]error: [/bold] markup" in out


def test_long_stack_trace_is_folded_unless_all_is_asked_for(empty: Lab) -> None:
    log = "java.lang.IllegalStateException: no\n" + "".join(f"\tat shop.Cart.add(Cart.java:{n})\n" for n in range(500))

    folded = empty.run("builds", "explain", "-", stdin=log).out
    whole = empty.run("builds", "explain", "-", "--all", stdin=log).out

    assert "486 more lines" in folded
    assert len(folded.splitlines()) < 30
    assert len(whole.splitlines()) > 500


def test_several_errors_are_not_folded(empty: Lab) -> None:
    log = "".join(f"main.c:{n}:1: error: 'name{n}' undeclared\n" for n in range(1, 41))

    out = empty.run("builds", "explain", "-", stdin=log).out

    assert "more lines" not in out
    assert [n for n in range(1, 41) if f"'name{n}' undeclared" not in out] == []


def test_missing_log_is_named_with_a_remedy(empty: Lab, tmp_path: Path) -> None:
    outcome = empty.run("builds", "explain", str(tmp_path / "none.log"), code=64)

    assert "none.log' cannot be read: No such file or directory." in outcome.err


def test_folder_is_rejected_as_a_log(empty: Lab, tmp_path: Path) -> None:
    outcome = empty.run("builds", "explain", str(tmp_path), code=64)

    assert "cannot be read: Is a directory." in outcome.err


def test_empty_log_has_no_explanation(empty: Lab) -> None:
    assert "No line explains a failure." in empty.run("builds", "explain", "-").out


def test_known_failure_has_advice_and_the_lines_that_show_it(empty: Lab) -> None:
    out = empty.run("builds", "explain", "-", stdin=recorded("python_module")).out
    fix = empty.json("builds", "explain", "-", stdin=recorded("python_module"))["fix"]

    assert "What to do: Python module is missing (confidence 0.97)" in out
    assert "line 4: ModuleNotFoundError: No module named 'yamlx'" in out
    assert fix["incident"] == "python_module_missing"
    assert fix["suggestion"].startswith("Add the module's package")
    assert fix["quotes"] == [{"number": 4, "text": "ModuleNotFoundError: No module named 'yamlx'"}]


def test_unknown_failure_has_no_advice(empty: Lab) -> None:
    printed = empty.json("builds", "explain", "-", stdin="error: the frobnicator is unhappy\n")

    assert not printed["fix"]["is_known"]
    assert printed["fix"]["incident"] is None
    assert "no fix is suggested" in printed["fix"]["suggestion"]
    assert printed["fix"]["quotes"] == [{"number": 1, "text": "error: the frobnicator is unhappy"}]


def test_thousands_of_errors_are_shortened_unless_all_are_wanted(empty: Lab, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("".join(f"src/f{number}.c:1:5: error: 'x' undeclared\n" for number in range(3_000)))

    short = empty.run("builds", "explain", str(log)).out
    whole = empty.run("builds", "explain", str(log), "--all").out

    assert "2,880 more lines that explain the failure (--all prints them)" in short
    assert "src/f0.c" in short
    assert "src/f2999.c" in short
    assert "src/f1500.c" not in short
    assert "src/f1500.c" in whole


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_compressed_log_is_rejected_by_name(empty: Lab, tmp_path: Path, way: str) -> None:
    log = tmp_path / "build.log.gz"
    log.write_bytes(gzip.compress(b"make: *** [all] Error 1\n"))

    done = (
        empty.run("builds", "explain", str(log), code=64)
        if way == "file"
        else empty.run("builds", "explain", "-", stdin=log.read_bytes(), code=64)
    )

    assert "is compressed (gzip)" in done.err
    assert "gzip -dc" in done.err
