"""`lab rca train`."""

from __future__ import annotations

import json

import pytest

from relab.cli.output import EXIT_FAILED, EXIT_USAGE
from support.lab.cli import Lab
from support.telemetry.runs import minimal_run, step

RUNS = 10


@pytest.mark.full
def test_labels_train_a_model_that_ranks_the_runs_of_their_agent(empty: Lab) -> None:
    for number in range(RUNS):
        wrong = 1 + number % 3
        steps = [
            step(f"s{n}", n, output_summary=f"It is {number + 1_000}." if n == wrong else "We go on.") for n in range(5)
        ]
        empty.run(
            "agent-runs",
            "ingest",
            "-",
            stdin=json.dumps(minimal_run(f"r{number}", status="failure", steps=steps)),
        )
        if number == RUNS - 1:
            assert "9 runs" in empty.run("rca", "train", code=EXIT_USAGE).err
        empty.run("rca", "label", f"r{number}", "--step", f"s{wrong}")
    (trained,) = empty.json("rca", "train")["agents"]
    assert (trained["labels"], trained["trained"], trained["held_out"]) == (RUNS, True, RUNS)
    report = empty.json("rca", "r0")["report"]
    assert report["candidates"][0]["odds"]["all"] >= 0
    assert "probability" in empty.run("rca", "r0").out
    agent = trained["agent_name"]
    empty.run("rca", "train", "--agent", agent, "--remove")
    empty.run("rca", "train", "--agent", agent, "--remove", code=EXIT_FAILED)
    assert empty.json("rca", "r0", "--force")["report"]["candidates"][0]["odds"] is None


def test_removal_needs_an_agent(empty: Lab) -> None:
    empty.run("rca", "train", "--remove", code=EXIT_USAGE)
