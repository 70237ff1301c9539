"""Each integration level with a harness that implements it, through `lab run` to the tables and telemetry."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.sdk import LabClient, LabRunnerError
from relab.experiments.service import check_file
from relab.experiments.trial.otlp_exports import stored_exports
from relab.experiments.trial.otlp_receiver import trace_ids_of
from support.experiments.projects import Project, Run, read_lines

pytestmark = pytest.mark.full

CONTROLLED = """\
import hashlib

control = Path(os.environ["AGENTLAB_CONTROL_PATH"])
for step in range(2):
    event("agent_step_start", step_index=step)
    event("agent_step_end", step_index=step, budgets={"steps": step + 1})
    if task.get("forgets") and step == 0:
        continue
    raw = control.read_bytes()
    order = json.loads(raw)
    event(
        "control_ack", step_index=step, control_version="sha256:" + hashlib.sha256(raw).hexdigest(),
        control_seq=order["seq"], action_observed=order["action"], action_taken=order["action"],
    )
    if task.get("goes_on"):
        event("control_ack", step_index=step, control_version="sha256:" + "0" * 64, action_observed="stop")
answer()
"""
TRACED = """\
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("harness")
with tracer.start_as_current_span("invoke_agent solver", attributes={"gen_ai.operation.name": "invoke_agent"}):
    with tracer.start_as_current_span("execute_tool lookup") as span:
        span.set_attribute("gen_ai.operation.name", "execute_tool")
        span.set_attribute("gen_ai.tool.name", "lookup")
        span.set_attribute("gen_ai.tool.call.id", ids["task_id"])
provider.shutdown()
answer()
"""
CALLED = """\
attempt = Path(bindings["attempts"], ids["trial_id"])
with tracer.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}) as span:
    span.set_attribute("gen_ai.usage.input_tokens", 100)
    span.set_attribute("gen_ai.usage.output_tokens", 20)
    span.set_attribute("gen_ai.usage.cost", 0.25 if attempt.exists() else 0.5)
"""
ENDED = """
answer("success" if attempt.exists() else "error", metrics={"tokens_in": task["own"]} if "own" in task else {})
attempt.touch()
"""
PRICES = """\
prices:
  - {provider: own, model: priced, input: 10000, output: 50000, as_of: 2026-01-01, source: test}
"""
SPENT = {"tokens_in": 100, "tokens_out": 20, "cost_usd": 0.25}
TRAINED = """\
state = Path(paths["state"], "checkpoints")
state.mkdir()
checkpoints = []
for epoch in range(2):
    path = state / f"epoch-{epoch}.bin"
    path.write_bytes(bytes([epoch]) * 64)
    checkpoints.append({"path": str(path), "logical_name": f"epoch-{epoch}", "step": (epoch + 1) * 100, "epoch": epoch})
