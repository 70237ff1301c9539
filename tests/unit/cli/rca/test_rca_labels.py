"""`lab rca label` and `lab rca labels`."""

from __future__ import annotations

import json

from relab.cli.output import EXIT_FAILED, EXIT_USAGE
from support.lab.cli import Lab
from support.telemetry.runs import failed_run, step


def test_labels_are_given_measured_exported_and_removed(empty: Lab) -> None:
    run = failed_run("r1", steps=[step("s1", agent_name="worker")])
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(run))
    refused = empty.run("rca", "label", "r1", "--note", "why", code=EXIT_USAGE).err
    given = empty.json("rca", "label", "r1", "--step", "s1", "--category", "timeout", "--note", "[red]it hung\x1b[2J")
    shown = empty.run("rca", "label", "r1").out
    measured = empty.json("rca", "labels", "--measure")
    file = empty.home / "labels.jsonl"
    empty.run("rca", "labels", "--export", str(file))
    empty.run("rca", "labels", "--export", str(file), code=EXIT_FAILED)

    assert "  label: a label needs a step, an agent or a category" in refused
    assert (given["step_id"], given["category"]) == ("s1", "timeout")
    assert "[red]it hung\\x1b[2J" in shown
    assert measured["labelled"] == 1
    assert {score["n"] for score in measured["scores"]} <= {0, 1}
    assert "95 % interval" in empty.run("rca", "labels", "--measure").out
    assert [json.loads(line)["run_id"] for line in file.read_text().splitlines()] == ["r1"]
    assert "r1" in empty.run("rca", "labels").out
    empty.run("rca", "label", "r1", "--remove")
    assert empty.json("rca", "labels")["items"] == []
    empty.run("rca", "label", "r1", code=EXIT_FAILED)
    empty.run("rca", "label", "r1", "--step", "s9", code=EXIT_USAGE)
    empty.run("rca", "label", "r1", "--note", "only", code=EXIT_USAGE)
    empty.run("rca", "label", "r1", "--remove", "--step", "s1", code=EXIT_USAGE)
