"""`lab agent-runs delete`: all named runs, after a question, or none."""

from __future__ import annotations

import json

from support.lab.cli import Lab
from support.telemetry.runs import minimal_run

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 64, 130


def test_runs_are_deleted_after_a_question(empty: Lab) -> None:
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps([minimal_run("a"), minimal_run("b"), minimal_run("c")]))

    empty.run("agent-runs", "delete", "c", stdin="n\n", code=EXIT_INTERRUPTED)
    empty.run("agent-runs", "delete", "c", code=EXIT_USAGE)
    empty.run("agent-runs", "delete", "a", stdin="y\n")
    assert empty.json("agent-runs", "delete", "b", "--yes")["run_ids"] == ["b"]

    assert [run["run_id"] for run in empty.json("agent-runs", "list")["items"]] == ["c"]


def test_no_run_is_deleted_if_one_of_them_does_not_exist(empty: Lab) -> None:
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps([minimal_run("a"), minimal_run("b")]))

    failed = empty.run("agent-runs", "delete", "a", "missing", "b", "--yes", code=EXIT_FAILED)
    assert "There is no agent run 'missing'." in failed.err
    assert len(empty.json("agent-runs", "list")["items"]) == 2

    assert empty.run("agent-runs", "delete", "a", "a", "b", "--yes").out == "2 deleted.\n"