loss = 1.0 if ids["variant_id"] == "control" else 0.5 + task["noise"]
answer(
    objective={"name": "val_loss", "value": loss, "direction": "minimize"},
    metrics={"train_loss": loss - 0.1, "epochs": 2},
    checkpoints=checkpoints,
)
"""
OF_A_RUN = {
    "manifest.json": "manifest_v1",
    "resolved_experiment.json": "resolved_experiment_v0_3",
    "attestation.json": "attestation_v1",
    "runtime/run_control.json": "run_control_v1",
    "evidence/evidence_records.jsonl": "evidence_record_v1",
    "evidence/task_chain_states.jsonl": "task_chain_state_v1",
}
OF_A_TRIAL = {
    "trial_input.json": "trial_input_v1",
    "trial_output.json": "trial_output_v1",
    "trial_state.json": "trial_state_v1",
    "state_inventory.json": "state_inventory_v1",
    "state/lab_control.json": "control_plane_v1",
    "out/harness_events.jsonl": "hook_events_v1",
}


def at_level(level: str, **more: Any) -> dict[str, Any]:
    return {"runtime": {"harness": {"integration_level": level, **more}}}


@pytest.mark.parametrize("level", ["sdk_control", "sdk_full"])
def test_a_controlled_harness_answers_the_control_file(tmp_path: Path, level: str) -> None:
    tasks = [{"task_id": "well"}, {"task_id": "forgets", "forgets": True}, {"task_id": "goes_on", "goes_on": True}]
    project = Project.make(tmp_path, CONTROLLED, tasks=tasks)
    project.configure(**at_level(level))

    run = project.run()

    well, forgets, goes_on = (run.by_task[name] for name in ("well", "forgets", "goes_on"))
    assert well["integration_level"] == level
    assert well["outcome"] == "success"
    assert well["event_counts"]["control_ack"] == 2
    assert well["hook_events_invalid"] == 0
    assert forgets["hook_event_problems"] == ["line 3: no control_ack follows the agent_step_end of line 2"]
    assert goes_on["hook_event_problems"] == ["line 5: a step starts after a stop was acknowledged"]
    folder = run.trial(well["trial_id"])
    control = (folder / "state" / "lab_control.json").read_bytes()
    (first, _) = [line for line in read_lines(folder / "out" / "harness_events.jsonl") if "control_version" in line]
    assert first["control_version"] == "sha256:" + hashlib.sha256(control).hexdigest()
    assert json.loads(control).items() >= {"schema_version": "control_plane_v1", "seq": 0, "action": "continue"}.items()
    assert json.loads((folder / "trial_input.json").read_bytes())["design"]["integration_level"] == level
    assert json.loads((folder / "trial_state.json").read_bytes())["status"] == "completed"
    (problem,) = run.answer["problems"]
    assert problem["kind"] == "hook_events_invalid"
    assert problem["trials"] == 2


@pytest.mark.parametrize("mode", ["local", "bwrap"])
def test_a_traced_harness_exports_to_its_own_receiver(tmp_path: Path, mode: str) -> None:
    project = Project.make(tmp_path, TRACED, tasks=2)
    runtime = at_level("otel")["runtime"] | {"sandbox": {"mode": mode}, "network": {"mode": "none"}}
    project.configure(command=[sys.executable, "harness"], runtime=runtime, design={"max_concurrency": 2})

    run = project.run(telemetry=True)

    assert run.answer["outcomes"] == {"control": {"success": 2}}, run.answer["problems"]
    listed = project.json("agent-runs", "list")["items"]
    for row in run.rows.values():
        exported = list((run.trial(row["trial_id"]) / "otlp").iterdir())
        assert exported
        assert all(path.stat().st_size for path in exported)
        shown = project.json("agent-runs", "show", row["agent_run_id"])["run"]
        # The trial's own run names the traces that its harness sent, and these are runs that name the trial.
        traces = [name for name in shown["correlation_ids"] if name != row["run_id"]]
        assert len(traces) == 1
        traced = project.json("agent-runs", "show", traces[0])["run"]
        assert traced["correlation_ids"] == [row["agent_run_id"]]
        assert traced["agent_name"] == "trying"
        assert traced["agent_version"] == "control"
        assert traced["task_id"] == row["task_id"]
        assert traced["environment"] == "experiment"
        assert traced["counts"]["tool_calls"] == 1
    assert {item["run_id"] for item in listed} >= {row["agent_run_id"] for row in run.rows.values()}
    assert len(listed) == 4


def test_tokens_and_cost_of_spans_are_those_of_the_trial_unless_its_harness_reports_its_own(tmp_path: Path) -> None:
    """The first attempt ends in an error, whose cost counts for the budget and not for the trial's row."""
    instrumented = TRACED.replace("provider.shutdown()", CALLED + "provider.shutdown()").replace("answer()", ENDED)
    project = Project.make(tmp_path, instrumented, tasks=[{"task_id": "silent"}, {"task_id": "own", "own": 7}])
    retry = {"policies": {"retry": {"max_attempts": 2, "retry_on": ["error"]}}}
    project.configure(
        command=[sys.executable, "harness"],
        design=retry,
        baseline={"bindings": {"attempts": str(tmp_path)}},
        **at_level("otel"),
    )

    run = project.run(telemetry=True)

    silent, own = run.by_task["silent"], run.by_task["own"]
    assert (silent["attempts"], own["attempts"]) == (2, 2)
    assert {name: silent["metrics"][name] for name in SPENT} == SPENT
    assert silent["metrics_from_spans"] == ["tokens_in", "tokens_out", "cost_usd"]
    assert {name: own["metrics"][name] for name in SPENT} == SPENT | {"tokens_in": 7}
    assert own["metrics_from_spans"] == ["tokens_out", "cost_usd"]
    entries = [line for line in read_lines(run.path / "journal.jsonl") if "row" in line]
    assert [entry["earlier_cost_usd"] for entry in entries] == [0.5, 0.5]
    # The runs of the traces have the usage; if the trials' own runs had it too, the overview would count it twice.
    shown = project.json("agent-runs", "show", silent["agent_run_id"])["run"]
    assert (shown.get("cost") or {}).get("tokens_prompt") is None


