"""The demo's view of a rollout: its plan, its printed verdict, and the problems of its end."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from demo.rollout_act import LIFTED, THROTTLE, RolloutEnd, end_panel, plan_document, read_end
from relab.rollouts.service import parse_plan

BEFORE = {"policy": "fixed", "max_concurrency": THROTTLE["control"]["max_concurrency"]}
AFTER = {"policy": "fixed", "max_concurrency": LIFTED["conc_cap"]}
CHART = Path("reports/LAB_COMBO_REPORT.html")
PASSED = RolloutEnd(
    code=0,
    report={"message": "PASS: better [bold]by far[/bold]\x1b", "delta_p95_pct": -84.94, "error_rate_pct": 0.0},
    in_force=AFTER,
    files=(CHART,),
)


def test_plan_is_valid_and_measures_eight_rounds() -> None:
    plan = parse_plan(yaml.safe_dump(plan_document("http://127.0.0.1:1")), "rollout.yaml")

    assert plan.experiment.rounds == 8
    assert plan.experiment.conc_cap == LIFTED["conc_cap"]


@pytest.mark.parametrize("code", [1, 2])
def test_unchanged_flags_are_correct_if_the_rollout_did_not_pass(code: int) -> None:
    assert replace(PASSED, code=code, in_force=BEFORE).problems == []


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (replace(PASSED, in_force=BEFORE), "should allow 64 requests"),
        (replace(PASSED, code=1), "should allow 1 requests"),
        (replace(PASSED, code=69, in_force=BEFORE), "without a verdict (exit code 69)"),
        (replace(PASSED, files=()), "no chart"),
    ],
)
def test_end_reports_its_problem(end: RolloutEnd, problem: str) -> None:
    (found,) = end.problems
    assert problem in found


def test_end_shows_the_verdict_as_text_and_the_path_of_the_chart() -> None:
    out = StringIO()
    Console(file=out, width=100, color_system=None).print(end_panel(PASSED))
    shown = " ".join(out.getvalue().split())

    assert PASSED.problems == []
    assert "PASS: better [bold]by far[/bold]" in shown
    assert "\x1b" not in shown
    assert "-84.9 %" in shown
    assert str(CHART) in shown


def test_reports_of_the_rollout_are_read(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "LAB_COMBO_REPORT_MINI.json").write_text(json.dumps({"message": "EDGE"}))
    (reports / "LAB_COMBO_REPORT.html").write_text("<!doctype html>")

    end = read_end(2, BEFORE, tmp_path)

    assert end.report == {"message": "EDGE"}
    assert end.files == (reports / "LAB_COMBO_REPORT.html",)


def test_rollout_without_reports_has_a_problem(tmp_path: Path) -> None:
    assert read_end(64, BEFORE, tmp_path).report == {}
