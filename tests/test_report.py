"""The tests of reports that the AgentOps seed requires, under the names that it gives."""

from __future__ import annotations

import json
from typing import Any

from relab.bootstrap import Services
from support.api.client import run_jobs, running_api
from support.lab.installation import uncited
from support.telemetry.seeds import seed_body


def test_rca_report_sufficient_evidence(services: Services) -> None:
    report = _report_on_seed_run(services, 1, "run-001-sufficient")

    assert report["category"] == "tool_schema_mismatch"
    assert report["insufficient_evidence"] is False
    assert report["insufficient_reason"] is None
    assert report["hypotheses"][0]["evidence_ids"] == ["ev_tool_call-001", "ev_guard_guard-001"]
    assert all(hypothesis["verification_steps"] for hypothesis in report["hypotheses"])
    assert report["attribution"]["step_id"] == "step-002"
    assert uncited(report) == set()
    sent = seed_body(1).decode()
    # The body has arguments as an object, while evidence quotes them as the stored JSON.
    arguments = {json.dumps(call["args_json"], sort_keys=True) for call in json.loads(sent)["tool_calls"]}
    quoted = [item["snippet"] for item in report["evidence_index"]]
    assert [text for text in quoted if text not in sent and text not in arguments] == []


def test_rca_report_insufficient_evidence(services: Services) -> None:
    report = _report_on_seed_run(services, 2, "run-002-insufficient")

    assert report["category"] == "unknown"
    assert report["insufficient_evidence"] is True
    assert report["insufficient_reason"].startswith("Limited telemetry")
    assert report["evidence_index"] == []
    assert report["hypotheses"] == []
    assert report["attribution"] is None
    assert {action["title"] for action in report["action_items"]} == {
        "Enable detailed tracing",
        "Add structured error codes",
    }


def _report_on_seed_run(services: Services, workflow: int, agent_run_id: str) -> dict[str, Any]:
    with running_api(services) as client:
        client.post("/agent-runs", content=seed_body(workflow), headers={"Content-Type": "application/json"})
        rca_run_id = client.post(f"/agent-runs/{agent_run_id}/rca-runs").json()["rca_run_id"]
        run_jobs(services)
        found = client.get(f"/agent-runs/rca-runs/{rca_run_id}").json()
    assert found["status"] == "done"
    report: dict[str, Any] = found["report"]
    return report
