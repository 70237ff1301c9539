"""The exit codes of `lab run`, `describe` and `compare`, a case for each row of the table in docs/experiments.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.experiments.projects import Project

BY_TASK = """\
does = bindings.get("does") or task["does"]
if does == "waits":
    time.sleep(600)
if does == "spends":
    event("agent_step_start", step_index=0)
    event("agent_step_start", step_index=1)
    time.sleep(600)
if does == "exits":
    sys.exit(7)
answer(does if does in ("success", "failure", "error") else "success")
if does == "answers_and_exits":
    sys.exit(7)
"""
OTHER = [{"variant_id": "other", "bindings": {"does": "success"}}]
PRUNED = {"policies": {"pruning": {"max_consecutive_failures": 2}}}
ROWS: list[tuple[str, list[str], dict[str, Any], int, list[str]]] = [
    ("every trial succeeds", ["success"], {}, 0, []),
    ("every trial fails", ["failure"], {}, 0, []),
    ("some trials are errors", ["exits", "success"], {}, 0, []),
    ("every trial is an error", ["exits"], {}, 1, ["control"]),
    ("every harness reports an error", ["error"], {}, 1, ["control"]),
    ("only the baseline's trials are errors", ["exits"], {"variant_plan": OTHER}, 1, ["control"]),
    ("every trial times out", ["waits"], {"runtime": {"timeouts": {"trial_seconds": 0.5}}}, 1, ["control"]),
    (
        "every trial goes beyond its budget",
        ["spends"],
        {"runtime": {"harness": {"integration_level": "cli_events"}, "budgets": {"max_steps": 1}}},
        1,
        ["control"],
    ),
    ("a variant is pruned after failures", ["failure"] * 4, {"design": PRUNED}, 0, []),
    ("a variant is pruned after errors", ["exits"] * 4, {"design": PRUNED}, 1, ["control"]),
]


def made(folder: Path, does: list[str], **sections: Any) -> Project:
    project = Project.make(folder, BY_TASK, [{"task_id": f"task_{n}", "does": what} for n, what in enumerate(does)])
    project.configure(**sections)
    return project


@pytest.mark.parametrize(
    ("does", "sections", "code", "without"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_finished_run_fails_only_if_a_variant_has_no_result(
    tmp_path: Path, does: list[str], sections: dict[str, Any], code: int, without: list[str]
) -> None:
    run = made(tmp_path, does, **sections).run(code=code)

    assert run.answer["finished"] is True
    assert run.answer["exit_code"] == code
    assert run.answer["variants_without_result"] == without


def test_run_in_which_every_trial_is_an_error_warns_and_keeps_its_exit_code(tmp_path: Path) -> None:
    project = made(tmp_path, ["exits", "exits"])
    told = project.lab("run", "--no-telemetry", "--quiet", code=1)

    assert "lab: warning: 2 of 2 trials ended in an error" in told.err
    assert "lab: no trial of 'control' has a result: each ended in an error or was not run" in told.err
    (run_dir,) = project.runs()
    assert project.json("run", "--continue", str(run_dir), "--no-telemetry", code=1)["exit_code"] == 1
    # A run with one variant has no comparison.
    assert project.json("compare", str(run_dir), code=2)["verdict"] == "INVALID"


def test_harness_that_exits_nonzero_after_its_result_is_shown_everywhere(tmp_path: Path) -> None:
    project = made(tmp_path, ["answers_and_exits", "success"])
    told = project.lab("run", "--no-telemetry", "--quiet")
    (run_dir,) = project.runs()

    assert "harness_exit_nonzero in 1 trial(s), first in trials/trial_1: the harness ended with exit code 7" in told.out
    answer = project.json("run", "--continue", str(run_dir), "--no-telemetry")
    (problem,) = answer["problems"]
    assert problem["kind"] == "harness_exit_nonzero"
    assert problem["trials"] == 1
    assert answer["outcomes"] == {"control": {"success": 2}}
    rows = [json.loads(line) for line in (run_dir / "analysis" / "tables" / "trials.jsonl").read_text().splitlines()]
    assert sorted((row["exit_code"], row["outcome"]) for row in rows) == [(0, "success"), (7, "success")]
    summary = json.loads((run_dir / "analysis" / "summary.json").read_bytes())
    assert summary["variants"]["control"]["nonzero_exits"] == 1
    report = (run_dir / "analysis" / "report.html").read_text()
    assert "control: in 1 trials the\nharness ended with an exit code other than 0" in report


@pytest.mark.parametrize("what", ["missing", "not executable", "not on the PATH"])
def test_harness_that_cannot_be_started_is_refused_by_run_and_by_describe(tmp_path: Path, what: str) -> None:
    project = made(tmp_path, ["success"])
    commands = {
        "missing": ["python3", "./absent.py"],
        "not executable": ["./data/tasks.jsonl"],
        "not on the PATH": ["no-such-x"],
    }
    project.configure(command=commands[what])

    described = project.json("describe", code=64)

    assert described["ok"] is False
    assert described["command"] == "describe"
    assert described["error"]["code"] == "experiment_invalid"
    assert described["summary"]["total_trials"] == 1
    assert described["error"]["message"] == described["summary"]["harness_problem"]
    assert project.json("run", "--no-telemetry", code=64)["error"]["message"] == described["error"]["message"]
    told = project.lab("describe", code=64)
    assert "total_trials: 1" in told.out
    assert "Every trial would fail." in told.err
