"""`lab inspect`: real logs of Inspect become runs that other commands read, and Inspect reads the exported logs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rig.frameworks.environments import InstallError
from rig.inspect_logs import peer
from support.components.required import leave_out
from support.experiments.eval_logs import FIXTURES
from support.experiments.projects import Project

ENVIRONMENT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "relab-frameworks", "inspect_ai")
"""The folder of the installed Inspect, outside the project and kept for the next run."""

HARNESS = """\
if task["task_id"] == "broken":
    sys.exit(3)
event("agent_step_start", step_index=0)
event("model_call_end", call_id="m1", step_index=0, model={"identity": "gpt"}, usage={"tokens_in": 3, "tokens_out": 2},
      outcome={"status": "ok"}, ext={"output": "I search"})
event("tool_call_end", call_id="t1", step_index=0, tool={"name": "search"}, outcome={"status": "error",
      "error_type": "timeout", "message": "too slow"}, ext={"arguments": {"q": "x"}})
event("agent_step_end", step_index=0)
answer("success" if task["task_id"] == "good" else "failure", answer="42", metrics={"points": 7})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    rows = [{"task_id": name, "prompt": f"Do {name}", "target": "42"} for name in ("good", "bad", "broken")]
    made = Project.make(tmp_path_factory.mktemp("inspect"), HARNESS, tasks=rows)
    made.configure(
        design={"replications": 2},
        runtime={"harness": {"integration_level": "cli_events"}},
        baseline={"bindings": {"model": "gpt"}},
    )
    return made


def test_imported_logs_are_compared_listed_and_explained(project: Project) -> None:
    logs = [str(FIXTURES / f"{name}.eval") for name in ("right", "wrong")]

    [made] = project.json("inspect", "import", *logs)["runs"]

    run = made["run_id"]
    verdict = project.json("compare", run, "--gate", "success>=-0.9", code=2)
    assert [result["variant"] for result in verdict["results"]] == ["mockllm:wrong"]
    errors = project.json("trials", run, "--outcome", "error")["trials"]
    assert {row["error_type"] for row in errors} == {"RuntimeError"}
    refused = next(
        row
        for row in project.json("trials", run)["trials"]
        if (row["task_id"], row["variant_id"]) == ("2", "mockllm:right")
    )
    shown = project.json("trial", "show", f"{run}.{refused['trial_id']}")
    assert shown["output"]["ext"]["inspect"]["scores"]["includes"]["value"] == "C"
    report = project.json("rca", refused["agent_run_id"])
    assert "13 is refused" in json.dumps(report)
    project.lab("verify", run)
    assert project.json("inspect", "import", *logs, code=1)["error"]["code"] == "inspect_log_imported"


def test_crashed_log_is_refused_by_name_and_leaves_nothing(project: Project) -> None:
    whole = (FIXTURES / "right.eval").read_bytes()
    (project.root / "cut.eval").write_bytes(whole[:9_000])
    before = project.runs()

    refusal = project.json("inspect", "import", "cut.eval", code=64)

    assert refusal["error"]["code"] == "inspect_log_truncated"
    assert project.runs() == before


def test_exported_run_is_imported_with_the_same_outcomes(project: Project) -> None:
    run = project.run()
    [path] = project.json("inspect", "export", run.path.name, "--out", "exported")["logs"].values()

    [made] = project.json("inspect", "import", path, "--no-telemetry")["runs"]

    assert made["scorer"] == "success"
    assert made["outcomes"]["gpt"] == {"success": 2, "failure": 2, "error": 2}
    errors = project.json("trials", made["run_id"], "--outcome", "error")["trials"]
    assert {row["error_type"] for row in errors} == {"harness_process_error"}
    assert project.json("inspect", "export", run.path.name, "--out", "exported", code=1)["error"]["code"] == (
        "inspect_export_refused"
    )


@pytest.mark.full
@pytest.mark.timeout(900)
def test_inspect_reads_the_same_content_from_an_exported_log(project: Project) -> None:
    try:
        python = peer.prepare(ENVIRONMENT)
    except InstallError as error:
        leave_out("Inspect AI", f"python -m rig.inspect_logs.peer {ENVIRONMENT}", str(error))
    written = peer.write_logs(python, project.root / "written")
    [made] = project.json("inspect", "import", *map(str, written.values()), "--no-telemetry")["runs"]
    exported = project.json("inspect", "export", made["run_id"], "--out", "again")["logs"]
    run = project.run()
    [own] = project.json("inspect", "export", run.path.name, "--out", "own")["logs"].values()

    for name, path in written.items():
        before, after = peer.read_logs(python, path, project.root / exported[f"mockllm:{name}"])
        for sample in (*before["samples"], *after["samples"]):
            # A crashed tool has only a mark in Inspect's log, and no error.
            sample["calls"] = [call[:2] for call in sample["calls"] if call[1].get("x") != 99]
        assert after["samples"] == before["samples"]
        for key in ("status", "task", "model", "eval_id"):
            assert after[key] == before[key]
        assert after["scores"]["includes"]["accuracy"] == before["scores"]["includes"]["accuracy"]
        assert after["scores"]["a"] == {**before["scores"]["a"], "stderr": 0.0}
    [found] = peer.read_logs(python, project.root / own)
    good = next(sample for sample in found["samples"] if sample["id"] == "good")
    assert (good["scores"], good["input"], good["target"]) == ({"success": "C", "points": 7}, "Do good", "42")
    assert good["calls"] == [["search", {"q": "x"}, "too slow"]]
    assert found["scores"]["success"]["accuracy"] == 0.5
