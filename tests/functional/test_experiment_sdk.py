"""The Python SDK, used as in the seed's example: a builder writes the experiment, and a client runs `lab`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.experiments.sdk import ExperimentBuilder, LabClient, LabRunnerError
from support.experiments.projects import Project, Run

pytestmark = pytest.mark.full

HARNESS = """\
event("agent_step_start", step_index=1)
event("agent_step_end", step_index=1)
answer(metrics={"accuracy": 0.9 + bindings["temperature"] / 10, "latency_ms": 12, "cost_usd": 0.01})
"""
TRAINER = """\
answer(
    objective={"name": "val_acc", "value": 0.5 + 0.1 * ids["repl_idx"], "direction": "maximize"},
    metrics={"train_loss": 0.3, "val_acc": 0.5, "wall_time_s": 1.5},
    checkpoints=[{"path": "state/last.pt", "logical_name": "last", "step": 10, "epoch": 1}],
)
"""


def _example() -> ExperimentBuilder:
    """Return the seed's example, with the harness of this test."""
    return (
        ExperimentBuilder.create("prompt_ab", "Prompt A/B Test")
        .description("Compare prompt v1 vs v2 on coding tasks")
        .dataset_jsonl("./data/tasks.jsonl", suite_id="coding_tasks", split_id="dev", limit=50)
        .harness_cli(["python3", "-S", "./harness"], integration_level="cli_events")
        .sanitization_profile("hermetic_functional_v2")
        .replications(3)
        .random_seed(42)
        .baseline("control", {"model": "gpt-4o", "temperature": 0.0})
        .add_variant("treatment", {"model": "gpt-4o", "temperature": 0.7})
        .primary_metrics(["success", "accuracy"])
        .secondary_metrics(["latency_ms", "cost_usd"])
        .network_mode("allowlist_enforced", ["api.openai.com"])
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project.make(tmp_path_factory.mktemp("sdk"), HARNESS, tasks=2)
    project.experiment.write_text(_example().to_yaml())
    return project


@pytest.fixture
def client(project: Project) -> LabClient:
    return LabClient(cwd=project.root, env={"RELAB_HOME": str(project.home)})


def test_the_example_of_the_seed_runs(project: Project, client: LabClient) -> None:
    assert "path: ../data/tasks.jsonl" in project.experiment.read_text()

    described = client.describe(experiment=".lab/experiment.yaml")
    response = client.run(experiment=".lab/experiment.yaml", keep_workspaces="none")

    assert described.total_trials == 12
    assert described.summary["harness_script_exists"] is True
    assert response.finished
    assert response.outcomes == {"control": {"success": 6}, "treatment": {"success": 6}}
    assert "cannot enforce network mode 'allowlist_enforced'" in response.response["warnings"][0]
    run = Run(Path(response.run.run_dir))
    assert run.path.name == response.run.run_id
    assert len(run.rows) == 12
    assert not list(run.path.glob("trials/*/workspace"))
    document = json.loads((run.trial("trial_1") / "trial_input.json").read_bytes())
    assert document["bindings"] in ({"model": "gpt-4o", "temperature": 0.0}, {"model": "gpt-4o", "temperature": 0.7})
    assert document["runtime"]["network"] == {
        "mode_requested": "allowlist_enforced",
        "allowed_hosts": ["api.openai.com"],
    }

    compared = client.compare(response.run.run_id, baseline="treatment", metrics=["accuracy"], gates=["success>=-0.1"])
    assert compared.verdict in {"PASS", "EDGE", "FAIL", "INVALID"}
    assert {result["gate"] for result in compared.response["results"]} >= {"success>=-0.1"}
    assert compared.response["baseline"] == "treatment"


def test_rejected_command_raises_an_error_with_its_code_and_output(client: LabClient) -> None:
    for refused in (client.run_experiment, client.run_dev):
        with pytest.raises(LabRunnerError) as caught:
            refused(experiment=".lab/experiment.yaml")
        error = caught.value
        assert error.code == "posture_refused"
        assert error.exit_code == 64
        assert error.details == {}
        assert str(error) == error.message
        assert error.stderr == ""
        assert error.command[-2:] == [".lab/experiment.yaml", "--json"]


def test_each_invalid_field_of_a_file_is_reported(project: Project, client: LabClient) -> None:
    text = project.experiment.read_text()
    wrong = project.root / ".lab" / "wrong.yaml"
    wrong.write_text(text.replace("replications: 3", "replications: many").replace("suite_id:", "suit_id:"))

    with pytest.raises(LabRunnerError) as caught:
        client.describe(experiment=".lab/wrong.yaml")

    fields = [problem["field"].split(": ")[-1] for problem in caught.value.details["problems"]]
    assert caught.value.code == "experiment_invalid"
    assert sorted(fields) == ["dataset.suit_id", "design.replications"]
    with pytest.raises(LabRunnerError) as missing:
        client.continue_run(".lab/runs/none")
    assert missing.value.code == "run_not_found"
    assert missing.value.exit_code == 1


def test_missing_runner_is_an_error(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabRunnerError) as caught:
        LabClient(runner_bin=str(tmp_path / "nowhere"), cwd=project.root).describe()
    assert caught.value.code == "runner_not_started"
    assert caught.value.exit_code is None

    talking = tmp_path / "talking"
    talking.write_text("#!/bin/sh\necho not json; echo why >&2; exit 7\n")
    talking.chmod(0o755)
    monkeypatch.setenv("AGENTLAB_RUNNER_BIN", str(talking))
    with pytest.raises(LabRunnerError) as caught:
        LabClient(cwd=project.root).describe()
    assert caught.value.code == "invalid_response"
    assert caught.value.exit_code == 7
    assert caught.value.stderr == "why\n"
    assert caught.value.command == [str(talking), "describe", ".lab/experiment.yaml", "--json"]


@pytest.mark.full
def test_a_trainer_runs_with_overrides_that_were_validated(tmp_path: Path) -> None:
    project = Project.make(tmp_path, TRAINER, tasks=1)
    builder = (
        ExperimentBuilder.create("tuning", "Tuning")
        .workload_type("trainer")
        .dataset_jsonl("data/tasks.jsonl")
        .harness_cli(["python3", "-S", "harness"])
        .baseline("small", {"lr": 0.1})
        .primary_metrics(["val_acc"])
    )
    project.experiment.write_text(builder.to_yaml())
    client = LabClient(cwd=project.root, env={"RELAB_HOME": str(project.home)})
    project.lab("knobs-init")
    overrides = project.root / ".lab/knobs/overrides.json"
    files = {"manifest": ".lab/knobs/manifest.json", "overrides": ".lab/knobs/overrides.json"}
    document = json.loads(overrides.read_bytes())

    overrides.write_text(json.dumps(document | {"values": {"design.replications": "two"}}))
    with pytest.raises(LabRunnerError) as caught:
        client.validate_knobs(**files)
    assert caught.value.code == "experiment_invalid"
    assert "design.replications" in str(caught.value)
    overrides.write_text(json.dumps(document | {"values": {"design.replications": 2}}))
    validated = client.validate_knobs(**files)
    response = client.run(overrides=files["overrides"])
    again = client.continue_run(response.run.run_dir, retry_errors=True, ceilings={"max_trials": 0})
    (tmp_path / "score.py").write_text('print(\'{"outcome": "failure"}\')')
    scored = client.rescore(response.run.run_dir, scorer=f"{sys.executable} {tmp_path / 'score.py'}", name="strict")

    assert validated.valid is True
    assert scored["outcomes"] == {"small": {"failure": 2}}
    assert validated.values == {"design.replications": 2}
    assert again.run == response.run
    assert again.finished is True
    assert again.outcomes == {"small": {"success": 2}}
    rows = Run(Path(again.run.run_dir)).rows.values()
    assert sorted((row["primary_metric_name"], row["primary_metric_value"]) for row in rows) == [
        ("val_acc", 0.5),
        ("val_acc", 0.6),
    ]
    assert all(row["metrics"]["train_loss"] == 0.3 and row["workload_type"] == "trainer" for row in rows)