def test_agent_run_that_is_sent_again_names_the_traces_of_the_last_attempt(tmp_path: Path) -> None:
    ended = 'attempt = Path(bindings["attempts"], ids["trial_id"])' + ENDED
    project = Project.make(tmp_path, TRACED.replace("answer()", ended), tasks=1)
    project.configure(
        command=[sys.executable, "harness"],
        design={"policies": {"retry": {"max_attempts": 2, "retry_on": ["error"]}}},
        baseline={"bindings": {"attempts": str(tmp_path)}},
        **at_level("otel"),
    )
    # Without telemetry this is like a kill before the process committed its agent runs.
    run = project.run()

    answer = project.json("run", "--continue", str(run.path))

    assert answer["agent_runs"] == {"stored": 1, "failed": 0}
    [row] = run.rows.values()
    assert row["attempts"] == 2
    _first, last = dict.fromkeys(
        trace_id for body in stored_exports(run.trial(row["trial_id"]) / "otlp") for trace_id in trace_ids_of([body])
    )
    shown = project.json("agent-runs", "show", row["agent_run_id"])["run"]
    assert shown["correlation_ids"] == [run.path.name, last]


def test_cost_of_a_trial_whose_spans_report_only_tokens_is_estimated_and_counts_for_the_budget(tmp_path: Path) -> None:
    called = CALLED.split('    span.set_attribute("gen_ai.usage.cost"', maxsplit=1)[0]
    called += '    span.set_attribute("gen_ai.request.model", "priced")\n'
    instrumented = TRACED.replace("provider.shutdown()", called + "provider.shutdown()").replace("answer()", ENDED)
    project = Project.make(tmp_path, instrumented, tasks=3)
    (project.home / "prices.yaml").write_text(PRICES)
    retry = {"policies": {"retry": {"max_attempts": 2, "retry_on": ["error"]}, "budget": {"max_cost_usd": 3}}}
    project.configure(
        command=[sys.executable, "harness"],
        design=retry | {"max_concurrency": 1},
        baseline={"bindings": {"attempts": str(tmp_path)}},
        **at_level("otel"),
    )

    answer = project.json("run", code=75)

    # Each of the two attempts of a trial costs 100 tokens of 10,000 USD for a million tokens, and 20 tokens of 50,000.
    assert "max_cost_usd" in answer["budget_reached"]
    run = Run(Path(answer["run"]["run_dir"]))
    [row] = run.rows.values()
    assert row["metrics"]["estimated_cost_usd"] == pytest.approx(2)
    assert "cost_usd" not in row["metrics"]
    assert row["metrics_from_spans"] == ["tokens_in", "tokens_out", "estimated_cost_usd"]
    assert "mean estimated cost of a trial, USD" in (run.path / "analysis" / "report.html").read_text()


