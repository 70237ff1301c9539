"""The three workflows of the AgentOps seed, with the requests of its curl commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.lab.installation import BACK_ENDS, Lab, events_of, running_lab
from support.telemetry.long_runs import rate_limited_run
from support.telemetry.seeds import seed_body

STAGES = [
    ("running", "Starting RCA", 5),
    ("running", "Collecting evidence", 30),
    ("running", "Classifying failure", 55),
    ("running", "Generating report", 85),
    ("done", "RCA complete", 100),
]
LATENCY_REPORTED_MS = [*range(1, 40), 8_500, 9_000, 9_500]
"""42 latencies whose nearest-rank P95, the 40th, is 8,500 ms."""
AGAIN = {
    "call_id": "again",
    "status": "success",
    "result_summary": "shipped",
    "error_class": None,
    "error_message": None,
    "status_code": 200,
}
"""The fields of a call that succeeds where a call with the same arguments failed."""


@pytest.fixture(scope="module", params=BACK_ENDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(request, tmp_path_factory.mktemp("lab"), fresh=True) as running:
        yield running


def test_service_returns_the_seed_output(lab: Lab) -> None:
    assert lab.get("/") == {"status": "ok", "service": "agentops-smart-sre"}


def test_workflow_1_names_the_cause_and_cites_the_evidence(lab: Lab) -> None:
    assert lab.post_run(seed_body(1))["run_id"] == "run-001-sufficient"

    rca_run_id = lab.request_analysis("run-001-sufficient")
    lines = lab.stream_lines(rca_run_id)
    found = lab.analysis(rca_run_id)

    events = events_of(lines)
    assert [(event["status"], event["step"], event["pct"]) for event in events] == STAGES
    assert all(list(event) == ["status", "step", "pct", "message", "updated_at"] for event in events)
    assert all(event["message"] == event["step"] for event in events)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event["updated_at"]) for event in events)
    assert found["rca_run_id"] == rca_run_id
    assert found["run_id"] == "run-001-sufficient"
    assert found["status"] == "done"
    report = found["report"]
    assert report["category"] == "tool_schema_mismatch"
    assert report["insufficient_evidence"] is False
    _assert_holds(
        report["evidence_index"][0],
        {
            "evidence_id": "ev_tool_call-001",
            "kind": "tool_call",
            "ref_id": "call-001",
            "title": "Failed tool call: order_lookup_api",
            "snippet": "Missing required field: 'customer_id'. API schema updated to v2.0 requiring customer_id",
        },
    )
    _assert_holds(report["evidence_index"][0]["attributes"], {"error_class": "ValidationError", "status_code": 400})
    hypothesis = report["hypotheses"][0]
    _assert_holds(
        hypothesis,
        {
            "title": "Tool Schema Mismatch Root Cause",
            "evidence_ids": ["ev_tool_call-001", "ev_guard_guard-001"],
            "confidence": "high",
            "verification_steps": [
                "Review tool call logs for detailed error traces",
                "Check external service status and API documentation",
            ],
        },
    )
    assert hypothesis["description"].startswith("Tool call failed due to schema validation error")
    action = report["action_items"][0]
    _assert_holds(action, {"type": "code_change", "title": "Update tool schema validation", "priority": "high"})
    assert action["description"].startswith("Review and update tool argument schemas to match current API contract")


def test_workflow_2_has_insufficient_evidence(lab: Lab) -> None:
    lab.post_run(seed_body(2))

    report = lab.analyse("run-002-insufficient")

    _assert_holds(
        report,
        {
            "category": "unknown",
            "insufficient_evidence": True,
            "insufficient_reason": "Limited telemetry: no tool failures or specific error details captured",
            "evidence_index": [],
            "hypotheses": [],
            "action_items": [
                {
                    "type": "monitoring",
                    "title": "Enable detailed tracing",
                    "description": "Add structured logging and tracing to capture more diagnostic information.",
                    "priority": "high",
                },
                {
                    "type": "code_change",
                    "title": "Add structured error codes",
                    "description": "Implement error code taxonomy to enable better classification in future RCAs.",
                    "priority": "medium",
                },
            ],
        },
    )


def test_workflow_3_sums_up_the_last_hours(lab: Lab) -> None:
    # The runs of the other workflows are of 2024: `hours=24` leaves them out.
    for run in _recent_runs(datetime.now(UTC) - timedelta(hours=2)):
        lab.post_run(run)

    _assert_holds(
        lab.get("/metrics/overview", hours=24),
        {
            "total_runs": 42,
            "success_rate": 78.57,
            "top_failing_tools": [
                {"tool": "order_lookup_api", "count": 5},
                {"tool": "payment_api", "count": 3},
                {"tool": "inventory_check", "count": 2},
            ],
            "p95_step_latency_ms": 8500,
            "total_cost_usd": 1.234,
        },
    )
    assert lab.get("/metrics/overview", hours=1)["total_runs"] == 0


def _recent_runs(started_at: datetime) -> Iterator[dict[str, Any]]:
    """Yield 42 runs of one step: 33 succeed; 10 tool calls fail, one of them in a run that retries and succeeds."""
    tools = ["order_lookup_api"] * 5 + ["payment_api"] * 3 + ["inventory_check"] * 2
    for index, latency_ms in enumerate(LATENCY_REPORTED_MS):
        run = rate_limited_run(f"recent-{index}", steps=1, started_at=started_at)
        run["steps"][0]["latency_ms"] = latency_ms
        run["cost"] = {"total_cost_usd": 0.03 if index else 0.004}
        if index < len(tools):
            run["tool_calls"][0]["tool_name"] = tools[index]
        else:
            run["tool_calls"] = []
        if index >= len(tools) - 1:
            run |= {"status": "success", "error_type": None, "error_message": None}
            run["tool_calls"] += [{**call, **AGAIN} for call in run["tool_calls"]]
        yield run


def _assert_holds(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: found[name] for name in expected} == expected
