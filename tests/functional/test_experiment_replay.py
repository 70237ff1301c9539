"""`lab replay`: a deterministic harness gives the same result, and differences are named."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from contract.sandbox.rooms import INSTALL
from relab.experiments.sdk import LabClient
from support.components.required import require_program
from support.experiments.projects import Project
from support.experiments.reference import PYTHON, reference, run_at_step, snapshot_of

DRAWING = """\
import random
event("agent_step_start", step_index=0)
number = random.SystemRandom().randrange(10**11, 10**12)
event("tool_call_end", call_id="1", tool={"name": f"draw {number}"}, outcome={"status": "ok"})
Path("drawn.txt").write_text(str(number))
answer(answer=number, metrics={"number": number})
"""


@pytest.mark.parametrize("mode", ["local", "bwrap"])
def test_replay_of_a_deterministic_harness_is_identical_and_does_not_change_the_run(tmp_path: Path, mode: str) -> None:
    if mode == "bwrap":
        require_program("bwrap", INSTALL)
    command = PYTHON if mode == "local" else ("python3", "harness.py")
    project = reference(
        tmp_path, command, steps=4, tasks=2, runtime={"sandbox": {"mode": mode}, "network": {"mode": "full"}}
    )
    run = project.run()
    before = snapshot_of(run.path)
    # The replay uses the project as it was when the run began.
    (project.root / "harness.py").write_text("raise SystemExit(9)")

    first = project.json("replay", "--run-dir", str(run.path), "--trial-id", "trial_1", "--strict")
    second = project.json("replay", "--run-dir", run.path.name, "--trial-id", "trial_2")

    assert first["identical"] is second["identical"] is True
    assert first["differences"] == second["differences"] == []
    assert (Path(first["replay_dir"]) / "trials" / "trial_1" / "trial_output.json").exists()
    assert snapshot_of(run.path) == before


def test_differences_of_a_replay_are_named(tmp_path: Path) -> None:
    project = Project.make(tmp_path, DRAWING, tasks=1)
    project.configure(runtime={"harness": {"integration_level": "cli_events"}})
    run = project.run()

    found = project.json("replay", "--run-dir", str(run.path), "--trial-id", "trial_1", code=1)
    said = project.lab("replay", "--run-dir", str(run.path), "--trial-id", "trial_1", code=1).out

    differences = {each["where"]: each for each in found["differences"]}
    assert differences.keys() == {"metric number", "output", "events", "file drawn.txt"}
    assert differences["metric number"]["before"] == str(run.rows["trial_1"]["metrics"]["number"])
    assert differences["events"]["after"].endswith("they differ from the 2. on")
    assert any(line.startswith("-") and "draw" in line for line in found["events"])
    assert "4 differences" in said


@pytest.mark.full
def test_replay_of_a_resumed_trial_compares_all_of_its_events(tmp_path: Path) -> None:
    project = reference(tmp_path)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        project.json("pause", "--run-dir", str(run.path))
        runner.end(130)
    project.json("resume", "--run-dir", str(run.path), "--no-telemetry")

    found = project.json("replay", "--run-dir", str(run.path), "--trial-id", "trial_1", code=None)

    # After a pause, the harness's output names only the checkpoints since then.
    assert {each["where"] for each in found["differences"]} <= {"output"}
    assert found["events"] == []


def test_trial_that_cannot_be_replayed_is_a_named_error(tmp_path: Path) -> None:
    project = Project.make(tmp_path, DRAWING, tasks=2)
    run = project.run()
    where = ("--run-dir", str(run.path))

    def code_of(*arguments: str) -> str:
        code: str = project.lab("replay", *where, *arguments, "--json", code=None).json["error"]["code"]
        return code

    assert code_of("--trial-id", "trial_3") == "trial_not_found"
    assert code_of("--trial-id", "x") == "trial_not_found"
    assert code_of("--trial-id", "trial_1", "--strict") == "trial_state"
    given = run.trial("trial_1") / "trial_input.json"
    kept = given.read_bytes()
    given.unlink()
    given.write_bytes(kept.replace(b"task_001", b"task_009"))
    assert code_of("--trial-id", "trial_1") == "run_damaged"
    shutil.rmtree(project.root / ".lab" / "cache")
    assert code_of("--trial-id", "trial_2") == "run_changed"


def test_trials_that_continue_from_others_are_refused(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=2)
    project.configure(design={"policies": {"state": "accumulate"}})
    run = project.run()

    answer = project.lab("replay", "--run-dir", str(run.path), "--trial-id", "trial_2", "--json", code=None).json

    assert answer["error"]["code"] == "trial_state"


@pytest.mark.full
def test_client_replays_and_clean_deletes_the_replays(tmp_path: Path) -> None:
    project = reference(tmp_path, steps=2)
    run = project.run()
    lab = str(Path(sys.executable).with_name("lab"))
    client = LabClient(runner_bin=lab, cwd=project.root, env={"RELAB_HOME": str(project.home)})

    assert client.replay(str(run.path), "trial_1", strict=True)["identical"] is True

    assert (project.root / ".lab" / "replays").is_dir()
    project.lab("clean", "--runs", "--yes")
    assert not (project.root / ".lab" / "replays").exists()
