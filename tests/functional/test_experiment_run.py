"""Experiments from `lab init` to the tables, with real harnesses on the plain local sandbox."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.experiments.projects import PREAMBLE, WAITING, Project, Run
from support.lab.cli import Outcome

AGENT = """\
event("agent_step_start", step_index=1)
event(
    "model_call_end", step_index=1, call_id="m1", outcome={"status": "ok"}, turn_index=0,
    model={"identity": "stub-1", "params_digest": "sha256:0"}, usage={"tokens_in": 100, "tokens_out": 20},
    timing={"queue_wait_ms": 0, "duration_ms": 5}, attempt_index=0,
)
broken = ids["variant_id"] == "control" and ids["task_id"] == "task_002"
status = {"status": "error", "error_type": "ValidationError", "message": "Missing required field: 'customer_id'"}
event(
    "tool_call_end", step_index=1, call_id="t1", tool={"name": "order_lookup", "version": "2"},
    outcome=status if broken else {"status": "ok"}, timing={"duration_ms": 3}, attempt_index=0,
)
event("agent_step_end", step_index=1, budgets={"steps": 1, "tokens_in": 100, "tokens_out": 20, "tool_calls": 1})
metrics = {"accuracy": 0.25 if broken else 1.0, "cost_usd": 0.002}
if broken:
    error = {"error_type": "ValidationError", "message": "Missing required field: 'customer_id'"}
    answer("failure", metrics=metrics, error=error)
else:
    answer(metrics=metrics)
"""
FILLED_IN = {
    'id: "" ': "id: prompt_ab ",
    'name: "" ': "name: Prompt A/B Test ",
    'path: "" ': "path: ../data/tasks.jsonl ",
    "replications: 1 ": "replications: 2 ",
    "max_concurrency: 1": "max_concurrency: 2",
    "command: [] ": "command: [python3, -S, ./harness] ",
    "integration_level: cli_basic": "integration_level: cli_events",
}
QUERY = """
SELECT variant_id, COUNT(*) as trials,
       SUM(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END) as successes
FROM trials GROUP BY variant_id ORDER BY variant_id;
"""
"""The seed's query, with an order."""
LOAD = f"""
import duckdb, json, sys
connection = duckdb.connect("agentlab.duckdb")
connection.execute(sys.stdin.read())
print(json.dumps([[row[0], int(row[1]), int(row[2])] for row in connection.execute({QUERY!r}).fetchall()]))
"""


@dataclass(frozen=True)
class FirstRun:
    """The seed's first run, with the output of each step."""

    project: Project
    init: Outcome
    skeleton: str
    described: dict[str, Any]
    told: Outcome
    run: Run


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstRun]:
    project = Project.make(tmp_path_factory.mktemp("first"), AGENT, tasks=3)
    project.experiment.unlink()
    init = project.lab("init")
    skeleton = project.experiment.read_text()
    filled = skeleton
    for empty, value in FILLED_IN.items():
        assert empty in filled
        filled = filled.replace(empty, value)
    project.experiment.write_text(filled)
    described = project.json("describe", ".lab/experiment.yaml")
    told = project.lab("describe", ".lab/experiment.yaml")
    return FirstRun(project, init, skeleton, described, told, project.run(".lab/experiment.yaml", telemetry=True))


def test_skeleton_marks_required_fields(first: FirstRun) -> None:
    assert first.skeleton.count("# REQUIRED") == 4
    assert ".lab/experiment.yaml" in first.init.out
    assert json.loads((first.project.root / ".lab/experiment.schema.json").read_bytes())["properties"]["runtime"]


def test_describe_shows_the_plan_and_the_harness(first: FirstRun) -> None:
    assert list(first.described) == ["ok", "command", "summary"]
    summary = first.described["summary"]
    harness = str(first.project.root / "harness")
    assert summary["harness_script_resolved"] == harness
    assert summary["harness_script_exists"] is True
    assert summary["total_trials"] == 12
    assert summary["tasks"] == 3
    assert summary["replications"] == 2
    # A plain local run cannot enforce the requested network mode.
    assert summary["network"] == "none"
    assert summary["network_effective"] == "full"
    assert summary["container_mode"] is False
    assert summary["power"]["worst_case"]["minimum_detectable_effect"] is not None or summary["power"]["pairs"] == 3
    assert f"harness_script_resolved: {harness}" in first.told.out
    assert "harness_script_exists: true" in first.told.out
    assert "cannot enforce network mode 'none'" in first.told.err


def test_run_prints_one_json_object(first: FirstRun) -> None:
    answer = first.run.answer
    assert answer["ok"] is True
    assert answer["command"] == "run"
    assert answer["finished"] is True
    assert answer["trials"] == {"total": 12, "done": 12}
    assert answer["outcomes"] == {"control": {"success": 4, "failure": 2}, "treatment": {"success": 6}}
    assert answer["agent_runs"] == {"stored": 12, "failed": 0}
    assert all(Path(path).is_file() for path in answer["artifacts"].values())


