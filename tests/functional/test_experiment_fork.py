"""`lab fork`: trials that begin at a checkpoint of other trials, and their comparison with those trials."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.sandbox.rooms import INSTALL
from relab.core.clock import SystemClock
from relab.core.errors import RelabError
from relab.experiments.models import ForkOptions, StopSwitch
from relab.experiments.sdk import LabClient, LabRunnerError
from relab.experiments.service import ExperimentService
from support.components.required import require_program
from support.experiments.projects import Project, Run, read_lines
from support.experiments.reference import NODE, PYTHON, reference, run_at_step, snapshot_of

STEPS = 5
FAST = {"bindings": {"step_seconds": 0, "numbers_per_step": 50}}
EVENTS = "out/harness_events.jsonl"


def fork(project: Project, run: Run, *options: str, code: int = 0) -> Run:
    answer = project.json("fork", "--run-dir", str(run.path), *options, "--no-telemetry", code=code)
    return Run(Path(answer["run"]["run_dir"]), answer)


def made(tmp_path: Path, command: Sequence[str] = PYTHON, **sections: Any) -> tuple[Project, Run]:
    project = reference(tmp_path, command, steps=STEPS, **sections)
    document = json.loads(project.experiment.read_text())
    project.experiment.write_text(json.dumps({**document, "baseline": document["baseline"] | FAST}))
    return project, project.run()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Run]:
    return made(tmp_path_factory.mktemp("shared"), tasks=2)


def steps_of(run: Run, trial_id: str = "trial_1") -> list[int]:
    events = read_lines(run.trial(trial_id) / EVENTS)
    return [event["step_index"] for event in events if event["event_type"] == "agent_step_end"]


@pytest.mark.parametrize(
    ("command", "mode"),
    [
        pytest.param(PYTHON, "local", id="python"),
        pytest.param(NODE, "local", id="node"),
        pytest.param(("python3", "harness.py"), "bwrap", id="python-bwrap"),
    ],
)
def test_fork_without_changes_ends_like_its_parent(tmp_path: Path, command: Sequence[str], mode: str) -> None:
    if command is NODE:
        require_program("node", "apt-get install nodejs")
    if mode == "bwrap":
        require_program("bwrap", INSTALL)
    project, run = made(tmp_path, command, tasks=1, runtime={"sandbox": {"mode": mode}, "network": {"mode": "full"}})
    before = snapshot_of(run.path)
    # The fork uses the project as it was when the run began.
    for path in project.root.glob("harness.*"):
        path.write_text("not a program")

    forked = fork(project, run, "--from-trial", "trial_1", "--at", "step:3", "--strict")

    assert steps_of(forked) == [4, 5]
    outputs = [each.json("trials/trial_1/trial_output.json") for each in (run, forked)]
    assert outputs[0]["answer"] == outputs[1]["answer"]
    assert outputs[0]["metrics"] == outputs[1]["metrics"]
    given = forked.json("trials/trial_1/trial_input.json")["ext"]["fork"]
    place = "/state" if mode == "bwrap" else str(forked.trial("trial_1") / "state")
    assert given == {
        "parent_run_id": run.path.name,
        "parent_trial_id": "trial_1",
        "selector": "step:3",
        "source_checkpoint": f"{place}/checkpoint-3.json",
        "strict": True,
        "fallback_mode": "checkpoint",
        "checkpoint": {"path": f"{place}/checkpoint-3.json", "logical_name": "step-3", "step": 3},
    }
    assert forked.json("trials/trial_1/trial_state.json")["checkpoint_selected"] == "step-3"
    project.lab("schema-validate", "--file", str(forked.trial("trial_1") / "trial_input.json"))
    project.lab("schema-validate", "--file", str(forked.path / "attestation.json"), "--schema", "attestation_v1")
    assert snapshot_of(run.path) == before
    for path in (run.path, forked.path):
        project.lab("verify", str(path))


@pytest.mark.parametrize(
    ("selector", "steps"),
    [("checkpoint:step-4", [5]), ("event_seq:7", [3, 4, 5]), ("event_seq:8", [4, 5])],
)
def test_selectors_choose_the_checkpoint(shared: tuple[Project, Run], selector: str, steps: list[int]) -> None:
    project, run = shared
    # Each step has three events: its start, its end and the acknowledgement.
    events = read_lines(run.trial("trial_1") / EVENTS)
    assert [event["seq"] for event in events if event["event_type"] == "agent_step_end"] == [2, 5, 8, 11, 14]

    forked = fork(project, run, "--from-trial", "trial_1", "--at", selector)

    assert steps_of(forked) == steps


def test_forks_of_a_variant_are_compared_with_their_parents(shared: tuple[Project, Run]) -> None:
    project, run = shared

    forked = fork(
        project,
        run,
        "--variant",
        "control",
        "--at",
        "step:2",
        "--set",
        "numbers_per_step=4000",
        "--set",
        "model.size=3",
    )

    given = forked.json("trials/trial_2/trial_input.json")
    assert given["bindings"] == {"step_seconds": 0, "numbers_per_step": 4000, "model": {"size": 3}}
    assert forked.answer["fork"]["fallback_modes"] == {"checkpoint": 2}
    assert any("model.size is not among the bindings" in text for text in forked.answer["warnings"])
    listed = project.json("trials", str(forked.path))["trials"]
    assert {row["trial_id"]: row["parent"] for row in listed} == {
        f"trial_{number}": f"{run.path.name}.trial_{number}" for number in (1, 2)
    }
    table = forked.table("trials")
    assert [row["variant_id"] for row in table[:2]] == ["control", "control"]
    assert {row["run_id"] for row in table[:2]} == {run.path.name}
    compared = project.json("compare", str(forked.path), "--gate", "zeros>=1", "--gate", "duration_ms<=0", code=None)
    zeros, duration = compared["results"]
    parents = [row["metrics"]["zeros"] for row in run.rows.values()]
    forks = [
        json.loads((forked.trial(f"trial_{n}") / "trial_output.json").read_bytes())["metrics"]["zeros"] for n in (1, 2)
    ]
    assert zeros["estimate"] == pytest.approx(sum(forks) / 2 - sum(parents) / 2)
    assert zeros["windows"] == 2
    assert duration["verdict"] == "INVALID"
    assert "counts from the fork on" in duration["reason"]
    assert compared["fork"].startswith("From step 2 on, with numbers_per_step 4000, model.size 3: 2 forks against")
    shown = project.lab("compare", str(forked.path), code=None).out
    assert "From step 2 on, with numbers_per_step 4000" in shown


def test_forks_are_compared_with_a_control_that_changes_nothing(shared: tuple[Project, Run]) -> None:
    project, run = shared

    forked = fork(project, run, "--variant", "control", "--at", "step:2", "--set", "numbers_per_step=9", "--control")

    assert {row["variant_id"] for row in forked.rows.values()} == {
        "control@step:2",
        "control@step:2,numbers_per_step=9",
    }
    assert len(forked.rows) == 4
    compared = project.json("compare", str(forked.path), "--gate", "step_count>=0", code=None)
    assert compared["results"][0]["estimate"] == 0
    assert compared["baseline"] == "control@step:2"


def test_fork_can_be_forked_replayed_and_continued(shared: tuple[Project, Run]) -> None:
    project, run = shared
    first = fork(project, run, "--from-trial", "trial_2", "--at", "step:2", "--set", "numbers_per_step=70")

    second = fork(project, first, "--from-trial", "trial_1", "--at", "step:4", "--strict")
    replayed = project.json("replay", "--run-dir", str(second.path), "--trial-id", "trial_1", "--strict")

    assert steps_of(second) == [5]
    assert second.json("trials/trial_1/trial_input.json")["bindings"]["numbers_per_step"] == 70
    assert second.json("trials/trial_1/trial_input.json")["ids"]["task_id"] == "task_2"
    assert replayed["identical"] is True
    for name in ("journal.jsonl", "attestation.json"):
        (first.path / name).unlink()
    project.lab("run", "--continue", str(first.path), "--no-telemetry")
    assert [row["parent"] for row in project.json("trials", str(first.path))["trials"]] == [f"{run.path.name}.trial_2"]


ONE = {"trials": ("trial_1",)}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"trials": ("trial_9",)}, "trial_not_found"),
        ({"trials": ("../trial_1",)}, "trial_not_found"),
        ({"variant": "x"}, "trial_not_found"),
        ({}, "fork_invalid"),
        (ONE | {"variant": "control"}, "fork_invalid"),
        (ONE | {"selector": "step:6"}, "selector_unmatched"),
        (ONE | {"selector": "step:0"}, "selector_unmatched"),
        ({"variant": "control", "selector": "step:6"}, "selector_unmatched"),
        (ONE | {"selector": "event_seq:1"}, "selector_unmatched"),
        (ONE | {"selector": "event_seq:16"}, "selector_unmatched"),
        (ONE | {"selector": "checkpoint:x"}, "selector_unmatched"),
        (ONE | {"selector": "3"}, "fork_invalid"),
        (ONE | {"bindings": ("x",)}, "fork_invalid"),
        (ONE | {"bindings": ("step_seconds.x=1",)}, "fork_invalid"),
        (ONE | {"control": True}, "fork_invalid"),
        (ONE | {"executor": "x"}, "experiment_invalid"),
    ],
)
def test_invalid_fork_is_a_named_error_that_changes_nothing(
    shared: tuple[Project, Run], options: dict[str, Any], code: str
) -> None:
    project, run = shared
    before, runs = snapshot_of(run.path), project.runs()
    service, asked = ExperimentService(SystemClock()), ForkOptions(**{"selector": "step:2", **options})

    with pytest.raises(RelabError) as raised:
        service.runs.fork(service.runs.plan_fork(run.path, asked), asked, StopSwitch(), lambda *_: None)

    assert raised.value.code == code
    assert project.runs() == runs
    assert snapshot_of(run.path) == before


def test_command_refuses_a_fork_with_usage_as_exit_code(shared: tuple[Project, Run]) -> None:
    project, run = shared

    done = project.lab("fork", "--run-dir", run.path.name, "--from-trial", "trial_1", "--at", "3", code=64)

    assert "'3' is no selector. Write checkpoint:" in done.err


def test_missing_or_hostile_checkpoint_is_a_named_error(tmp_path: Path) -> None:
    project, run = made(tmp_path)
    state = run.trial("trial_1") / "state"

    def code_of(step: int) -> str:
        options = ("--from-trial", "trial_1", "--at", f"step:{step}", "--json")
        return str(project.lab("fork", "--run-dir", str(run.path), *options, code=None).json["error"]["code"])

    (state / "checkpoint-1.json").unlink()
    assert code_of(1) == "checkpoint_missing"
    (state / "checkpoint-2.json").unlink()
    (state / "checkpoint-2.json").symlink_to("/etc/passwd")
    assert code_of(2) == "checkpoint_invalid"
    shutil.move(state, tmp_path / "elsewhere")
    state.symlink_to(tmp_path / "elsewhere")
    assert code_of(3) == "checkpoint_invalid"
    state.unlink()
    shutil.move(tmp_path / "elsewhere", state)
    events = run.trial("trial_1") / EVENTS
    events.write_bytes(events.read_bytes()[:-20])
    assert code_of(3) == "run_damaged"
    assert project.runs() == [run.path]


def test_checkpoint_that_was_changed_since_the_seal_is_a_named_error_unless_drift_is_allowed(tmp_path: Path) -> None:
    project, run = made(tmp_path)
    path = run.trial("trial_1") / "state" / "checkpoint-3.json"
    path.write_bytes(path.read_bytes() + b"\n")
    begin = ("--from-trial", "trial_1", "--at", "step:3")

    refused = project.lab("fork", "--run-dir", str(run.path), *begin, "--json", code=1).json["error"]
    forked = fork(project, run, *begin, "--allow-drift")

    assert refused["code"] == "checkpoint_changed"
    assert "state/checkpoint-3.json" in refused["message"]
    assert set(project.runs()) == {run.path, forked.path}
    (drift,) = forked.json("manifest.json")["ext"]["fork"]["drift"]
    assert drift["path"] == "trials/trial_1/state/checkpoint-3.json"
    assert "changed since their run was sealed" in str(forked.answer["warnings"])
    assert steps_of(forked) == [4, 5]
    assert project.json("verify", str(forked.path))["verdict"] == "verified"


def test_edited_record_of_parents_is_damage(tmp_path: Path) -> None:
    project, run = made(tmp_path)
    forked = fork(project, run, "--from-trial", "trial_1", "--at", "step:2")
    record = forked.path / "fork" / "parents.jsonl"
    record.write_bytes(record.read_bytes().replace(b"checkpoint-2", b"checkpoint-3"))

    for command in (("run", "--continue"), ("trials",)):
        answer = project.lab(*command, str(forked.path), "--json", code=None).json
        assert answer["error"]["code"] == "run_damaged"
    assert "fork/parents.jsonl" in project.lab("verify", str(forked.path), code=1).out


WITHOUT_CHECKPOINTS = 'answer(metrics={"seen": "fork" in given.get("ext", {}), "binding": bindings.get("x", 0)})\n'


def test_harness_without_checkpoints_is_forked_from_its_input_unless_strict(tmp_path: Path) -> None:
    project = Project.make(tmp_path, WITHOUT_CHECKPOINTS, tasks=2)
    run = project.run()

    forked = fork(project, run, "--variant", "control", "--at", "step:1", "--set", "x=3")

    given = forked.json("trials/trial_1/trial_input.json")["ext"]["fork"]
    assert given["fallback_mode"] == "input_only"
    assert given["source_checkpoint"] is None
    assert forked.answer["fork"]["fallback_modes"] == {"input_only": 2}
    assert any("begin from their input only" in text for text in forked.answer["warnings"])
    output = forked.json("trials/trial_1/trial_output.json")
    assert output["metrics"] == {"seen": True, "binding": 3}
    strict = ("--variant", "control", "--at", "step:1", "--strict", "--json")
    answer = project.lab("fork", "--run-dir", str(run.path), *strict, code=None).json
    assert answer["error"]["code"] == "trial_state"


SHORT = """\
steps = task["steps"]
for step in range(1, steps + 1):
    Path(paths["workspace"], f"memory-{step}").write_text(str(step))
    event("agent_step_start", step_index=step)
    event("agent_step_end", step_index=step)
