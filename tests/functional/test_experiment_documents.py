"""Every document of a run conforms to the schema that it names, in each sandbox and for each outcome of a trial."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.sandbox.rooms import IMAGE, INSTALL, require_docker
from support.components.required import require_program
from support.experiments.documents import check_document
from support.experiments.projects import Project, Run

HARNESS = """\
#!/bin/bash
ids=$(sed -n '/"ids": {/,/}/p' "$2" | sed '$s/,$//' | tr -d '\\n')
case $(sed -n 's/.*"does": "\\([a-z]*\\)".*/\\1/p' "$2") in
  waits) sleep 600 ;;
  exits) exit 7 ;;
  fails) outcome=failure ;;
  refused) echo '{"schema_version": "trial_output_v1"}' > "$4"; exit 0 ;;
  *) outcome=success ;;
esac
echo changed >> file
printf '{"event_type": "agent_step_start", "step_index": 0, "ts": "2026-01-01T00:00:00Z", "seq": 1, %s}\\n' "${ids%,}" \\
  > "${4%/*}/harness_events.jsonl"
printf '{"schema_version": "trial_output_v1", %s, "outcome": "%s"}' "${ids%,}" "$outcome" > "$4"
"""
DOES = ["succeeds", "fails", "waits", "refused", "exits", "succeeds"]
OF_EVERY_RUN = {
    "attestation_v1",
    "control_plane_v1",
    "evidence_record_v1",
    "hook_events_v1",
    "manifest_v1",
    "resolved_experiment_v0_3",
    "run_control_v1",
    "run_session_v1",
    "state_inventory_v1",
    "task_chain_state_v1",
    "trial_input_v1",
    "trial_output_v1",
    "trial_state_v1",
    "workspace_diff_v1",
    "workspace_patch_v1",
    "workspace_snapshot_v1",
}
OWN_OF_ANALYSIS = {"analysis_summary_v1", "analysis_comparisons_v1"}

NOT_OF_AGENTLAB = {"dataset", "journal.jsonl", "seal.jsonl", "attestation.intoto.jsonl"}


def documents(run: Run) -> list[tuple[Path, Any]]:
    """Return every JSON document of a run, except tables, the seal, the statements, and files in workspaces."""
    found = []
    for path in sorted(run.path.rglob("*.json*")):
        parts = path.relative_to(run.path).parts
        if "workspace" in parts or "tables" in parts or parts[0] in NOT_OF_AGENTLAB:
            continue
        texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        found += [(path, json.loads(text)) for text in texts]
    return found


def kind_of(path: Path, document: Any) -> str:
    if path.name == "resolved_experiment.json":
        return "resolved_experiment_v0_3"
    return "hook_events_v1" if path.name == "harness_events.jsonl" else str(document["schema_version"])


def checked(run: Run) -> Counter[str]:
    """Check every document against the schema that it names; return how many there are of each."""
    counts: Counter[str] = Counter()
    for path, document in documents(run):
        kind = kind_of(path, document)
        counts[kind] += 1
        # A rejected output of a harness is kept unchanged, so it need not conform.
        if kind in OWN_OF_ANALYSIS or (path.parent.name == "out" and path.name == "trial_output.json"):
            continue
        check_document(kind, document)
    return counts


def project_of(folder: Path, *, waits_s: float = 1, **sections: Any) -> Project:
    """Return a project whose trials have each outcome; only the trials that wait have a short time limit, `waits_s`."""
    tasks = [
        {
            "task_id": f"task_{n}",
            "task": {"does": what},
            "limits": {"trial_seconds": waits_s} if what == "waits" else {},
        }
        for n, what in enumerate(DOES)
    ]
    project = Project.make(folder, tasks=tasks)
    project.write_harness(HARNESS)
    (project.root / "file").write_text("before\n")
    runtime = {
        "harness": {"integration_level": "sdk_full"},
        "timeouts": {"grace_seconds": 0.1},
        **sections.pop("runtime", {}),
    }
    project.configure(command=["bash", "./harness"], runtime=runtime, **sections)
    return project


def need(mode: str) -> dict[str, Any]:
    if mode == "bwrap":
        require_program("bwrap", INSTALL)
    if mode == "container":
        require_docker()
        return {"mode": mode, "image": IMAGE}
    return {"mode": mode}


_LONG = pytest.mark.full


@pytest.mark.parametrize(
    ("network", "mode"),
    [
        ("none", "bwrap"),
        ("full", "container"),
        pytest.param("none", "local", marks=_LONG),
        pytest.param("none", "container", marks=_LONG),
        pytest.param("full", "local", marks=_LONG),
        pytest.param("full", "bwrap", marks=_LONG),
    ],
)
def test_every_document_matches_its_schema_for_any_trial_outcome(tmp_path: Path, mode: str, network: str) -> None:
    sandbox = need(mode)
    runtime = {"sandbox": sandbox, "network": {"mode": network}}
    run = project_of(tmp_path, runtime=runtime, variant_plan=[{"variant_id": "other", "bindings": {"x": None}}]).run()

    outcomes = Counter((row["outcome"], row["error_type"]) for row in run.rows.values())
    assert outcomes == {
        ("success", None): 4,
        ("failure", None): 2,
        ("error", "trial_timeout"): 2,
        ("error", "invalid_trial_output"): 2,
        ("error", "harness_process_error"): 2,
    }, run.answer["problems"]
    assert checked(run).keys() - OWN_OF_ANALYSIS == OF_EVERY_RUN
    records = [document for path, document in documents(run) if path.name == "evidence_records.jsonl"]
    assert {record["ext"]["sandbox"] for record in records} == {mode}
    assert {record["runtime"]["executor"] for record in records} == {
        "local_docker" if mode == "container" else "local_process"
    }
    grades = run.json("attestation.json")["grades_summary"]
    isolation = "leaky" if mode == "local" else "hermetic" if network == "none" else "bounded"
    assert grades["isolation_grade"] == isolation
    assert grades["comparability_grade"] == "valid_paired"


@pytest.mark.parametrize("policy", ["persist_per_task", "accumulate"])
def test_documents_of_carried_state_retries_and_pruned_trials_match_their_schemas(tmp_path: Path, policy: str) -> None:
    policies = {
        "state": policy,
        "retry": {"max_attempts": 2, "retry_on": ["error"]},
        "pruning": {"max_consecutive_failures": 3},
    }
    run = project_of(tmp_path, design={"policies": policies}).run()

    assert {row["outcome"] for row in run.rows.values()} == {"success", "failure", "error", "missing"}
    assert checked(run).keys() - OWN_OF_ANALYSIS == OF_EVERY_RUN
    assert run.json("attestation.json")["grades_summary"]["provenance_grade"] == "attested"


@pytest.mark.full
def test_documents_of_an_interrupted_and_of_a_continued_run_match_their_schemas(tmp_path: Path) -> None:
    project = project_of(tmp_path, waits_s=5)
    with project.start("--no-telemetry") as runner:
        run = runner.wait_done(2)
        runner.press()
        runner.says("finishing the running trials")
        runner.press()
        runner.end(130)

    # A third trial may have ended before the second press.
    assert checked(run)["evidence_record_v1"] == len(run.journal()) < 8
    attested = run.json("attestation.json")
    assert attested["ext"]["complete"] is False
    assert attested["grades_summary"]["provenance_grade"] == "partial"

    with project.start("--continue", str(run.path), "--no-telemetry") as runner:
        runner.wait_done(4)
        runner.press()
        runner.says("finishing the running trials")
        runner.press()
        runner.end(None)
    assert checked(run)["evidence_record_v1"] >= 4