def test_artifacts_have_the_folder_structure_of_the_seed(first: FirstRun) -> None:
    run = first.run
    names = {path.name for path in run.path.iterdir()}
    seed = {"manifest.json", "resolved_experiment.json", "resolved_experiment.digest", "trials", "analysis"}
    proof = {"attestation.json", "seal.jsonl", "attestation.intoto.jsonl"}
    assert names == seed | proof | {"evidence", "dataset", "runtime", "journal.jsonl"}
    assert {path.name for path in (run.path / "trials").iterdir()} == {f"trial_{number}" for number in range(1, 13)}
    for trial in (run.path / "trials").iterdir():
        own = {"state_inventory.json", "trial_state.json", "stdout.log", "stderr.log"}
        seed = {"trial_input.json", "trial_output.json", "workspace", "state", "out"}
        assert {path.name for path in trial.iterdir()} == seed | own
        assert {path.name for path in (trial / "workspace").iterdir()} == {"data", "harness"}
    tables = ["trials", "metrics_long", "event_counts_by_trial", "event_counts_by_variant", "variant_summary"]
    found = {path.name for path in (run.path / "analysis" / "tables").iterdir()}
    assert found == {"load_duckdb.sql"} | {f"{name}.{kind}" for name in tables for kind in ("jsonl", "parquet")}
    canonical = json.dumps(run.json("resolved_experiment.json"), sort_keys=True, separators=(",", ":"))
    digest = "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    assert (run.path / "resolved_experiment.digest").read_text().strip() == digest
    assert run.json("manifest.json")["resolved_experiment"]["digest"] == digest
    assert run.json("attestation.json")["resolved_experiment_digest"] == digest
    assert len({head["head"] for head in run.json("attestation.json")["events_hashchain"]}) == 12


def test_tables_contain_the_reported_values(first: FirstRun) -> None:
    rows = first.run.rows.values()
    wrong = [row for row in rows if row["outcome"] != "success"]
    assert {(row["variant_id"], row["task_id"], row["error_type"]) for row in wrong} == {
        ("control", "task_002", "ValidationError")
    }
    assert {(row["variant_id"], row["task_id"], row["repl_idx"]) for row in rows} == {
        (variant, f"task_00{task}", repeat)
        for variant in ("control", "treatment")
        for task in (1, 2, 3)
        for repeat in (0, 1)
    }
    # The trials of a pair follow each other, and each variant is the first one equally often.
    variants = [first.run.rows[f"trial_{number}"]["variant_id"] for number in range(1, 13)]
    pairs = [tuple(variants[start : start + 2]) for start in range(0, 12, 2)]
    assert {tuple(sorted(pair)) for pair in pairs} == {("control", "treatment")}
    assert [pair[0] for pair in pairs].count("control") == 3
    assert all(row["hook_events_total"] == 4 and row["metrics"]["tokens_in"] == 100 for row in rows)
    accuracy = [row["metric_value"] for row in first.run.table("metrics_long") if row["metric_name"] == "accuracy"]
    assert sorted(accuracy) == [0.25, 0.25, *[1.0] * 10]
    summary = {row["variant_id"]: row for row in first.run.table("variant_summary")}
    assert summary["control"]["success_rate"] == pytest.approx(4 / 6)


def test_the_script_of_the_seed_loads_the_tables_into_duckdb(first: FirstRun) -> None:
    analysis = first.run.path / "analysis"
    with (analysis / "tables" / "load_duckdb.sql").open("rb") as script:
        command = [sys.executable, "-c", LOAD]
        done = subprocess.run(command, cwd=analysis, stdin=script, capture_output=True, check=True, timeout=60)
    (analysis / "agentlab.duckdb").unlink()
    assert json.loads(done.stdout) == [["control", 6, 4], ["treatment", 6, 6]]


def test_every_trial_is_an_agent_run_and_rca_explains_a_failed_one(first: FirstRun) -> None:
    listed = first.project.json("agent-runs", "list", "--limit", "50")["items"]
    rows = first.run.rows.values()
    assert {item["run_id"] for item in listed} == {row["agent_run_id"] for row in rows}
    failed = next(row for row in rows if not row["success"])
    assert failed["agent_run_id"] == f"{failed['run_id']}.{failed['trial_id']}"

    shown = first.project.json("agent-runs", "show", failed["agent_run_id"])["run"]
    report = first.project.json("rca", failed["agent_run_id"])["report"]

    assert shown["error_type"] == "ValidationError"
    assert shown["counts"]["steps"] == 2
    assert shown["counts"]["tool_calls"] == 1
    assert shown["experiment"]["trial_dir"] == failed["trial_dir"]
    assert report["category"] == "tool_schema_mismatch"
    assert "order_lookup" in json.dumps(report["evidence_index"])