begun = given.get("ext", {}).get("fork", {}).get("checkpoint")
memory = int(Path(begun["path"]).read_text()) if begun else 0
named = [{"path": f"memory-{step}", "step": step} for step in range(1, steps + 1)]
answer(checkpoints=named, metrics={"memory": memory})
"""


def test_fork_of_a_variant_leaves_out_trials_without_the_checkpoint(tmp_path: Path) -> None:
    project = Project.make(tmp_path, SHORT, tasks=[{"task_id": f"t{n}", "steps": n} for n in (1, 2, 3)])
    project.configure(runtime={"harness": {"integration_level": "cli_events"}})
    # Checkpoints in a workspace are kept although the workspace is deleted.
    run = project.run("--keep-workspaces", "none")
    assert not (run.trial("trial_3") / "workspace").exists()

    forked = fork(project, run, "--variant", "control", "--at", "step:2")

    outputs = [forked.json(f"trials/trial_{n}/trial_output.json") for n in (1, 2)]
    assert [output["ids"]["task_id"] for output in outputs] == ["t2", "t3"]
    assert [output["metrics"]["memory"] for output in outputs] == [2, 2]
    assert forked.answer["fork"]["left_out"] == {"selector_unmatched": 1}
    assert any("1 trials of 'control' are left out" in text for text in forked.answer["warnings"])


def test_trials_that_continue_from_others_are_refused(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=2)
    project.configure(design={"policies": {"state": "accumulate"}})
    run = project.run()

    options = ("--from-trial", "trial_2", "--at", "step:1", "--json")
    answer = project.lab("fork", "--run-dir", str(run.path), *options, code=None).json

    assert answer["error"]["code"] == "trial_state"


@pytest.mark.full
def test_fork_can_be_paused_and_resumed_and_a_resumed_trial_can_be_forked(tmp_path: Path) -> None:
    project = reference(tmp_path, steps=40)
    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        project.json("pause", "--run-dir", str(run.path), "--label", "lunch")
        runner.end(130)
    project.json("resume", "--run-dir", str(run.path), "--no-telemetry")

    # The first checkpoint was named before the pause, the second by it.
    first = fork(project, run, "--from-trial", "trial_1", "--at", "step:2")
    second = fork(project, run, "--from-trial", "trial_1", "--at", "checkpoint:lunch")

    assert steps_of(first) == list(range(3, 41))
    assert steps_of(second)[-1] == 40
    answers = [each.json("trials/trial_1/trial_output.json")["answer"] for each in (run, first, second)]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.full
def test_client_forks_and_reports_trials_that_cannot_be_forked(tmp_path: Path) -> None:
    project, run = made(tmp_path)
    lab = str(Path(sys.executable).with_name("lab"))
    client = LabClient(runner_bin=lab, cwd=project.root, env={"RELAB_HOME": str(project.home)})

    done = client.fork(str(run.path), at="step:2", from_trial="trial_1", bindings={"numbers_per_step": 60}, strict=True)

    assert done.finished is True
    assert done.response["fork"]["set"] == {"numbers_per_step": 60}
    assert done.response["fork"]["parent_run_id"] == run.path.name
    with pytest.raises(LabRunnerError, match="past the end") as raised:
        client.fork(str(run.path), at="step:99", from_trial="trial_1")
    assert raised.value.code == "selector_unmatched"


@pytest.mark.full
def test_client_forks_from_a_changed_checkpoint_only_where_drift_is_allowed(tmp_path: Path) -> None:
    project, run = made(tmp_path)
    path = run.trial("trial_1") / "state" / "checkpoint-3.json"
    path.write_bytes(path.read_bytes() + b"\n")
    client = LabClient(cwd=project.root, env={"RELAB_HOME": str(project.home)})

    with pytest.raises(LabRunnerError) as raised:
        client.fork(str(run.path), at="step:3", from_trial="trial_1")
    forked = client.fork(str(run.path), at="step:3", from_trial="trial_1", allow_drift=True)

    assert raised.value.code == "checkpoint_changed"
    assert forked.finished is True
