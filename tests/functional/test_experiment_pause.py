"""`lab pause` and `lab resume` on running trials, with the reference harnesses and with silent ones."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from contract.sandbox.rooms import INSTALL
from relab.experiments.sdk import LabClient
from rig.waiting import wait_until
from support.components.required import require_program
from support.experiments.projects import Project, Run, Runner, read_lines
from support.experiments.reference import NODE, PYTHON, STEPS, reference, run_at_step, snapshot_of

MUTE = """\
Path(bindings["meet"], "started-" + ids["trial_id"]).write_text("")
time.sleep(600)
"""
"""A harness that reads no control file."""


def without_times(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events without acknowledgements, and without the fields that differ between runs of the same trial."""
    return [
        {name: value for name, value in event.items() if name not in {"ts", "seq", "ids"}}
        for event in events
        if event["event_type"] != "control_ack"
    ]


@pytest.mark.parametrize("command", [pytest.param(PYTHON, id="python"), pytest.param(NODE, id="node")])
def test_paused_trial_goes_on_from_its_checkpoint_and_ends_as_one_that_was_never_paused(
    tmp_path: Path, command: Sequence[str]
) -> None:
    if command is NODE:
        require_program("node", "apt-get install nodejs")
    project = reference(tmp_path, command)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        answer = project.json("pause", "--run-dir", str(run.path), "--trial", "trial_1", "--label", "lunch")
        runner.end(130)
    paused_s = time.time()

    (paused,) = answer["trials"]
    assert paused["status"] == "paused"
    assert paused["acknowledged"] is True
    assert paused["checkpoint"]["logical_name"] == "lunch"
    step = paused["checkpoint"]["step"]
    assert 3 <= step < STEPS
    assert run.json("runtime/run_control.json")["status"] == "paused"
    state = run.json("trials/trial_1/trial_state.json")
    assert state["status"] == "paused"
    assert state["pause_label"] == "lunch"
    assert state["checkpoint_selected"] == "lunch"
    assert run.journal() == []
    for name, schema in {"state/lab_control.json": "control_plane_v1", "trial_state.json": "trial_state_v1"}.items():
        project.lab("schema-validate", "--file", str(run.trial("trial_1") / name), "--schema", schema)

    pause_ms = 1_000 * (time.time() - paused_s)
    resumed = project.json("resume", "--run-dir", str(run.path), "--no-telemetry")

    assert resumed["finished"] is True
    row = run.rows["trial_1"]
    assert row["outcome"] == "success"
    assert row["hook_events_invalid"] == 0, row["hook_event_problems"]
    assert row["event_counts"]["agent_step_end"] == STEPS
    given = run.json("trials/trial_1/trial_input.json")
    assert given["ext"]["resume"]["label"] == "lunch"
    assert given["ext"]["resume"]["checkpoint"]["step"] == step
    project.lab("schema-validate", "--file", str(run.trial("trial_1") / "trial_input.json"))
    project.lab("experiments", "verify", str(run.path))
    for command in ("pause", "resume"):
        refused = project.lab(command, "--run-dir", str(run.path), code=1)
        assert f"All its trials have ended; to see them: lab trials {run.path}" in refused.err
    other = project.run()
    events = "out/harness_events.jsonl"
    assert without_times(read_lines(run.trial("trial_1") / events)) == without_times(
        read_lines(other.trial("trial_1") / events)
    )
    assert other.rows["trial_1"]["metrics"]["zeros"] == row["metrics"]["zeros"]
    # The duration of the trial does not include the pause.
    lasted = datetime.fromisoformat(row["ended_at"]) - datetime.fromisoformat(row["started_at"])
    assert row["duration_ms"] <= 1_000 * lasted.total_seconds() - pause_ms
    assert row["overhead_ms"] > 0


@pytest.mark.full
def test_paused_trial_in_bubblewrap_is_resumed(tmp_path: Path) -> None:
    require_program("bwrap", INSTALL)
    command = ("python3", "harness.py")
    project = reference(tmp_path, command, runtime={"sandbox": {"mode": "bwrap"}, "network": {"mode": "none"}})
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        (paused,) = project.json("pause", "--run-dir", str(run.path))["trials"]
        runner.end(130)

    assert paused["status"] == "paused"
    assert project.json("resume", "--run-dir", str(run.path), "--no-telemetry")["finished"] is True
    assert run.rows["trial_1"]["outcome"] == "success"
    assert run.rows["trial_1"]["event_counts"]["agent_step_end"] == STEPS