def test_a_run_is_listed_shown_compared_and_deleted(first: FirstRun) -> None:
    run_id = first.run.path.name

    (listed,) = first.project.json("experiments", "list")["runs"]
    shown = first.project.json("experiments", "show", run_id)["run"]
    # Two of three tasks have equal outcomes, so the comparison is undecided, and its exit code is not 0.
    compared = first.project.json("compare", run_id, "--gate", "success>=-0.02", code=2)

    assert listed["run_id"] == run_id
    assert listed["status"] == "completed"
    assert listed["trials"] == 12
    assert [trial["error_type"] for trial in shown["failed_trials"]] == ["ValidationError"] * 2
    assert (compared["verdict"], compared["exit_code"]) in {("EDGE", 2), ("INVALID", 2)}


@pytest.mark.parametrize(
    ("command", "exit_code", "error_code", "said"),
    [
        ("run .lab/other.yaml", 64, "experiment_invalid", "other.yaml"),
        pytest.param("run --unknown", 64, "usage", "--unknown", marks=pytest.mark.full),
        pytest.param("run --keep-workspaces some", 64, "invalid_input", "some", marks=pytest.mark.full),
        ("run .lab/experiment.yaml --continue .lab/runs/x", 64, "invalid_input", "--continue"),
        pytest.param(
            "run --continue .lab/runs/x --keep-workspaces none",
            64,
            "invalid_input",
            "--keep-workspaces",
            marks=pytest.mark.full,
        ),
        ("run --continue .lab/runs/x", 1, "run_not_found", ".lab/runs/x"),
        pytest.param("run --overrides nowhere.json", 64, "experiment_invalid", "nowhere.json", marks=pytest.mark.full),
        ("run --executor elsewhere", 64, "experiment_invalid", "elsewhere"),
        ("run-dev", 64, "posture_refused", "runtime.sandbox.image"),
        ("run-experiment", 64, "posture_refused", "network.mode"),
        pytest.param("run --container", 64, "posture_refused", "runtime.sandbox.image", marks=pytest.mark.full),
        ("init", 64, "experiment_invalid", "exists already"),
        pytest.param("compare run_x", 64, "run_not_found", "run_x", marks=pytest.mark.full),
        pytest.param("clean", 64, "invalid_input", "--runs", marks=pytest.mark.full),
    ],
)
def test_every_error_is_one_json_object_with_an_exit_code(
    refused: Project, command: str, exit_code: int, error_code: str, said: str
) -> None:
    answer = refused.json(*command.split(), code=exit_code)

    assert set(answer) == {"ok", "error"}
    assert answer["ok"] is False
    assert set(answer["error"]) == {"code", "message", "details"}
    assert answer["error"]["code"] == error_code
    assert said in answer["error"]["message"]
    assert refused.runs() == []


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.make(tmp_path_factory.mktemp("refused"))


def test_overrides_are_checked_applied_and_recorded(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=3)
    project.lab("knobs-init")
    overrides = project.root / ".lab/knobs/overrides.json"
    document = json.loads(overrides.read_bytes())
    option = ("--overrides", ".lab/knobs/overrides.json")

    overrides.write_text(json.dumps(document | {"values": {"design.replications": 101}}))
    refused = [project.json(*command, code=64)["error"] for command in (("knobs-validate",), ("run", *option))]
    assert {error["code"] for error in refused} == {"experiment_invalid"}
    assert all("100 at most, not 101" in error["message"] for error in refused)
    assert project.runs() == []

    values = {"design.replications": 2, "dataset.limit": 2}
    overrides.write_text(json.dumps(document | {"values": values}))
    assert project.json("knobs-validate")["values"] == values
    run = project.run(*option)

    assert len(run.rows) == 4
    given = run.json("manifest.json")["ext"]["overrides"]
    assert {item["id"]: (item["value"], item["previous"]) for item in given} == {
        "design.replications": (2, None),
        "dataset.limit": (2, None),
    }
    resolved = run.json("resolved_experiment.json")
    assert resolved["design"]["replications"] == 2
    assert resolved["dataset"]["limit"] == 2
    resolved["design"]["replications"], resolved["dataset"]["limit"] = 1, None
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    digest = run.json("manifest.json")["resolved_experiment"]["digest"]
    assert digest != "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    assert "replications" not in project.experiment.read_text()


def test_project_changes_do_not_reach_a_running_run(tmp_path: Path) -> None:
    rows = [{"task_id": f"task_{number:03}", "says": "as it was", "waits": number == 1} for number in range(1, 6)]
    project = Project.make(tmp_path, WAITING.replace("answer()", "answer(answer=task['says'])"), tasks=rows)
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}})

    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1")
        project.write_tasks([{"task_id": "task_009", "says": "as it is now"}])
        project.write_harness(PREAMBLE + "answer('failure')")
        (tmp_path / "go").touch()
        answer = runner.end().json

    run = Run(Path(answer["run"]["run_dir"]))
    assert answer["outcomes"] == {"control": {"success": 5}}
    assert set(run.by_task) == {row["task_id"] for row in rows}
    outputs = [json.loads((run.trial(trial) / "trial_output.json").read_bytes()) for trial in run.rows]
    assert {output["answer"] for output in outputs} == {"as it was"}
