"""The tests of ingest that the AgentOps seed requires, under the names that it gives."""

from __future__ import annotations

import json

from relab.bootstrap import Services
from support.api.client import running_api
from support.telemetry.seeds import seed_body


def test_ingest_agent_run(services: Services) -> None:
    with running_api(services) as client:
        first = client.post("/agent-runs", content=seed_body(1), headers={"Content-Type": "application/json"})
        again = client.post("/agent-runs", json={**json.loads(seed_body(1)), "tool_calls": []})
        listed = client.get("/agent-runs").json()["items"]

    assert first.status_code == 201
    assert again.status_code == 200
    assert first.json()["run_id"] == again.json()["run_id"] == "run-001-sufficient"
    assert first.json()["counts"] == {"steps": 4, "tool_calls": 3, "guardrail_events": 1}
    # The second post replaces the run as a whole, so items that it lacks are deleted.
    assert [(run["run_id"], run["counts"]["tool_calls"]) for run in listed] == [("run-001-sufficient", 0)]


def test_get_agent_run(services: Services) -> None:
    sent = json.loads(seed_body(1))
    with running_api(services) as client:
        client.post("/agent-runs", json=sent)
        shown = client.get("/agent-runs/run-001-sufficient").json()
        timeline = client.get("/agent-runs/run-001-sufficient/timeline").json()
        missing = client.get("/agent-runs/run-999")

    parts = ("steps", "tool_calls", "guardrail_events")
    kept = {name: value for name, value in sent.items() if name not in parts}
    assert {name: shown[name] for name in kept} == kept
    assert shown["counts"] == {"steps": 4, "tool_calls": 3, "guardrail_events": 1}
    assert [item["ref_id"] for item in timeline["items"]] == [
        "step-001",
        *("step-002", "call-001", "call-003", "guard-001"),
        *("step-003", "call-002"),
        "step-004",
    ]
    assert missing.status_code == 404