def test_pause_of_the_whole_run_starts_no_further_trial_and_resume_runs_the_paused_ones_alone(tmp_path: Path) -> None:
    project = reference(tmp_path, tasks=3, design={"max_concurrency": 2})
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner, "trial_2")
        answer = project.json("pause", "--run-dir", run.path.name)
        runner.end(130)

    assert {row["trial_id"]: row["status"] for row in answer["trials"]} == {"trial_1": "paused", "trial_2": "paused"}
    assert not run.trial("trial_3").exists()

    resumed = project.json("resume", "--run-dir", str(run.path), "--no-telemetry", code=130)

    assert resumed["trials"] == {"total": 3, "done": 2}
    assert {row["trial_id"] for row in run.journal()} == {"trial_1", "trial_2"}
    assert not run.trial("trial_3").exists()
    assert project.json("run", "--continue", str(run.path), "--no-telemetry")["finished"] is True
    assert len(run.rows) == 3


def test_pause_of_a_run_with_an_interrupted_trial_is_no_error_and_no_damage(tmp_path: Path) -> None:
    project = Project.make(tmp_path, MUTE, tasks=2)
    project.configure(
        baseline={"bindings": {"meet": str(tmp_path)}},
        design={"max_concurrency": 2},
        runtime={"timeouts": {"grace_seconds": 0.2}},
    )
    started = [tmp_path / f"started-trial_{number}" for number in (1, 2)]
    with project.start("--no-telemetry") as runner:
        runner.wait_for(*started)
        (path,) = project.runs()
        project.json("pause", "--run-dir", str(path), "--trial", "trial_1", "--timeout", "0.5", code=1)
        runner.press()
        runner.says("finishing the running trials")
        runner.press()
        runner.end(130)
    started[0].unlink()
    with Runner(project, ("resume", "--run-dir", str(path), "--no-telemetry", "--json"), {}) as runner:
        runner.wait_for(started[0])
        answer = project.json("pause", "--run-dir", str(path), "--timeout", "0.5", code=1)
        runner.end(130)

    statuses = {row["trial_id"]: row["status"] for row in answer["trials"]}
    assert statuses == {"trial_1": "stopped", "trial_2": "ended"}
    assert project.json("verify", str(path), code=2)["verdict"] == "unfinished"


@pytest.mark.full
def test_continued_run_resumes_paused_trials_too_and_a_pause_may_be_repeated(tmp_path: Path) -> None:
    project = reference(tmp_path, steps=60)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        project.json("pause", "--run-dir", str(run.path))
        runner.end(130)
    with Runner(project, ("run", "--continue", str(run.path), "--no-telemetry", "--json"), {}) as runner:
        run_at_step(runner, step=20)
        (second,) = project.json("pause", "--run-dir", str(run.path), "--label", "again")["trials"]
        runner.end(130)

    assert second["checkpoint"]["step"] >= 20
    assert project.json("run", "--continue", str(run.path), "--no-telemetry")["finished"] is True
    assert run.rows["trial_1"]["event_counts"]["agent_step_end"] == 60
    assert run.rows["trial_1"]["hook_events_invalid"] == 0
    assert sorted(path.name for path in (run.trial("trial_1") / "segments").iterdir()) == ["1", "2"]


def test_harness_that_does_not_acknowledge_is_ended_and_its_trial_begins_anew(tmp_path: Path) -> None:
    project = Project.make(tmp_path, MUTE, tasks=1)
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}}, runtime={"timeouts": {"grace_seconds": 0.2}})
    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1")
        (path,) = project.runs()
        answer = project.json("pause", "--run-dir", str(path), "--timeout", "0.5", code=1)
        runner.end(130)
        assert project.processes() == []

    (stopped,) = answer["trials"]
    assert stopped["status"] == "stopped"
    assert stopped["acknowledged"] is False
    assert stopped["reason"] == "the harness did not acknowledge the checkpoint within 0.5 s"
    assert Run(path).json("trials/trial_1/trial_state.json")["exit_reason"] == "pause_timeout"

    # The resumed trial starts again from its input, and waits again.
    (tmp_path / "started-trial_1").unlink()
    with Runner(project, ("resume", "--run-dir", str(path), "--no-telemetry", "--json"), {}) as runner:
        runner.wait_for(tmp_path / "started-trial_1")
        assert "resume" not in json.loads((path / "trials/trial_1/trial_input.json").read_bytes()).get("ext", {})


@pytest.mark.full
def test_trials_that_continue_from_a_paused_one_wait_for_it(tmp_path: Path) -> None:
    project = reference(tmp_path, tasks=2, design={"policies": {"state": "accumulate"}})
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        project.json("pause", "--run-dir", str(run.path), "--trial", "trial_1")
        runner.end(130)

    assert run.journal() == []
    assert project.json("run", "--continue", str(run.path), "--no-telemetry")["finished"] is True
    assert [row["trial_id"] for row in run.journal()] == ["trial_1", "trial_2"]


@pytest.mark.full
def test_killed_runner_leaves_a_paused_trial_that_can_be_resumed(tmp_path: Path) -> None:
    project = reference(tmp_path, tasks=2, steps=100, design={"max_concurrency": 2})
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner, "trial_2")
        project.json("pause", "--run-dir", str(run.path), "--trial", "trial_1")
        runner.kill()

    before = run.json("trials/trial_1/paused.json")
    project.json("resume", "--run-dir", str(run.path), "--trial", "trial_1", "--no-telemetry", code=130)
    assert [row["trial_id"] for row in run.journal()] == ["trial_1"]
    given = run.json("trials/trial_1/trial_input.json")
    known = {name: value for name, value in before["checkpoint"].items() if value is not None}
    assert given["ext"]["resume"]["checkpoint"] == known


