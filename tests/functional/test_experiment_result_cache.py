"""The result cache: trials with the inputs of earlier ones are not run again, and name the earlier trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.sdk import LabClient
from support.experiments.projects import Project

SECRET = "planted-secret-0123456789"

HARNESS = """\
log = Path(bindings["log"])
with log.open("a") as file:
    file.write(f"{ids['variant_id']} {ids['task_id']} {ids['repl_idx']}\\n")
event("agent_step_start", step_index=0)
event("agent_step_end", step_index=0, budgets={"steps": 1, "tokens_in": 3, "tokens_out": 5, "tool_calls": 0})
Path("notes.txt").write_text(os.environ.get("TOKEN", "") + f"run {len(log.read_text().splitlines())}")
Path("old.txt").unlink()
Path(paths["state"], "memory").write_text("kept")
print("thinking")
outcome = task.get("outcome", "success")
if outcome == "crash":
    sys.exit(3)
answer(outcome, answer=ids["repl_idx"], metrics={"cost_usd": 0.5, "score": len(log.read_text().splitlines())})
"""


def make_project(folder: Path, **sections: Any) -> Project:
    project = Project.make(folder, HARNESS, tasks=sections.pop("tasks", 2))
    (project.root / "old.txt").write_text("of the project")
    runtime = {
        "result_cache": {},
        "harness": {"integration_level": "cli_events", "secrets": ["TOKEN"]},
        **sections.pop("runtime", {}),
    }
    project.settings["TOKEN"] = SECRET
    bindings = {"log": str(folder / "log")}
    project.configure(
        baseline={"bindings": bindings},
        **{"variant_plan": [{"variant_id": "same", "bindings": bindings}], **sections},
        runtime=runtime,
    )
    return project


def runs_of(project: Project) -> list[str]:
    """Return one line for each start of a harness, in order."""
    log = project.root.parent / "log"
    return log.read_text().splitlines() if log.exists() else []


def entries(project: Project) -> list[Path]:
    return sorted(project.root.glob(".lab/cache/results/??/*"))


@pytest.mark.full
def test_second_run_starts_no_harness_and_gives_the_same_results(tmp_path: Path) -> None:
    project = make_project(tmp_path, design={"replications": 2})
    first = project.run()

    # Neither repeats nor variants with the same bindings share a result.
    assert sorted(runs_of(project)) == sorted(
        f"{variant} task_00{task} {repeat}" for variant in ("control", "same") for task in (1, 2) for repeat in (0, 1)
    )
    assert first.answer["cached"] == 0
    assert len({row["metrics"]["score"] for row in first.rows.values()}) == 8

    second = project.run("--keep-workspaces", "all", "--max-trials", "1", "--max-cost-usd", "0.1")

    assert len(runs_of(project)) == 8
    assert (second.answer["cached"], second.answer["finished"]) == (8, True)
    for trial_id, row in second.rows.items():
        before = first.rows[trial_id]
        assert row["cached_from"] == f"{first.path.name}.{trial_id}"
        assert before["cached_from"] is None
        own = {"run_id", "overhead_ms", "cached_from", "metrics"}
        assert {k: v for k, v in row.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
        assert {k: v for k, v in row["metrics"].items() if k != "overhead_ms"} == {
            k: v for k, v in before["metrics"].items() if k != "overhead_ms"
        }
    folder = second.trial("trial_1")
    output = second.json("trials/trial_1/trial_output.json")
    assert output["ids"]["run_id"] == second.path.name
    assert output == {**first.json("trials/trial_1/trial_output.json"), "ids": output["ids"]}
    events = [json.loads(line) for line in (folder / "out/harness_events.jsonl").read_text().splitlines()]
    assert {event["ids"]["run_id"] for event in events} == {second.path.name}
    assert (folder / "stdout.log").read_text() == "thinking\n"
    assert (folder / "state/memory").read_text() == "kept"
    assert (folder / "workspace/notes.txt").read_bytes() == (
        first.trial("trial_1") / "workspace/notes.txt"
    ).read_bytes()
    assert not (folder / "workspace/old.txt").exists()
    assert not (folder / ".result_to_store").exists()
    assert second.json("trials/trial_1/state_inventory.json")["ext"]["result_cache"]["run_id"] == first.path.name
    summary = {row["variant_id"]: row for row in second.table("variant_summary")}["same"]
    assert (summary["cached_trials"], summary["cost_usd_cached"], summary["cost_usd_total"]) == (4, 2.0, 2.0)
    assert "From the result cache" in (second.path / "analysis/report.html").read_text()
    assert project.json("verify", str(second.path))["verdict"] == "verified"
    shown = project.json("trials", str(second.path))["trials"]
    assert {trial["cached_from"] for trial in shown} == {f"{first.path.name}.trial_{n}" for n in range(1, 9)}
    # A replay starts the harness, because it checks the stored result.
    project.json("replay", "--run-dir", str(second.path), "--trial-id", "trial_1", code=1)
    assert len(runs_of(project)) == 9

    assert project.run("--no-result-cache").answer["cached"] == 0
    assert len(runs_of(project)) == 17
    secret = SECRET.encode()
    assert not [
        path for path in project.root.glob(".lab/cache/results/**/*") if path.is_file() and secret in path.read_bytes()
    ]
    assert project.json("cache", "list")["total"] == 8
    assert project.json("cache", "clear", "--yes")["removed"] == 8
    assert project.json("cache", "list")["total"] == 0


@pytest.mark.full
def test_changed_harness_is_a_miss_and_failures_are_stored_but_not_errors(tmp_path: Path) -> None:
    tasks = [{"task_id": name, "outcome": name} for name in ("success", "failure", "missing", "error", "crash")]
    project = make_project(tmp_path, tasks=tasks, variant_plan=[])
    first = project.run()
    assert [row["outcome"] for row in first.by_task.values()].count("error") == 2

    second = project.run()
    assert {name for name, row in second.by_task.items() if row["cached_from"]} == {"success", "failure"}

    (project.root / "harness").write_text((project.root / "harness").read_text() + "\n")
    assert project.run().answer["cached"] == 0


def test_a_changed_entry_is_rejected_by_name_and_the_trial_runs(tmp_path: Path) -> None:
    project = make_project(tmp_path, tasks=2, variant_plan=[])
    project.run()
    one, other = entries(project)
    raw = bytearray(one.read_bytes())
    raw[len(raw) // 2] ^= 1
    one.write_bytes(raw)
    # The content of one entry at the path of another one.
    other.write_bytes(bytes(raw))

    second = project.run()

    assert second.answer["cached"] == 0
    assert len(runs_of(project)) == 4
    (problem,) = second.answer["problems"]
    assert (problem["kind"], problem["trials"]) == ("result_cache_entry_rejected", 2)
    assert ".lab/cache/results/" in problem["message"]
    assert project.json("verify", str(second.path))["verdict"] == "verified"
    assert project.run().answer["cached"] == 2


def test_cache_that_cannot_be_used_is_an_error_before_the_first_trial(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    key = project.root / ".lab" / "cache" / "results" / "key"
    key.mkdir(parents=True)

    answer = project.json("run", "--no-telemetry", code=1)

    assert answer["error"]["code"] == "result_cache_unusable"
    assert str(key) in answer["error"]["message"]
    assert runs_of(project) == []
    assert project.json("run", "--no-result-cache", "--no-telemetry")["trials"]["done"] == 4


def test_carried_state_and_continued_runs_refuse_the_cache(tmp_path: Path) -> None:
    project = make_project(tmp_path, design={"policies": {"state": "accumulate"}, "sanitization_profile": "none"})

    refused = project.lab("run", "--no-telemetry", code=64)
    assert "runtime.result_cache needs policies.state: isolate_per_trial" in refused.err
    assert "--result-cache" in project.lab("run", "--continue", "x", "--result-cache", code=64).err


@pytest.mark.full
def test_client_turns_the_cache_of_the_experiment_file_off_and_on(tmp_path: Path) -> None:
    project = make_project(tmp_path, tasks=1, variant_plan=[])
    client = LabClient(cwd=project.root, env={"RELAB_HOME": str(project.home), "TOKEN": SECRET})

    for result_cache, harness_starts in ((False, 1), (None, 2), (True, 2), (False, 3)):
        client.run(result_cache=result_cache)
        assert len(runs_of(project)) == harness_starts
