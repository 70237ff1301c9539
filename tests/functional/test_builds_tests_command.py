"""`lab builds tests`, and the output of `run`, `watch`, `show` and `explain` for failed tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.builds.projects import write_project
from support.lab.cli import Lab

FLAKY = """\
if [ -e {mark} ]; then rm {mark}; echo "tests/t.py::test_net PASSED [100%]"; exit 0; fi
touch {mark}
printf 'FAILED tests/t.py::test_net - OSError: \\033[31mreset\\033[0m\\n'; exit 1
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {})


def test_failed_test_with_both_outcomes_in_its_history_is_shown_as_flaky(lab: Lab, tmp_path: Path) -> None:
    write_project(tmp_path / "project", FLAKY.format(mark=tmp_path / "mark"), sandbox="local")
    policy = ("builds", "run", "project", "--policy", "fixed")

    first = lab.run(*policy, code=1).out
    lab.run(*policy)
    third = lab.run(*policy, code=1).out
    listed = lab.run("builds", "tests", "tiny", "--flaky").out
    (item,) = lab.json("builds", "tests", "--status", "flaky")["items"]
    build = lab.json("builds", "list", "--limit", "1")["items"][0]
    shown = lab.run("builds", "show", build["build_id"]).out
    (tmp_path / "ci.log").write_text("FAILED tests/t.py::test_net - OSError\nFAILED tests/t.py::test_new - x\n")
    explained = lab.run("builds", "explain", "ci.log", "--project", "tiny").out
    found = json.loads(lab.run("builds", "explain", "ci.log", "--project", "tiny", "--json").out)["failing_tests"]
    lab.run(*policy)
    watched = json.loads(
        lab.run("builds", "watch", "project", "--policy", "fixed", "--passes", "1", "--json").out.splitlines()[0]
    )

    assert "[Tests]    -> tests/t.py::test_net: no recorded build passed it: 1 of 1 failed since build" in first
    assert "[Tests]    -> tests/t.py::test_net: known flaky: the same input passed in build" in third
    assert "tests/t.py::test_net" in listed
    assert item["failures"] == 2
    assert "known flaky: the same input" in shown
    assert "1 failed" in shown
    assert "known flaky: the same input" in explained
    assert [test["name"] for test in found] == ["tests/t.py::test_net"]
    assert [test["status"] for test in watched["failing_tests"]] == ["flaky"]
    assert "\x1b" not in first + third + listed + shown + explained


def test_unknown_status_is_rejected_with_the_known_ones(lab: Lab) -> None:
    assert "flaky | broken" in lab.run("builds", "tests", "--status", "odd", code=64).err


@pytest.mark.parametrize(
    ("command", "before"),
    [
        ("tests", "x"),
        ("tests", "-000000000000000.b"),
        ("tests", "g" * 16 + ".b"),
        ("groups", "x"),
        ("groups", "9" * 30),
    ],
)
def test_invalid_cursor_of_a_list_is_rejected_by_commands(lab: Lab, command: str, before: str) -> None:
    assert "does not continue this list" in lab.run("builds", command, f"--before={before}", code=64).err
