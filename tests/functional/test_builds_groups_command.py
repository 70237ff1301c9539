"""`lab builds groups`, and the output of `run`, `watch` and `show` for a failure that repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.cli.builds.groups import ordinal
from support.builds.projects import write_project
from support.lab.cli import Lab

SCRIPT = "echo \"$PWD/a.c:$$:5: error: \x1b[31m'total'\x1b[0m undeclared after ${RANDOM:-3} ms\"; exit 1\n"


def test_repeated_failure_is_printed_with_its_ordinal(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", SCRIPT, sandbox="local")
    command = ("builds", "run", "project", "--policy", "fixed")

    first = lab.run(*command, code=1).out
    second = lab.run(*command, code=1).out
    watched = lab.run("builds", "watch", "project", "--policy", "fixed", "--passes", "1").out
    (group,) = lab.json("builds", "groups", "tiny")["items"]
    printed = lab.run("builds", "groups").out
    shown = lab.run("builds", "show", group["last_build"]).out

    assert "failed this way" not in first
    assert "[Monitor]  -> the 2nd build that failed this way since 20" in second
    assert "the 3rd build that failed this way since 20" in watched
    assert (group["count"], group["projects"], group["goes_on"]) == (3, ["tiny"], True)
    assert "'total' undeclared" in group["line"]
    # Where the line is broken depends on the length of the temporary folder's path.
    assert "'total' undeclared" in " ".join(printed.split())
    assert "the 3rd build that failed this way" in shown
    assert "\x1b" not in first + second + watched + printed + shown


def test_builds_that_exceed_their_time_limit_are_grouped_by_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", "echo $$; while :; do sleep 1; done\n", sandbox="local")

    for _ in range(2):
        lab.run("builds", "run", "project", "--policy", "fixed", "--set", "time_limit_s=0.3", code=1)

    (group,) = lab.json("builds", "groups")["items"]
    assert (group["count"], group["line"]) == (2, "The build took longer than its time limit of 0.3 s")


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (2, "2nd"), (4, "4th"), (11, "11th"), (23, "23rd"), (112, "112th")]
)
def test_ordinals_are_english(number: int, text: str) -> None:
    assert ordinal(number) == text