def test_reported_cost_of_zero_is_the_cost_of_each_attempt_and_a_stored_result_has_the_cost_of_all(
    tmp_path: Path,
) -> None:
    called = CALLED.split('    span.set_attribute("gen_ai.usage.cost"', maxsplit=1)[0]
    called += '    span.set_attribute("gen_ai.request.model", "priced")\n'
    ended = ENDED.replace('{"tokens_in": task["own"]} if "own"', '{"cost_usd": 0} if "free"')
    instrumented = TRACED.replace("provider.shutdown()", called + "provider.shutdown()").replace("answer()", ended)
    project = Project.make(tmp_path, instrumented, tasks=[{"task_id": "free", "free": True}, {"task_id": "billed"}])
    (project.home / "prices.yaml").write_text(PRICES)
    level = at_level("otel")["runtime"] | {"result_cache": {}}
    project.configure(
        command=[sys.executable, "harness"],
        design={"policies": {"retry": {"max_attempts": 2, "retry_on": ["error"]}}},
        baseline={"bindings": {"attempts": str(tmp_path)}},
        runtime=level,
    )

    run = project.run(telemetry=True)

    spent = {
        line["row"]["task_id"]: line.get("earlier_cost_usd")
        for line in read_lines(run.path / "journal.jsonl")
        if "row" in line
    }
    assert "estimated_cost_usd" not in run.by_task["free"]["metrics"]
    assert spent == {"free": None, "billed": pytest.approx(2)}
    stored = {item["task_id"]: item["cost_usd"] for item in project.json("cache", "list")["entries"]}
    assert stored == {"free": 0, "billed": pytest.approx(4)}


def test_a_trainer_keeps_its_checkpoints_and_its_objective_has_a_direction(tmp_path: Path) -> None:
    tasks = [{"task_id": f"task_{number}", "noise": number / 64} for number in range(8)]
    project = Project.make(tmp_path, TRAINED, tasks=tasks)
    project.configure(
        experiment={"workload_type": "trainer"},
        variant_plan=[{"variant_id": "deeper", "bindings": {}}],
        analysis={"primary_metrics": ["val_loss"]},
    )

    run = project.run()
    compared = project.json("compare", str(run.path))

    assert run.answer["outcomes"] == {"control": {"success": 8}, "deeper": {"success": 8}}
    for row in run.rows.values():
        loss = 1.0 if row["variant_id"] == "control" else 0.5 + tasks[row["task_index"]]["noise"]
        assert row["primary_metric_name"] == "val_loss"
        assert row["primary_metric_value"] == loss
        assert row["primary_metric_direction"] == "minimize"
        assert row["metrics"]["train_loss"] == loss - 0.1
        folder = run.trial(row["trial_id"])
        document = json.loads((folder / "trial_output.json").read_bytes())
        assert [item["logical_name"] for item in document["checkpoints"]] == ["epoch-0", "epoch-1"]
        assert all(Path(item["path"]).read_bytes() == bytes([item["epoch"]]) * 64 for item in document["checkpoints"])
    # A lower loss is better.
    assert compared["verdict"] == "PASS", compared


def test_every_document_of_a_run_matches_its_schema(tmp_path: Path) -> None:
    project = Project.make(tmp_path, 'Path("new").write_text("x")\n' + CONTROLLED, tasks=1)
    project.configure(**at_level("sdk_full"))
    run = project.run()
    trial = run.trial("trial_1")

    checked = {run.path / name: schema for name, schema in OF_A_RUN.items()}
    checked |= {trial / name: schema for name, schema in OF_A_TRIAL.items()}
    objects = list((run.path / "evidence" / "objects").iterdir())
    checked |= {path: json.loads(path.read_bytes())["schema_version"] for path in objects}
    assert set(checked.values()) >= {"workspace_snapshot_v1", "workspace_diff_v1", "workspace_patch_v1"}
    for path, schema in checked.items():
        assert check_file(path, schema)[0] == schema

    answer = project.json("schema-validate", "--file", str(trial / "trial_output.json"))
    assert answer["valid"] is True
    assert answer["schema"] == "trial_output_v1"
    assert answer["documents"] == 1
    client = LabClient(cwd=project.root, env={"RELAB_HOME": str(project.home)})
    events = str(trial / "out" / "harness_events.jsonl")
    assert client.validate_schema(file=events, schema="hook_events_v1").values["documents"] == 6
    with pytest.raises(LabRunnerError) as caught:
        client.validate_schema(file=str(trial / "trial_output.json"), schema="trial_input_v1")
    assert caught.value.code == "experiment_invalid"
    assert "trial_input_v1" in caught.value.message
    assert json.loads(project.lab("schema-validate", "--schema", "trial_output_v1").out)["title"] == "trial_output_v1"
    assert "--schema" in project.lab("schema-validate", code=64).err
