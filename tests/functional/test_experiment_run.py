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

from support.experiments.projects import PREAMBLE, WAITING, Project, Run, answering, read_lines
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
"""The seed's query, put in an order."""
LOAD = f"""
import duckdb, json, sys
connection = duckdb.connect("agentlab.duckdb")
connection.execute(sys.stdin.read())
print(json.dumps([[row[0], int(row[1]), int(row[2])] for row in connection.execute({QUERY!r}).fetchall()]))
"""
COUNTING = """\
counter = Path(bindings["meet"], ids["task_id"])
attempt = len(counter.read_text()) + 1 if counter.exists() else 1
counter.write_text("x" * attempt)
assert not Path("left").exists() and not output.exists()
Path("left").write_text("by an earlier attempt")
Path(paths["state"], "attempt").write_text(str(attempt))
"""


@dataclass(frozen=True)
class FirstRun:
    """The seed's first run, each step with what it said."""

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


def test_the_skeleton_marks_what_is_required(first: FirstRun) -> None:
    assert first.skeleton.count("# REQUIRED") == 4
    assert ".lab/experiment.yaml" in first.init.out
    assert json.loads((first.project.root / ".lab/experiment.schema.json").read_bytes())["properties"]["runtime"]


def test_describe_shows_the_plan_and_the_harness(first: FirstRun) -> None:
    assert list(first.described) == ["ok", "command", "summary"]
    summary = first.described["summary"]
    harness = str(first.project.root / "harness")
    assert (summary["harness_script_resolved"], summary["harness_script_exists"]) == (harness, True)
    assert (summary["total_trials"], summary["tasks"], summary["replications"]) == (12, 3, 2)
    # What is asked for and what a plain local run gives are two things.
    assert (summary["network"], summary["network_effective"], summary["container_mode"]) == ("none", "full", False)
    assert summary["power"]["worst_case"]["minimum_detectable_effect"] is not None or summary["power"]["pairs"] == 3
    assert f"harness_script_resolved: {harness}" in first.told.out
    assert "harness_script_exists: true" in first.told.out
    assert "cannot enforce network mode 'none'" in first.told.err


def test_a_run_answers_with_one_object(first: FirstRun) -> None:
    answer = first.run.answer
    assert (answer["ok"], answer["command"], answer["finished"]) == (True, "run", True)
    assert answer["trials"] == {"total": 12, "done": 12}
    assert answer["outcomes"] == {"control": {"success": 4, "failure": 2}, "treatment": {"success": 6}}
    assert answer["agent_runs"] == {"stored": 12, "failed": 0}
    assert all(Path(path).is_file() for path in answer["artifacts"].values())


def test_the_artifacts_are_the_tree_of_the_seed(first: FirstRun) -> None:
    run = first.run
    names = {path.name for path in run.path.iterdir()}
    seed = {"manifest.json", "resolved_experiment.json", "resolved_experiment.digest", "trials", "analysis"}
    assert names == seed | {"attestation.json", "evidence", "dataset", "runtime", "journal.jsonl"}
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


def test_the_tables_say_what_the_harness_said(first: FirstRun) -> None:
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
    # Pairs stand side by side, and each variant is the first of them as often as the other.
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

    assert (shown["error_type"], shown["counts"]["steps"], shown["counts"]["tool_calls"]) == ("ValidationError", 2, 1)
    assert shown["experiment"]["trial_dir"] == failed["trial_dir"]
    assert report["category"] == "tool_schema_mismatch"
    assert "order_lookup" in json.dumps(report["evidence_index"])


