"""`lab builds tests`: the sentences about tests, and its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.builds.models import BuildTestOutcome
from relab.builds.service import HistoryEvidence, HistoryStatus, JudgedTest
from relab.cli.builds.tests import evidence_text
from support.lab.in_process import InProcessLab


def judged(status: HistoryStatus, *evidence: tuple[str, BuildTestOutcome, bool]) -> JudgedTest:
    shown = tuple(
        HistoryEvidence(build_id=build, started_at=0, outcome=outcome, is_inferred=is_inferred)
        for build, outcome, is_inferred in evidence
    )
    return JudgedTest(test_id="1", project="p", name="t", status=status, evidence=shown, streak=1)


PASSED = ("A", BuildTestOutcome.PASSED, False)
INFERRED = ("A", BuildTestOutcome.PASSED, True)
FAILED = ("B", BuildTestOutcome.FAILED, False)


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (judged(HistoryStatus.BROKEN, PASSED, FAILED), "broken since build B (1 build); before, it passed in build A"),
        (
            judged(HistoryStatus.BROKEN, INFERRED, FAILED),
            (
                "broken since build B (1 build); before, it counts as passed in build A, which succeeded and whose log does"
                " not name it"
            ),
        ),
        (
            judged(HistoryStatus.FIXED, FAILED, INFERRED),
            (
                "fixed since build A (1 build), because it counts as passed in build A, which succeeded and whose log does"
                " not name it; it failed in B"
            ),
        ),
        (judged(HistoryStatus.FIXED, FAILED, PASSED), "fixed since build A (1 build); it failed in B"),
        (
            judged(HistoryStatus.FLAKY, FAILED, INFERRED),
            (
                "known flaky: the same input failed in build B, counts as passed in build A, which succeeded and whose log"
                " does not name it"
            ),
        ),
        (judged(HistoryStatus.CHANGING, PASSED, FAILED), "changing: passed in build A, failed in build B"),
    ],
)
def test_inferred_pass_is_described_as_inferred(test: JudgedTest, text: str) -> None:
    assert evidence_text(test) == text


def test_flaky_with_another_status_is_rejected(empty: InProcessLab) -> None:
    outcome = empty.run("builds", "tests", "--flaky", "--status", "broken", code=64)

    assert "--status is 'broken'" in outcome.err


def test_flaky_with_the_same_status_is_accepted(empty: InProcessLab) -> None:
    assert empty.json("builds", "tests", "--flaky", "--status", "flaky")["items"] == []


@pytest.mark.parametrize(
    "arguments",
    [["tests"], ["groups"], ["suggestions"], ["list", "--project"], ["decisions", "--project"]],
    ids=lambda arguments: str(arguments[0]),
)
def test_list_of_an_unknown_project_is_an_error_that_names_the_known_ones(
    empty: InProcessLab, arguments: list[str], tmp_path: Path
) -> None:
    none = empty.run("builds", *arguments, "odd", code=1).err
    (tmp_path / "ci.log").write_text("all good\n")
    empty.run("builds", "ingest", str(tmp_path / "ci.log"), "--project", "engine", "--status", "success")

    assert "Nothing is recorded for a project 'odd'. Record one: lab builds run" in none
    assert (
        "Nothing is recorded for a project 'odd'. There are: engine."
        in empty.run("builds", *arguments, "odd", code=1).err
    )
    assert "items" in empty.json("builds", *arguments, "engine")
