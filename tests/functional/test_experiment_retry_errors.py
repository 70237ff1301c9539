"""Trials that ended in an error run again, and no others; the files of their earlier attempts are kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from support.experiments.projects import Project, Run

HARNESS = """\
with open(bindings["meet"] + "/launches", "a") as file:
    file.write(ids["trial_id"] + "\\n")
metrics = {"cost_usd": 1.0}
if task.get("breaks") and not os.path.exists(bindings["meet"] + "/repaired"):
    print("the service is down")
    answer("error", metrics=metrics, error={"error_type": "service_down", "message": "the service is down"})
else:
    answer("failure" if task.get("fails") else "success", metrics=metrics)
"""
TASKS = [{"task_id": "good"}, {"task_id": "bad", "breaks": True}, {"task_id": "hard", "fails": True}]


def _project(tmp_path: Path, **policies: object) -> Project:
    project = Project.make(tmp_path, HARNESS, TASKS)
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}}, design={"policies": policies})
    return project


def _launches(tmp_path: Path) -> Counter[str]:
    return Counter((tmp_path / "launches").read_text().split())


@pytest.mark.full
def test_trials_with_errors_run_again_and_their_earlier_attempts_are_kept(tmp_path: Path) -> None:
    project = _project(tmp_path, retry={"max_attempts": 2})
    run = project.run()
    assert run.by_task["bad"]["error_type"] == "service_down"
    before = run.by_task

    # The first retry fails again; with the service repaired the second one does not.
    again = project.json("run", "--continue", str(run.path), "--retry-errors", "--no-telemetry")
    assert again["retried"] == 1
    assert again["trials"] == {"total": 3, "done": 3}
    (tmp_path / "repaired").touch()
    last = project.json("run", "--continue", str(run.path), "--retry-errors", "--no-telemetry", "--max-cost-usd", "9")
    after = Run(run.path).by_task

    assert last["outcomes"] == {"control": {"success": 2, "failure": 1}}
    assert after["bad"]["outcome"] == "success"
    assert {name: after[name] for name in ("good", "hard")} == {name: before[name] for name in ("good", "hard")}
    assert sorted(_launches(tmp_path).values()) == [1, 1, 5]
    trial_id = after["bad"]["trial_id"]
    for number in ("1", "2"):
        kept = run.path / "retries" / trial_id / number
        assert json.loads((kept / "trial_output.json").read_bytes())["outcome"] == "error"
        assert (kept / "stdout.log").read_text() == "the service is down\n"
        assert (kept / "attempts" / "1" / "stdout.log").exists()
    assert project.json("experiments", "verify", str(run.path))["whole"] is True
    assert project.json("trials", str(run.path), "--outcome", "error")["trials"] == []
    # Without an error there is nothing to retry, and the cost of every attempt has been counted: 7 USD.
    done = project.json("run", "--continue", str(run.path), "--retry-errors", "--max-cost-usd", "7", "--no-telemetry")
    assert (done["retried"], done["finished"]) == (0, True)


def test_agent_run_of_a_retried_trial_replaces_the_one_of_the_error(tmp_path: Path) -> None:
    project = _project(tmp_path)
    run = project.run(telemetry=True)
    name = run.by_task["bad"]["agent_run_id"]
    assert project.json("agent-runs", "show", name)["run"]["status"] == "failure"
    (tmp_path / "repaired").touch()
    # Without telemetry this is like a kill before the process committed its agent runs.
    project.json("run", "--continue", str(run.path), "--retry-errors", "--no-telemetry")
    answer = project.json("run", "--continue", str(run.path))

    assert answer["agent_runs"] == {"stored": 1, "failed": 0}
    assert project.json("agent-runs", "show", name)["run"]["status"] == "success"


def test_agent_run_that_a_person_deleted_is_not_sent_again(tmp_path: Path) -> None:
    project = _project(tmp_path)
    run = project.run(telemetry=True)
    names = {task: row["agent_run_id"] for task, row in run.by_task.items()}
    project.lab("agent-runs", "delete", *names.values(), "--yes")
    (tmp_path / "repaired").touch()

    answer = project.json("run", "--continue", str(run.path), "--retry-errors")

    # Only the trial that ran again has an agent run again.
    assert answer["retried"] == 1
    assert answer["agent_runs"] == {"stored": 1, "failed": 0}
    assert [item["run_id"] for item in project.json("agent-runs", "list")["items"]] == [names["bad"]]


def test_a_retry_that_is_stopped_by_a_ceiling_is_finished_by_continuing(tmp_path: Path) -> None:
    project = _project(tmp_path)
    run = project.run()
    # 3 USD are spent, so the withdrawn trial does not start: it has no result until the run is continued.
    ceiling = ("--retry-errors", "--max-cost-usd", "3")
    stopped = project.json("run", "--continue", str(run.path), *ceiling, "--no-telemetry", code=75)
    assert stopped["trials"] == {"total": 3, "done": 2}
    (tmp_path / "repaired").touch()
    answer = project.json("run", "--continue", str(run.path), "--max-cost-usd", "0", "--no-telemetry")

    assert answer["outcomes"] == {"control": {"success": 2, "failure": 1}}
    assert len(Run(run.path).rows) == 3


def test_invalid_retry_of_errors_is_rejected_and_changes_nothing(tmp_path: Path) -> None:
    project = _project(tmp_path, state="persist_per_task")
    run = project.run()
    before = {path: path.read_bytes() for path in run.path.rglob("*.json*")}

    answer = project.json("run", "--continue", str(run.path), "--retry-errors", "--no-telemetry", code=1)
    assert answer["error"]["code"] == "trial_state"
    assert "--continue" in project.lab("run", "--retry-errors", code=64).err
    assert {path: path.read_bytes() for path in run.path.rglob("*.json*")} == before