def error_of(project: Project, *arguments: str) -> str:
    """Return the code of a command's error."""
    answer = project.lab(*arguments, "--json", code=None).json
    assert answer["ok"] is False
    code: str = answer["error"]["code"]
    return code


def test_invalid_pause_or_resume_is_a_named_error_and_changes_nothing(tmp_path: Path) -> None:
    # With so many steps the trial is paused long before its end, also on a busy machine.
    project = reference(tmp_path, tasks=2, steps=2_000)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        where = ("--run-dir", str(run.path))
        assert error_of(project, "pause", *where, "--trial", "trial_3") == "trial_not_found"
        assert error_of(project, "pause", *where, "--trial", "trial_01") == "trial_not_found"
        assert error_of(project, "pause", *where, "--trial", "../trial_1") == "trial_not_found"
        assert error_of(project, "pause", *where, "--trial", "trial_2") == "trial_state"
        assert error_of(project, "pause", *where, "--timeout", "0") == "invalid_input"
        assert error_of(project, "resume", *where, "--trial", "trial_1") == "run_busy"
        # A request that a crash left incomplete is replaced; a complete one is not.
        (run.trial("trial_1") / "pause_request.json").write_text('{"request_id": "x", "lab')
        project.json("pause", *where)
        runner.end(130)

    before = snapshot_of(run.path)
    assert error_of(project, "pause", *where) == "run_not_running"
    assert error_of(project, "resume", *where, "--trial", "trial_2") == "trial_state"
    assert error_of(project, "resume", *where, "--trial", "trial_9") == "trial_not_found"
    assert error_of(project, "resume", "--run-dir", "nothing") == "run_not_found"
    checkpoint = Path(run.json("trials/trial_1/paused.json")["checkpoint"]["path"])
    kept = checkpoint.read_bytes()
    checkpoint.unlink()
    assert error_of(project, "resume", *where) == "checkpoint_missing"
    checkpoint.write_bytes(kept)
    changed = snapshot_of(run.path)
    changed.pop("runtime/run.lock"), before.pop("runtime/run.lock")
    assert changed == before
    (run.trial("trial_1") / "paused.json").write_text("{}")
    assert error_of(project, "resume", *where) == "run_damaged"


@pytest.mark.full
def test_resume_without_the_snapshot_of_a_changed_project_needs_allow_drift(tmp_path: Path) -> None:
    project = reference(tmp_path)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        project.json("pause", "--run-dir", str(run.path))
        runner.end(130)
    shutil.rmtree(project.root / ".lab" / "cache")
    (project.root / "README").write_text("changed")

    refused = project.lab("resume", "--run-dir", str(run.path), "--no-telemetry", "--json", code=1).json
    allowed = project.json("resume", "--run-dir", str(run.path), "--no-telemetry", "--allow-drift")

    assert refused["error"]["code"] == "run_changed"
    assert run.json("manifest.json")["ext"]["snapshot"] in refused["error"]["message"]
    assert allowed["finished"] is True
    (record,) = read_lines(run.path / "runtime" / "drift.jsonl")
    assert record["before"] == run.json("manifest.json")["ext"]["snapshot"] != record["after"]
    assert any(record["after"] in warning for warning in allowed["warnings"])


@pytest.mark.full
def test_two_pauses_at_once_are_one_pause_and_one_named_error(tmp_path: Path) -> None:
    project = Project.make(tmp_path, MUTE, tasks=1)
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}}, runtime={"timeouts": {"grace_seconds": 0.2}})
    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1")
        (path,) = project.runs()
        arguments = ("pause", "--run-dir", str(path), "--trial", "trial_1", "--timeout", "3", "--json")
        with Runner(project, arguments, {}) as first:
            wait_until((path / "trials/trial_1/pause_request.json").exists, what="the first request")
            assert error_of(project, "pause", "--run-dir", str(path), "--trial", "trial_1") == "trial_state"
            assert first.end(1).json["trials"][0]["status"] == "stopped"
        runner.end(130)


@pytest.mark.full
def test_client_pauses_and_resumes(tmp_path: Path) -> None:
    # Long enough that the client's process starts before the trial ends, also on a busy machine.
    project = reference(tmp_path, steps=150)
    client = LabClient(
        runner_bin=str(Path(sys.executable).with_name("lab")), cwd=project.root, env={"RELAB_HOME": str(project.home)}
    )
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        answer = client.pause(str(run.path), trials=["trial_1"], label="by hand", timeout_s=20)
        runner.end(130)

    assert answer["trials"][0]["checkpoint"]["logical_name"] == "by hand"
    assert client.resume(str(run.path)).finished is True
