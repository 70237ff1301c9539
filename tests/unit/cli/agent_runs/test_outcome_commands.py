"""Outcomes on the command line: listed, filtered, counted and recomputed."""

from __future__ import annotations

import json

from support.lab.cli import Lab
from support.telemetry.runs import minimal_run, tool_call

UNRECOVERED = tool_call("c", status="failure", args_json={"id": 1}, error_message="timed out")


def test_outcomes_are_listed_filtered_and_counted_and_current_runs_need_no_remap(empty: Lab) -> None:
    runs = [minimal_run("good"), minimal_run("late", tool_calls=[UNRECOVERED])]
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(runs))

    [found] = empty.json("agent-runs", "list", "--outcome", "completed_with_errors")["items"]
    assert found["run_id"] == "late"
    assert found["status"] == "success"
    assert found["outcome_rule"] == "tool_failed"
    assert found["outcome_evidence"][0]["text"] == "timed out"

    figures = empty.json("metrics", "--hours", "1000000")
    assert figures["success_rate"] == 50
    assert figures["outcomes"] == {"succeeded": 1, "completed_with_errors": 1, "failed": 0, "unknown": 0}
    assert figures["runs_without_cost"] == 2

    remapped = empty.json("agent-runs", "remap", "--since", "2024-01-01T00:00:00Z")
    assert remapped["runs"] == 0
    assert remapped["outcomes_changed"] == 0


def test_unknown_cost_is_a_dash(empty: Lab) -> None:
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps([minimal_run("free")]))
    shown = empty.run("metrics", "--hours", "1000000").out

    costs = [line.split() for line in shown.splitlines() if "cost" in line]
    assert costs == [["cost", "-"], ["estimated", "cost", "-"]]
    assert "0.0000" not in shown