def test_a_run_is_listed_shown_compared_and_deleted(first: FirstRun) -> None:
    run_id = first.run.path.name

    (listed,) = first.project.json("experiments", "list")["runs"]
    shown = first.project.json("experiments", "show", run_id)["run"]
    # Two of three tasks are equal: nobody can tell, and the code says so to CI.
    compared = first.project.json("compare", run_id, "--gate", "success>=-0.02", code=2)

    assert (listed["run_id"], listed["status"], listed["trials"]) == (run_id, "completed", 12)
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
def test_every_error_is_one_object_and_a_code(
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


def test_attempts_are_kept_aside_and_nothing_of_them_survives(tmp_path: Path) -> None:
    does = {
        "settles": "sys.exit(3) if attempt < 3 else answer()",
        "spoils": "output.write_text('{') if attempt == 1 else sys.exit(3)",
        "is_slow": "time.sleep(600) if attempt == 1 else answer()",
        "fails": "answer('failure')",
    }
    cases = "".join(f"if ids['task_id'] == {task!r}:\n    {code}\n" for task, code in does.items())
    project = Project.make(tmp_path, COUNTING + cases, tasks=[{"task_id": name} for name in does])
    project.configure(
        design={"max_concurrency": 2, "policies": {"retry": {"max_attempts": 3}}},
        baseline={"bindings": {"meet": str(tmp_path)}},
        runtime={"timeouts": {"trial_seconds": 5}},
    )

    run = project.run()

    found = {task: (row["outcome"], row["error_type"], row["attempts"]) for task, row in run.by_task.items()}
    assert found == {
        "settles": ("success", None, 3),
        "spoils": ("error", "harness_process_error", 3),
        "is_slow": ("success", None, 2),
        "fails": ("failure", None, 1),
    }
    spoils = run.path / run.by_task["spoils"]["trial_dir"]
    assert (spoils / "attempts" / "1" / "out" / "trial_output.json").read_text() == "{"
    assert [(spoils / "attempts" / str(n) / "state" / "attempt").read_text() for n in (1, 2)] == ["1", "2"]
    assert not (spoils / "out" / "trial_output.json").exists()
    assert json.loads((spoils / "trial_output.json").read_bytes())["error"]["error_type"] == "harness_process_error"
    assert not (run.path / run.by_task["fails"]["trial_dir"] / "attempts").exists()


def test_a_variant_that_keeps_failing_is_given_up_and_only_failed_workspaces_stay(tmp_path: Path) -> None:
    project = Project.make(tmp_path, "answer('failure' if ids['variant_id'] == 'bad' else 'success')", tasks=4)
    project.configure(
        variant_plan=[{"variant_id": "bad"}],
        design={"policies": {"scheduling": "variant_sequential", "pruning": {"max_consecutive_failures": 2}}},
    )

    run = project.run("--keep-workspaces", "failed")

    rows = [run.rows[f"trial_{number}"] for number in range(1, 9)]
    assert [row["variant_id"] for row in rows] == ["control"] * 4 + ["bad"] * 4
    assert [row["outcome"] for row in rows] == ["success"] * 4 + ["failure"] * 2 + ["missing"] * 2
    assert [row["error_type"] for row in rows[6:]] == ["pruned"] * 2
    kept = {row["trial_id"] for row in rows if (run.trial(row["trial_id"]) / "workspace").exists()}
    assert kept == {"trial_5", "trial_6"}


@pytest.mark.full
def test_a_randomized_schedule_is_the_seeds_own_and_no_workspace_stays(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=5)
    # Any program will do: here one for /bin/sh, started by its own path.
    project.write_harness(answering())
    design = {"replications": 2, "random_seed": 7, "policies": {"scheduling": "randomized"}}
    project.configure(command=["./harness"], variant_plan=[{"variant_id": "treatment"}], design=design)

    planned = project.json("describe")["summary"]["first_trials"]
    run = project.run("--keep-workspaces", "none")

    names = ("trial_id", "variant_id", "task_id", "repl_idx")
    journal = run.journal()
    assert [{name: row[name] for name in names} for row in journal[:6]] == planned
    assert [row["outcome"] for row in journal] == ["success"] * 20
    assert [row["task_index"] for row in journal] != sorted(row["task_index"] for row in journal)
    assert len({(row["variant_id"], row["task_id"], row["repl_idx"]) for row in journal}) == 20
    assert list(run.path.glob("trials/*/workspace")) == []


@pytest.mark.parametrize("policy", ["persist_per_task", pytest.param("accumulate", marks=pytest.mark.full)])
def test_state_is_carried_along_its_chain_in_order(tmp_path: Path, policy: str) -> None:
    harness = (
        "logs = [Path('seen'), Path(paths['state'], 'seen')]\n"
        "before = [log.read_text().split() if log.exists() else [] for log in logs]\n"
        "for log in logs:\n    log.open('a').write(ids['trial_id'] + '\\n')\n"
        "answer(answer=before)\n"
    )
    project = Project.make(tmp_path, harness, tasks=3)
    design = {"replications": 3, "max_concurrency": 4, "policies": {"state": policy}}
    project.configure(variant_plan=[{"variant_id": "treatment"}], design=design)

    run = project.run()

    chains: dict[Any, list[str]] = {}
    for number in range(1, 19):
        row = run.rows[f"trial_{number}"]
        chain = chains.setdefault((row["variant_id"], policy == "accumulate" or row["task_id"]), [])
        output = json.loads((run.trial(row["trial_id"]) / "trial_output.json").read_bytes())
        assert output["answer"] == [chain, chain]
        chain.append(row["trial_id"])
    states = read_lines(run.path / "evidence" / "task_chain_states.jsonl")
    assert sorted(state["step_index"] for state in states) == sorted(
        index for chain in chains.values() for index in range(len(chain))
    )


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
    assert (resolved["design"]["replications"], resolved["dataset"]["limit"]) == (2, 2)
    resolved["design"]["replications"], resolved["dataset"]["limit"] = 1, None
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    digest = run.json("manifest.json")["resolved_experiment"]["digest"]
    assert digest != "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
    assert "replications" not in project.experiment.read_text()


def test_changes_of_the_project_do_not_reach_a_run_at_work(tmp_path: Path) -> None:
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
